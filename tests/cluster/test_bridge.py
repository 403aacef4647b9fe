"""The bridge, between a real log and a real API server: a record is worth one object, whatever way it comes."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Sequence
from datetime import datetime

import httpx
import pytest
from google.protobuf.message import Message
from prometheus_client import Counter

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeEnded, SpikeEscalated, SpikeStarted, SpikeUpdated
from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell_operator.applying.reading import level_of, over_of
from groundswell_operator.applying.requests import RECORD_WRITES_S_MAX
from groundswell_operator.bridge.intake import Intake
from groundswell_operator.bridge.records import object_name, sighting
from groundswell_operator.policies import Level
from tests.cluster.asking import asking_as
from tests.cluster.bridging import bridge, committed, counts, event, new_id, publish
from tests.cluster.control_plane.api import Object, until
from tests.cluster.forms import slow
from tests.cluster.operating import BRIDGE, QUICK, WRITING, Operated, scales

RECORDS = 10_000
ENDS_EVERY = 500
MANY = 1_000
SEED = 7


@pytest.mark.promise("OPERATOR-4", "OPERATOR-5")
async def test_ten_thousand_records_doubled_and_shuffled_make_one_object_and_one_raise_though_the_bridge_is_killed(
    place: Operated, log: str
) -> None:
    await asyncio.gather(place.target("workers", 2), place.leads(place.start("one")))
    policy = await place.policy(actions=[scales("workers", 3)], cooldown=QUICK)
    identifier, before = new_id(), await committed(log)
    first = bridge(place, log, "first")
    await publish(log, [event(SpikeStarted, identifier)])
    path = f"{place.spikes}/{object_name(policy['metadata']['name'], identifier)}"

    async def made() -> bool:
        return not await place.gone(path)

    await until(made)
    await place.comes_to(path, "Holding")
    messages = _shuffled(identifier)
    await publish(log, messages)
    first.kill()
    bridge(place, log, "second")

    async def read() -> bool:
        return await committed(log) >= before + 1 + len(messages)

    await until(read, 60)
    ours = [each for each in await place.admin.items(place.spikes) if each["spec"]["spikeId"] == identifier]
    assert [(level_of(each), over_of(each) is not None) for each in ours] == [(Level.HOT, True)]
    await place.comes_to(path, "Restored", 60)
    replicas = [2, *(each["requestObject"]["spec"]["replicas"] for each in place.scalings())]
    assert [later for earlier, later in itertools.pairwise(replicas) if later > earlier] == [6], replicas
    assert replicas[-1] == 2
    assert not place.refusals()


def _shuffled(identifier: str) -> Sequence[Message]:
    chance = random.Random(SEED)
    viral, hot = Spike.VIRAL, Spike.HOT
    kinds = [(SpikeStarted, viral), (SpikeUpdated, viral), (SpikeEscalated, hot), (SpikeUpdated, hot)]
    messages = [event(kinds[number % 4][0], identifier, kinds[number % 4][1], number) for number in range(RECORDS // 2)]
    messages[::ENDS_EVERY] = [event(SpikeEnded, identifier, Spike.OVER) for _ in messages[::ENDS_EVERY]]
    doubled = [*messages, *messages]
    chance.shuffle(doubled)
    return doubled


@pytest.mark.parametrize(("named", "objects"), [(object_name, 1), (lambda *_: f"vs-{secrets.token_hex(8)}", 20)])
async def test_a_name_that_does_not_follow_from_the_spike_makes_an_object_of_each_record(
    place: Operated, named: object, objects: int
) -> None:
    await place.policy(mode="Observe", actions=[scales("web", 10)])
    counter = Counter("records", "Records.", ["outcome"], registry=None)
    body = event(SpikeStarted, new_id())
    async with asking_as(place, BRIDGE) as requests:
        for offset in range(20):
            intake = Intake(requests, place.namespace, counter, named)  # type: ignore[arg-type]
            headers = {"ce_type": body.DESCRIPTOR.full_name.encode()}
            seen = sighting(headers, body.SerializeToString(), 0, offset, time.time())
            assert seen
            await intake.take(seen, await intake.policies())
    assert len(await place.admin.items(place.spikes)) == objects


async def test_a_record_becomes_a_raise_and_the_end_of_its_spike_the_return(place: Operated, log: str) -> None:
    process = bridge(place, log)
    await asyncio.gather(place.target("workers", 2), place.leads(place.start("one")))
    policy = await place.policy(actions=[scales("workers", 3)], cooldown=QUICK)
    identifier = new_id()
    await publish(log, [event(SpikeStarted, identifier)])
    path = f"{place.spikes}/{object_name(policy['metadata']['name'], identifier)}"
    await until(lambda: place.ready("workers", 6))
    await publish(log, [event(SpikeEnded, identifier, Spike.OVER)])
    await place.comes_to(path, "Restored", 60)
    assert (await place.admin.get(place.deployment("workers")))["spec"]["replicas"] == 2
    assert not place.refusals()
    process.popen.terminate()
    assert process.popen.wait(10) == 0


@slow
async def test_a_policy_that_is_replaced_in_the_middle_of_a_spike_gets_it_with_its_next_record(
    place: Operated, log: str
) -> None:
    """As `kubectl replace --force` does it: another one of the same name, while the cluster collects what was the first one's."""
    bridge(place, log)
    await asyncio.gather(place.target("workers", 2), place.leads(place.start("one")))
    words: Object = {"actions": [scales("workers", 3)], "cooldown": QUICK}
    policy, identifier = await place.policy(**words), new_id()
    await publish(log, [event(SpikeStarted, identifier)])
    path = f"{place.spikes}/{object_name(policy['metadata']['name'], identifier)}"

    async def made() -> bool:
        return not await place.gone(path)

    await until(made, 60)
    await place.comes_to(path, "Holding", 60)
    await place.admin.delete(f"{place.policies}/default")
    await until(lambda: place.gone(f"{place.policies}/default"))
    replaced = await place.policy(**words)
    await until(lambda: place.gone(path), 60)
    await publish(log, [event(SpikeUpdated, identifier)])
    await until(made, 60)
    await place.comes_to(path, "Holding", 60)
    (owner,) = (await place.admin.get(path))["metadata"]["ownerReferences"]
    assert owner["uid"] == replaced["metadata"]["uid"]
    assert not (await place.admin.get(f"{place.policies}/default"))["status"].get("dismissed")


@pytest.mark.promise("OPERATOR-4")
@slow
async def test_an_end_that_comes_before_its_start_is_that_spikes_all_the_same_and_nothing_is_raised(
    place: Operated, log: str
) -> None:
    process = bridge(place, log)
    await asyncio.gather(place.target("workers", 2), place.leads(place.start("one")))
    policy = await place.policy(actions=[scales("workers", 3)], cooldown=QUICK)
    identifier = new_id()
    await publish(log, [event(SpikeEnded, identifier, Spike.OVER)])
    await until(lambda: counts(process, "ignored", 1), 60)
    await publish(log, [event(SpikeStarted, identifier)])
    path = f"{place.spikes}/{object_name(policy['metadata']['name'], identifier)}"

    async def made() -> bool:
        return not await place.gone(path)

    await until(made, 60)
    assert (await place.says(path, "Admitted", "OverBefore"))["status"] == "False"
    assert not place.foreign()


@pytest.mark.promise("OPERATOR-7")
@slow
async def test_of_many_spikes_in_the_log_the_biggest_get_the_places_at_eight_writes_a_second_at_most(
    place: Operated, log: str
) -> None:
    await place.target("workers", 1)
    budget = {"maxConcurrentSpikes": 3, "onExhausted": "Reject"}
    policy = await place.policy(actions=[scales("workers", 2)], budget=budget, maxRecordAge="600s")
    await place.leads(place.start("one"))
    await _known_to_the_group(place, log)
    before, identifiers = await committed(log), [new_id() for _ in range(MANY)]
    spikes = enumerate(identifiers, 10_000_000)
    await publish(log, [event(SpikeStarted, each, views=views) for views, each in spikes])
    bridge(place, log)

    async def read() -> bool:
        return await committed(log) >= before + MANY

    async def refused() -> bool:
        found = [each.get("status", {}).get("phase") for each in await place.admin.items(place.spikes)]
        return found.count("Rejected") >= MANY - 3

    await until(read, MANY)
    await until(refused, MANY)
    for each in identifiers[-3:]:
        await place.comes_to(f"{place.spikes}/{object_name(policy['metadata']['name'], each)}", "Holding", 60)
    moments = _writes_of_the_bridge(place)
    assert len(moments) >= MANY
    assert all(later - first >= 1 for first, later in zip(moments, moments[RECORD_WRITES_S_MAX + 1 :], strict=False))


async def _known_to_the_group(place: Operated, log: str) -> None:
    """Returns once an offset is committed on every partition: who joins reads all of them at its first look then."""
    before, process = await committed(log), bridge(place, log, "before")
    await publish(log, [event(SpikeStarted, new_id(), Spike.SUSPECT) for _ in range(4)])

    async def read() -> bool:
        return await committed(log) >= before + 4

    await until(read, 60)
    process.popen.terminate()
    assert await asyncio.to_thread(process.popen.wait, 10) == 0


def _writes_of_the_bridge(place: Operated) -> list[float]:
    """When the API server got each write to spikes.

    Each is let go after the answer to the one before it. Of any ten in a row the last is let go a second after the second, which is
    after the first has come: so it comes a second after the first, however long any of them is on its way.
    """
    ours = (each for each in place.plane.audit(place.namespace) if each["user"]["username"].endswith(f":{BRIDGE}"))
    writes = (each for each in ours if each["verb"] in WRITING and each["objectRef"]["resource"] == "viralspikes")
    return sorted(datetime.fromisoformat(each["requestReceivedTimestamp"]).timestamp() for each in writes)


@slow
async def test_a_suspicion_and_a_tenant_that_the_policy_does_not_name_make_no_object(place: Operated, log: str) -> None:
    policy = await place.policy(mode="Observe", match={"tenants": ["acme"]}, actions=[scales("web", 10)])
    process, (suspected, unknown, known) = bridge(place, log), (new_id() for _ in range(3))
    stranger = event(SpikeStarted, unknown, tenant="somebody else")
    await publish(log, [event(SpikeStarted, suspected, Spike.SUSPECT), stranger])
    await publish(log, [event(SpikeStarted, known)] * 4)  # one on each partition, behind the others
    path = f"{place.spikes}/{object_name(policy['metadata']['name'], known)}"

    async def made() -> bool:
        return not await place.gone(path)

    await until(made, 60)

    async def read() -> bool:
        return await counts(process, "ignored", 2) and await counts(process, "repeated", 3)

    await until(read)
    assert [each["spec"]["spikeId"] for each in await place.admin.items(place.spikes)] == [known]


@slow
async def test_a_record_that_says_nothing_of_a_spike_is_passed_over(place: Operated, log: str) -> None:
    policy = await place.policy(mode="Observe", actions=[scales("web", 10)])
    process, identifier = bridge(place, log), new_id()
    await publish(log, [event(SpikeStarted, "no id"), event(SpikeStarted, identifier)])
    path = f"{place.spikes}/{object_name(policy['metadata']['name'], identifier)}"

    async def made() -> bool:
        return not await place.gone(path)

    await until(made, 60)
    process.popen.terminate()
    assert process.popen.wait(10) == 0


@slow
async def test_a_record_that_is_too_old_is_counted_and_the_policy_says_so(place: Operated, log: str) -> None:
    await place.policy(mode="Observe", actions=[scales("web", 10)])
    process, identifier = bridge(place, log), new_id()
    await publish(log, [event(SpikeStarted, identifier)], timestamp_ms=int((time.time() - 600) * 1000))

    async def said() -> Object:
        conditions = (await place.admin.get(f"{place.policies}/default")).get("status", {}).get("conditions", [])
        found: list[Object] = [each for each in conditions if each["reason"] == "OldRecordsSkipped"]
        return found[0] if found else {}

    condition = await until(said, 60)
    assert (condition["type"], condition["status"]) == ("SourceConnected", "True")
    assert not [each for each in await place.admin.items(place.spikes) if each["spec"]["spikeId"] == identifier]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as asking:
        figures = (await asking.get("/metrics")).text
    assert 'groundswell_bridge_records_total{outcome="too_old"} 1.0' in figures
    process.popen.terminate()
    assert process.popen.wait(10) == 0
