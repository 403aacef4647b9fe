"""Which spikes are asked for at each look, against a server on loopback (`serving`) that tells them apart as an API server does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from groundswell_operator.applying.errors import Refused, RequestFailed
from groundswell_operator.applying.listing import PAGE, WHOLE_S, Listing
from groundswell_operator.applying.reading import Paths
from groundswell_operator.applying.writing import Cluster
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Progress, Spike
from groundswell_operator.saga.steps import Free, Record, Remove, Step
from tests.operators.serving import Answer, Asked, Server, answering
from tests.operators.test_odd_objects import SPIKE, made

PATHS = Paths("here")


class Kept:
    """The spikes of a namespace, by their phases."""

    def __init__(self, **phases: str) -> None:
        self.phases = phases
        self.selects = True
        self.refuses = 0
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens before an answer is heard."""
        self.asked: list[str] = []
        """The names in each answer, and `…` where more are to come."""

    def answer(self, asked: Asked) -> Answer:
        name = asked.path.rpartition("/")[2]
        if "/leases/" in asked.path or name == "scaledobjects":
            return 404, {"message": "not found"}
        if asked.method != "GET":
            return (self.refuses, {"message": "as told"}) if self.refuses else (200, self._object("over"))
        return self._listed(asked) if name == "viralspikes" else (200, {"items": [], "metadata": {}})

    def _listed(self, asked: Asked) -> Answer:
        selected = asked.query.get("fieldSelector", "")
        if selected and not self.selects:
            return 400, {"message": "field label not supported: status.phase"}
        left_out = {each.removeprefix("status.phase!=") for each in selected.split(",")}
        names = [name for name, phase in self.phases.items() if phase not in left_out or not phase]
        first, most = int(asked.query.get("continue", "0")), int(asked.query["limit"])
        page, more = names[first : first + most], len(names) > first + most
        self.asked.append(" ".join(page) + (" …" if more else ""))
        self.meanwhile()
        metadata = {"continue": str(first + most)} if more else {}
        return 200, {"items": [self._object(each) for each in page], "metadata": metadata}

    def _object(self, name: str) -> dict[str, Any]:
        status = {"phase": self.phases[name]} if self.phases.get(name) else {}
        return made(name, spec=SPIKE, status=status)


@asynccontextmanager
async def listing(kept: Kept, now_s: list[float]) -> AsyncIterator[Listing]:
    async with answering(kept.answer) as (_, requests):
        yield Listing(requests, PATHS.spikes, lambda: now_s[-1])


async def test_those_that_are_over_are_asked_for_once_in_half_a_minute_and_the_others_each_time() -> None:
    kept, now_s = Kept(over="Restored", refused="Rejected", lives="Holding", new=""), [0.0]
    async with listing(kept, now_s) as found:
        for at_s in (0.0, 1.0, WHOLE_S - 1, WHOLE_S, WHOLE_S + 1):
            now_s.append(at_s)
            assert (await found.listed()).spikes.keys() == kept.phases.keys()
        kept.phases["newer"] = ""
        assert (await found.listed()).spikes.keys() == kept.phases.keys()
    whole, rest = "over refused lives new", "lives new"
    assert kept.asked == [whole, rest, rest, whole, rest, f"{rest} newer"]


@pytest.mark.parametrize("becomes", ["Restored", "Rejected", None])
async def test_once_a_spike_is_over_or_gone_all_are_asked_for_at_once(becomes: str | None) -> None:
    kept, now_s = Kept(over="Restored", lives="Holding"), [0.0]
    async with listing(kept, now_s) as found:
        await found.listed()
        del kept.phases["lives"]
        if becomes:
            kept.phases["lives"] = becomes
        assert (await found.listed()).spikes.keys() == kept.phases.keys()
        asked = len(kept.asked)
        await found.listed()
        assert len(kept.asked) == asked + 1


async def test_a_spike_that_lives_again_is_known_as_that() -> None:
    """A person has patched its phase: it is among those that are over, and among the others."""
    kept, now_s = Kept(over="Restored"), [0.0]
    async with listing(kept, now_s) as found:
        await found.listed()
        kept.phases["over"] = "Holding"
        assert (await found.listed()).spikes["over"].progress.phase.value == "Holding"


async def test_an_api_server_that_cannot_tell_them_apart_is_asked_for_all_and_not_again_for_some() -> None:
    kept, now_s = Kept(over="Restored", lives="Holding"), [0.0]
    kept.selects = False
    async with answering(kept.answer) as (server, requests):
        found = Listing(requests, PATHS.spikes, lambda: now_s[-1])
        for _ in range(4):
            assert (await found.listed()).spikes.keys() == kept.phases.keys()
        assert len([each for each in server.asked if "fieldSelector" in each.query]) == 1


async def test_many_come_in_pages_and_are_all_known() -> None:
    kept = Kept(**{f"s{number:04}": "Restored" if number % 3 else "" for number in range(2 * PAGE)})
    async with listing(kept, [0.0]) as found:
        for _ in range(2):
            assert (await found.listed()).spikes.keys() == kept.phases.keys()
    assert [each.endswith("…") for each in kept.asked] == [True, False, False]


def _steps(spike: Spike) -> list[Step]:
    return [Free(spike), Remove(spike), Record(spike, Progress(spike.progress.phase))]


@pytest.mark.parametrize("refuses", [0, 403, 409])
@pytest.mark.parametrize("kind", [Free, Remove, Record])
async def test_after_a_step_on_one_that_is_over_all_are_asked_for(kind: type[Step], refuses: int) -> None:
    """Its version is another one by now, or was not what is remembered."""
    kept = Kept(over="Restored", lives="Holding")
    async with answering(kept.answer) as (server, requests):
        cluster = Cluster(requests, "here")
        state = await _read_twice(cluster)
        kept.refuses = refuses
        (step,) = [each for each in _steps(state.spikes["over"]) if isinstance(each, kind)]
        try:
            await cluster.perform(step, state, 0.0)
        except RequestFailed:
            assert refuses
        await cluster.read()
    assert _selected(server) == [False, True, False]


async def test_a_step_on_one_that_lives_changes_nothing_of_what_is_known_of_the_others() -> None:
    kept = Kept(over="Restored", lives="Holding")
    async with answering(kept.answer) as (server, requests):
        cluster = Cluster(requests, "here")
        state = await _read_twice(cluster)
        lives = state.spikes["lives"]
        await cluster.perform(Record(lives, lives.progress), state, 0.0)
        await cluster.read()
    assert _selected(server) == [False, True, True]


async def test_what_was_asked_for_before_a_step_landed_is_not_remembered() -> None:
    """Otherwise a notice that was recorded meanwhile would be sent again."""
    kept = Kept(over="Restored", lives="Holding")
    async with answering(kept.answer) as (server, requests):
        found = Listing(requests, PATHS.spikes)
        kept.meanwhile = found.forget
        for _ in range(3):
            await found.listed()
    assert _selected(server) == [False, False, False]


async def test_what_is_refused_otherwise_is_told() -> None:
    async with answering(lambda _: (403, {"message": "no"})) as (_, requests):
        with pytest.raises(Refused, match="no"):
            await Listing(requests, PATHS.spikes).listed()


async def _read_twice(cluster: Cluster) -> Namespace:
    await cluster.read()
    return await cluster.read()


def _selected(server: Server) -> list[bool]:
    """Of each look, whether only some were asked for."""
    return ["fieldSelector" in each.query for each in server.asked if each.path == PATHS.spikes]
