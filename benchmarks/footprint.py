"""What two operators and a bridge take at rest: memory and requests, with a hundred policies and a thousand spikes that are over.

One spike is played to its end, and the others get what the operator wrote into it. Processes that start beside all of them are watched
for two calm passes; what they ask of the API server is counted in its audit log. Then a few more spikes come, one after another.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import psutil

from benchmarks.result import Result
from benchmarks.scaling.stage import Stage, broker, control_plane, need_programs, set_up, start_operator
from groundswell_operator.bridge.sources import CONDITION
from groundswell_operator.reconciling import IDLE_S
from tests.cluster.control_plane.api import Object, until
from tests.cluster.operating import ACCOUNT, BRIDGE, QUICK, Process, scales, spike

POLICIES, SPIKES = 100, 1_000
MAKERS = 16
REST_S, LOOK_S = 2 * IDLE_S, 0.5
SETTLED_S = 5.0
RAISES, CALM_S = 9, 2.0
"""Between two raises the operator has its ten writes a second again: a raise and its return are a dozen."""
MEMORY_MB_MAX, REQUESTS_S_MAX, FLOOR_S_MAX = 150.0, 1.0, 0.1
OWN, SAGA_S_MAX, TOLD_S_MAX = "own", 60.0, 180.0
OVER = {"status": {"over": "2026-01-01T00:00:00Z"}}


async def run() -> Result:
    """The most memory that the operator takes; the requests of the bridge and of both operators are bounded besides, and the time from a
    spike to the first write for it. Raises `Skipped`."""
    need_programs()
    async with broker() as (kafka, _), control_plane("default") as (plane, admin), set_up(plane, admin) as stage:
        bridge, operator = await start_operator(stage, kafka)
        small_mb = _memory_mb(operator)
        ended = await _played(stage)
        for each in (bridge, operator):
            each.kill()
        await stage.place.forget_leader()
        await _fill(stage, ended)
        bridge, operator = await start_operator(stage, kafka)
        await stage.place.waits(stage.place.start("second"))  # as the chart has it
        await until(lambda: _all_told(stage), TOLD_S_MAX)
        await asyncio.sleep(SETTLED_S)
        stage.audit.skip()
        memory_mb = await _most_memory_mb(operator)
        asked = stage.audit.more(lambda each: _who(stage, each) in (ACCOUNT, BRIDGE))
        bridge_mb = _memory_mb(bridge)
        written_s = statistics.median([await _first_floor_s(stage, number) for number in range(RAISES)])
    return Result(
        name="operator",
        value=memory_mb,
        unit="MB",
        reference="its memory with one policy and no spike",
        reference_value=small_mb,
        bound=MEMORY_MB_MAX,
        bound_on_value=True,
        at_most=True,
        others_hold=len(asked) / REST_S <= REQUESTS_S_MAX and written_s <= FLOOR_S_MAX,
        details={
            "policies": POLICIES,
            "finished_spikes": SPIKES,
            "bridge_mb": round(bridge_mb, 1),
            "requests_s": round(len(asked) / REST_S, 3),
            "requests_s_max": REQUESTS_S_MAX,
            "requests_by_kind": _by_kind(stage, asked),
            "seconds": REST_S,
            "object_to_first_floor_beside_them_s": round(written_s, 3),
            "object_to_first_floor_beside_them_s_max": FLOOR_S_MAX,
        },
    )


async def _all_told(stage: Stage) -> bool:
    """Whether every policy has its status, written at the paces of operator and bridge."""
    policies = [each.get("status", {}) for each in await stage.admin.items(stage.place.policies)]
    heard = [any(known["type"] == CONDITION for known in each.get("conditions", ())) for each in policies]
    return all(heard) and all("phase" in each for each in policies)


def _who(stage: Stage, event: Object) -> str:
    """The account of this namespace that asked; empty when it was another."""
    prefix = f"system:serviceaccount:{stage.place.namespace}:"
    user = str(event["user"]["username"])
    return user.removeprefix(prefix) if user.startswith(prefix) else ""


def _by_kind(stage: Stage, asked: Sequence[Object]) -> Mapping[str, int]:
    return dict(
        sorted(Counter(f"{_who(stage, each)} {each['verb']} {each['objectRef']['resource']}" for each in asked).items())
    )


def _memory_mb(process: Process) -> float:
    return float(psutil.Process(process.popen.pid).memory_info().rss / 2**20)


async def _most_memory_mb(process: Process) -> float:
    most, ends_s = 0.0, time.monotonic() + REST_S
    while time.monotonic() < ends_s:
        most = max(most, _memory_mb(process))
        await asyncio.sleep(LOOK_S)
    return most


async def _played(stage: Stage) -> Object:
    """The status of a spike that was raised for and given back, under a policy of its own."""
    policy = await stage.place.policy(OWN, actions=[scales("web", 2)], cooldown=QUICK, match={"kinds": ["none-else"]})
    path = await _told(stage, "vs-first", policy)
    await stage.place.comes_to(path, "Holding", SAGA_S_MAX)
    await stage.admin.patch(f"{path}/status", OVER)
    return {"status": await stage.place.comes_to(path, "Restored", SAGA_S_MAX)}


async def _fill(stage: Stage, ended: Object) -> None:
    """Makes the other policies, and spikes that ended like that one."""
    place = stage.place
    policy = await stage.admin.get(f"{place.policies}/{OWN}")
    for number in range(POLICIES - 2):
        await place.policy(f"policy-{number}", actions=[scales("web", 2)], match={"kinds": ["none-else"]})
    numbers = iter(range(SPIKES - 1))

    async def make() -> None:
        for number in numbers:
            path = await _told(stage, f"vs-{number}", policy)
            await stage.admin.patch(f"{path}/status", ended)

    await asyncio.gather(*(make() for _ in range(MAKERS)))


async def _told(stage: Stage, name: str, policy: Object) -> str:
    """Makes a spike of a kind that only its own policy is for; its path."""
    made = spike(name, policy)
    made["spec"]["kind"] = policy["spec"]["match"]["kinds"][0]
    await stage.admin.create(stage.place.spikes, made)
    return f"{stage.place.spikes}/{name}"


async def _first_floor_s(stage: Stage, number: int) -> float:
    """From the creation of one more spike to the first floor that is asked for; it was calm before, and it is given back."""
    await asyncio.sleep(CALM_S)
    policy = await stage.admin.get(f"{stage.place.policies}/{OWN}")
    stage.audit.skip()
    began_s = time.time()
    path = await _told(stage, f"vs-last-{number}", policy)
    floors: list[Object] = []

    async def written() -> bool:
        floors.extend(
            stage.audit.more(
                lambda each: (
                    _who(stage, each) == ACCOUNT
                    and each["verb"] == "patch"
                    and each["objectRef"]["resource"] == "horizontalpodautoscalers"
                )
            )
        )
        return bool(floors)

    await until(written)
    await stage.admin.delete(path)
    await until(lambda: stage.place.gone(path), SAGA_S_MAX)
    return datetime.fromisoformat(floors[0]["requestReceivedTimestamp"]).timestamp() - began_s
