"""What the tests of raises have in common: readers and web, and operators that die after each single step."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime

from tests.cluster.control_plane.api import Object, until
from tests.cluster.operating import Operated, Process

WEB = {"minReplicas": 3, "maxReplicas": 20}
READERS = {"minReplicas": 4, "maxReplicas": 20}
LIVES_MAX = 40


async def with_targets(place: Operated, reader_delay: str = "1s") -> None:
    await asyncio.gather(
        place.target("readers", 4, scaler=READERS, delay=reader_delay), place.target("web", 3, scaler=WEB)
    )


async def led_with_targets(place: Operated, reader_delay: str = "1s") -> None:
    """The same, while an operator comes to lead: both take their time."""
    await asyncio.gather(with_targets(place, reader_delay), place.leads(place.start("one")))


def raised_once(place: Operated, *targets: str) -> None:
    """The floor of each was written once, and its scale once afterwards, unless its autoscaler was quicker."""
    written = place.foreign()
    for name in targets:
        ours = [each.partition("/")[0] for each in written if each.endswith(f"/{name}")]
        assert ours in (["horizontalpodautoscalers", "deployments"], ["horizontalpodautoscalers"])


async def lives_until(place: Operated, path: str, phase: str) -> int:
    """Starts operators that die after one step each until the spike is in a phase, or gone; how many it took."""
    for life in range(1, LIVES_MAX):
        process = place.start(f"life-{phase}-{life}", "tests.cluster.dying", environment={"DIES_AFTER": "1"})
        try:
            await until(lambda: _ended(place, process, path, phase))  # noqa: B023  # it is awaited within the turn
        except TimeoutError as error:
            raise AssertionError(f"{await place.admin.get(path)} and {process.log.read_text()[-3_000:]}") from error
        process.kill()
        if await place.leader():
            await place.forget_leader()
        if await _reached(place, path, phase):
            return life
    raise AssertionError(process.log.read_text())


def each_died_after_a_step(place: Operated, lives: int) -> None:
    """What is done in single steps is done by as many operators: each of the `lives` wrote once, but for two that may have found the phase
    reached. How many there are depends on the autoscalers, who may be quicker, and on how pods become ready."""
    told = {"events", "leases"}
    made = Counter(each["userAgent"] for each in place.writes("life-") if each["objectRef"]["resource"] not in told)
    assert set(made.values()) == {1}
    assert len(made) >= lives - 2


async def _ended(place: Operated, process: Process, path: str, phase: str) -> bool:
    return process.popen.poll() is not None or await _reached(place, path, phase)


async def _reached(place: Operated, path: str, phase: str) -> bool:
    return await place.phase(path) == phase if phase else await place.gone(path)


def looks_s(place: Operated) -> list[float]:
    """When the operator that leads asked for the namespace's policies: the first time before its first write was sent."""
    return [
        moment_s(each)
        for each in place.plane.audit(place.namespace)
        if each["requestURI"] == place.policies and each.get("userAgent") == "groundswell-operator/one"
    ]


def moment_s(event: Object) -> float:
    """When the API server got a request."""
    return datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
