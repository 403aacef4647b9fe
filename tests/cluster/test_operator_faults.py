"""The operator while the API server dies, forgets, is silent or refuses, and while two contend: one baseline, one raise, all given back.

Operators that end are started again, as a kubelet does. What was written is read in the API server's own audit log.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psutil
import pytest

from groundswell.engines import ports
from groundswell_operator.applying import statuses
from tests.cluster import storm
from tests.cluster.control_plane.api import Object, until
from tests.cluster.forms import form, slow
from tests.cluster.operating import ACCOUNT, Operated, Process, kubeconfig, scales
from tests.cluster.raising import with_targets
from tests.cluster.storm import CONFLICTING, FAILING, LOST_ANSWER, TOO_MANY, Fault

TARGETS = ("readers", "web")
BASELINES = {"readers": {"replicas": 4, "hpaMin": 4, "hpaMax": 20}, "web": {"replicas": 3, "hpaMin": 3, "hpaMax": 20}}
SILENT_S = 60.0
"""Longer than the ten seconds after which a leader that cannot renew its Lease writes no more."""
CONTENDING_S = 30.0
HITS = 30
HIT_PART = 0.3
CONFLICTS, CONFLICTS_PART = 10, 0.5
"""Of a storm of conflicts alone: a raise and its return are thirty writes or so, where reads are hundreds."""
SEED = 11
SETTLES_S_MAX = form(60.0, 180.0)
"""Once the API server answers again: the controller manager, the scheduler and kwok have to find that out too."""
STARTED_AGAIN_S = 0.1
CLOCK_S_MAX = 3.0
"""By which a clock may be off that goes by what answers say, to the second."""


@dataclass
class Kept:
    """An operator that is started again whenever it ends."""

    process: Process
    lives: int = 1


@asynccontextmanager
async def kept(
    place: Operated, identity: str, *words: str, account: str = ACCOUNT, first: Mapping[str, str] | None = None
) -> AsyncIterator[Kept]:
    """`first` is the environment of its first life only."""
    made = Kept(place.start(identity, *words, account=account, environment=first))

    async def keep() -> None:
        while True:
            if made.process.popen.poll() is not None:
                made.process, made.lives = place.start(identity, account=account), made.lives + 1
            await asyncio.sleep(STARTED_AGAIN_S)

    keeping = asyncio.create_task(keep())
    try:
        yield made
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def spike_on(place: Operated) -> str:
    """A spike that raises readers and web; its path."""
    policy = await place.policy(actions=[scales("readers", 5), scales("web", 10)])
    return await place.spike("vs-a", policy)


async def stops_before_its_second_write(operator: Kept) -> None:
    async def stopped() -> bool:
        return psutil.Process(operator.process.popen.pid).status() == psutil.STATUS_STOPPED

    await until(stopped)


async def leads(place: Operated, operator: Kept) -> bool:
    return await place.leader() == operator.process.identity


async def held(place: Operated, path: str) -> Object:
    """The spike's status once all is raised, from what was there before, in one write of each floor."""
    status = await place.comes_to(path, "Holding", SETTLES_S_MAX)
    baselines = {each["name"]: each["baseline"] for each in status["targets"]}
    assert {name: {key: each[key] for key in BASELINES[name]} for name, each in baselines.items()} == BASELINES
    assert written(place, "horizontalpodautoscalers") == dict.fromkeys(TARGETS, 1)
    return status


async def given_back(place: Operated, path: str) -> None:
    """Deletes the spike, and everything is as it was, by one more write of each floor."""
    await place.admin.delete(path)
    await until(lambda: place.gone(path), SETTLES_S_MAX)
    assert [await place.bounds(name) for name in TARGETS] == [(4, 20), (3, 20)]
    assert written(place, "horizontalpodautoscalers") == dict.fromkeys(TARGETS, 2)
    assert not scaled_again(place)
    assert not place.refusals()


def scaled_again(place: Operated) -> list[str]:
    """The Deployments that operators have scaled once more, though what they had set was not taken back meanwhile.

    An autoscaler does that when it still knows the ceiling of before, as after the death of an API server: setting it again is right.
    """
    again, set_to = [], dict[str, int]()
    for each in place.scalings():
        name, replicas = each["objectRef"]["name"], each["requestObject"]["spec"]["replicas"]
        if each["user"]["username"].endswith(f":{ACCOUNT}"):
            again += [name] if name in set_to else []
            set_to[name] = replicas
        elif replicas < set_to.get(name, replicas):
            del set_to[name]
    return again


def written(place: Operated, resource: str) -> dict[str, int]:
    """How often operators have written each of a resource."""
    found = Counter(name for kind, _, name in (each.partition("/") for each in place.foreign()) if kind == resource)
    return dict(found)


@pytest.mark.promise("OPERATOR-5")
async def test_an_api_server_that_dies_in_the_middle_of_a_raise_costs_neither_baseline_nor_return(
    place: Operated,
) -> None:
    await with_targets(place)
    async with kept(place, "one", "tests.cluster.dying", first={"STOPS_BEFORE_FOREIGN": "2"}) as operator:
        await place.leads(operator.process)
        path = await spike_on(place)
        await stops_before_its_second_write(operator)
        await place.plane.restart_api_server()
        operator.process.thaw()
        await held(place, path)
        await given_back(place, path)


@pytest.mark.alone
async def test_watches_that_etcd_has_forgotten_the_versions_of_are_begun_anew(place: Operated) -> None:
    await with_targets(place)
    async with kept(place, "one") as operator:
        await place.leads(operator.process)
        operator.process.freeze()
        path = await spike_on(place)
        await place.plane.compact()
        await place.plane.restart_api_server()
        operator.process.thaw()
        await held(place, path)
        await given_back(place, path)
        began_s = time.monotonic()
        again = await place.spike("vs-b", await place.admin.get(f"{place.policies}/default"))
        await until(lambda: place.phase(again))
        assert time.monotonic() - began_s < 5  # by the watch: a pass that nothing woke comes after a minute


@pytest.mark.promise("OPERATOR-5")
@slow
async def test_an_api_server_that_is_silent_in_the_middle_of_a_raise_costs_neither_baseline_nor_return(
    place: Operated,
) -> None:
    await with_targets(place)
    async with kept(place, "one", "tests.cluster.dying", first={"STOPS_BEFORE_FOREIGN": "2"}) as operator:
        await place.leads(operator.process)
        path = await spike_on(place)
        await stops_before_its_second_write(operator)
        silent = place.plane.api_server()
        silent.suspend()
        try:
            operator.process.thaw()  # and there it waits for an answer, with a write on its way
            await asyncio.sleep(SILENT_S)  # the fault itself
        finally:
            silent.resume()
        await held(place, path)
        await given_back(place, path)
        assert operator.lives > 1  # who cannot renew the Lease for ten seconds ends


@pytest.mark.promise("OPERATOR-5")
@pytest.mark.parametrize(
    "faults",
    [[TOO_MANY, FAILING, LOST_ANSWER, CONFLICTING], [TOO_MANY], [FAILING], [LOST_ANSWER], [CONFLICTING]],
)
@slow
async def test_a_storm_of_refusals_and_lost_answers_makes_one_raise_and_one_return(
    place: Operated, faults: list[Fault]
) -> None:
    await with_targets(place)
    plane, port = place.plane, ports.draw(1)[0]
    authority = plane.folder / "keys" / "authority.crt"
    hits, part = (CONFLICTS, CONFLICTS_PART) if all(each.writes_only for each in faults) else (HITS, HIT_PART)
    async with storm.raging(plane.address, authority, place.folder, port, SEED, part) as rages:
        await through(place, f"https://127.0.0.1:{port}")
        async with kept(place, "one", account="through-the-storm") as operator:
            await place.leads(operator.process)
            rages.comes(*drawn(faults))
            path = await spike_on(place)
            await held(place, path)
            rages.comes(*drawn(faults))
            await given_back(place, path)
            assert len(rages.spoiled) >= hits


async def through(place: Operated, address: str) -> None:
    """An account's kubeconfig that leads through the storm."""
    user = json.loads(place.kubeconfigs[ACCOUNT].read_text())["users"][0]["user"]
    file = place.folder / "through-the-storm.kubeconfig"
    authority = place.folder / "storm-authority.crt"
    made = kubeconfig(file, address, authority, place.namespace, user["token"])
    place.kubeconfigs = {**place.kubeconfigs, "through-the-storm": made}


def drawn(faults: list[Fault]) -> list[Fault]:
    """As many as a storm has, in an order that follows from the seed."""
    return random.Random(SEED).choices(faults, k=HITS)


@pytest.mark.parametrize("off_s", ["300", "-300"])
@slow
async def test_a_clock_that_is_five_minutes_off_costs_neither_baseline_nor_return(place: Operated, off_s: str) -> None:
    """And what is said of a spike is said by the API server's clock, which stamps the objects."""
    await with_targets(place)
    async with kept(place, "one", "tests.cluster.dying", first={"CLOCK_OFF_S": off_s}) as operator:
        await place.leads(operator.process)
        path = await spike_on(place)
        status = await held(place, path)
        made = (await place.admin.get(path))["metadata"]["creationTimestamp"]
        decided_s = statuses.seconds_of(status["timeline"]["decided"])
        assert 0 <= decided_s - statuses.seconds_of(made) + CLOCK_S_MAX < SETTLES_S_MAX
        await given_back(place, path)


@pytest.mark.alone
@pytest.mark.promise("OPERATOR-9")
@slow
async def test_two_operators_that_are_stopped_in_turns_make_one_raise_and_one_return(place: Operated) -> None:
    await with_targets(place)
    async with kept(place, "one") as one, kept(place, "two") as two:
        await until(place.leader)
        path = await spike_on(place)
        await held(place, path)
        ends_s, turns = time.monotonic() + CONTENDING_S, 0
        while time.monotonic() < ends_s:
            leader, other = (one, two) if await place.leader() == "one" else (two, one)
            stopped = leader.process
            stopped.freeze()
            await until(lambda: leads(place, other), SETTLES_S_MAX)  # noqa: B023  # awaited within the turn
            stopped.thaw()
            turns += 1
        await held(place, path)
        await given_back(place, path)

        async def ended() -> bool:
            return one.lives + two.lives >= 2 + turns

        await until(ended)  # who was stopped finds that it has lost the Lease
