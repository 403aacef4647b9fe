"""Ten times the pods ahead of a spike: nothing, an autoscaler at its defaults, and the operator, on the same trace and simulated nodes.

A real control plane runs with every rate as delivered (`default`), and kwok says that a pod is ready a second after it was bound. The
operator and its bridge are real processes under their Roles, and hear of a spike by a record in a real broker. Times of single raises
count from the record's own time: to the first write by the API server's audit log, to the last ready pod by what the Deployment says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from benchmarks.result import Result
from benchmarks.scaling import trace
from benchmarks.scaling.playing import played
from benchmarks.scaling.raises import Raised, publish, raised
from benchmarks.scaling.stage import (
    WEB,
    WEB_TIMES,
    Stage,
    broker,
    control_plane,
    need_programs,
    set_up,
    set_web,
    start_operator,
)
from benchmarks.scaling.trace import RECORD_S, Seen, quantile, ready_after_s
from tests.cluster.control_plane.api import Api
from tests.cluster.control_plane.handle import ControlPlane

RUNS, RUNS_OF_90 = 90, 10
"""With the one to 300 there are 101: of fewer than a hundred the 99th percentile would be the slowest one."""
BIG, BIGGER = 9, 30
WRITE_S_MAX = 0.100
READY_S_MAX: Mapping[int, float] = {WEB: 4.0, BIG: 7.0}
"""Seconds from the record to ten times as many pods, by the pods before."""
UNMET_MAX = 1 / 8
"""Of the autoscaler's."""
REVERSALS_MAX = 1

Raises = Mapping[int, Sequence[Raised]]
"""Single raises by the pods before."""
Bounds = Mapping[str, tuple[float, float]]
"""What was measured and the most that it may be."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was measured."""

    seen: Mapping[str, Seen]
    """Of the trace, by who answered it: nothing, autoscaler, operator."""
    raises: Raises
    """At the controller manager's own rate."""
    hastened: Raised
    """From 30 to 300 at ten times that rate."""


async def run(runs: int = RUNS, runs_of_90: int = RUNS_OF_90) -> Result:
    """Unmet demand beside the autoscaler's; raises `Skipped` where the cluster's programs are not built."""
    need_programs()
    load_before = os.getloadavg()[0]
    async with broker() as (kafka, producer):
        async with control_plane("default") as (plane, admin):
            seen = dict(await _without_operator(plane, admin))
            async with set_up(plane, admin) as stage:
                await start_operator(stage, kafka)
                raises = await _all_raises(stage, producer, runs, runs_of_90)
                seen["operator"] = await _with_operator(stage, producer)
        async with control_plane("raised") as (plane, admin), set_up(plane, admin) as stage:
            await start_operator(stage, kafka)
            hastened = (await _raises(stage, producer, BIGGER, 1))[0]
    return _result(Measured(seen, raises, hastened), [load_before, os.getloadavg()[0]])


async def raises_at_the_default_rate(runs: int = RUNS, runs_of_90: int = RUNS_OF_90) -> Raises:
    """Single raises by the pods before."""
    async with broker() as (kafka, producer), control_plane("default") as (plane, admin), set_up(plane, admin) as stage:
        await start_operator(stage, kafka)
        return await _all_raises(stage, producer, runs, runs_of_90)


async def _all_raises(stage: Stage, producer: AIOKafkaProducer, runs: int, runs_of_90: int) -> Raises:
    return {
        web: await _raises(stage, producer, web, number)
        for web, number in ((WEB, runs), (BIG, runs_of_90), (BIGGER, 1))
    }


async def _without_operator(plane: ControlPlane, admin: Api) -> Mapping[str, Seen]:
    async with set_up(plane, admin) as stage:
        await stage.place.target("nothing", WEB)
        seen = await played(stage, ["nothing", "web"])
    return {"nothing": seen["nothing"], "autoscaler": seen["web"]}


async def _with_operator(stage: Stage, producer: AIOKafkaProducer) -> Seen:
    await set_web(stage, WEB)

    async def announce() -> None:
        await publish(producer)

    return (await played(stage, ["web"], announce))["web"]


async def _raises(stage: Stage, producer: AIOKafkaProducer, web: int, number: int) -> Sequence[Raised]:
    await set_web(stage, web, forgets=True)
    return [await raised(stage, producer, web) for _ in range(number)]


def _result(found: Measured, load: Sequence[float]) -> Result:
    unmet = {name: trace.unmet(seen) for name, seen in found.seen.items()}
    bounds = _bounds(found)
    return Result(
        name="scale",
        value=unmet["operator"],
        unit="pod-seconds of unmet demand",
        reference="an autoscaler at its defaults on the same trace",
        reference_value=unmet["autoscaler"],
        bound=UNMET_MAX,
        at_most=True,
        others_hold=all(value <= most for value, most in bounds.values()),
        details={
            "bounds": {name: {"value": round(value, 3), "at_most": most} for name, (value, most) in bounds.items()},
            "trace": {name: _described(seen) for name, seen in found.seen.items()},
            "raises": {f"{web} to {web * WEB_TIMES}": _spread(each) for web, each in found.raises.items()},
            "30 to 300 at ten times the controller manager's rate": _spread([found.hastened]),
            "load_average": [round(each, 2) for each in load],
        },
    )


def bounds_of(raises: Raises) -> Bounds:
    """From the record to the first write, and to the last ready pod."""
    written = [each.written_s for several in raises.values() for each in several]
    ready = {
        f"record to {web * WEB_TIMES} ready, p95 of {len(raises[web])}, s": (
            quantile([each.ready_s for each in raises[web]], 0.95),
            most,
        )
        for web, most in READY_S_MAX.items()
    }
    return {f"record to first floor, p99 of {len(written)}, s": (quantile(written, 0.99), WRITE_S_MAX), **ready}


def _bounds(found: Measured) -> Bounds:
    seen = found.seen["operator"]
    reached_s = ready_after_s(seen, WEB * WEB_TIMES)
    after_record_s = (trace.PLAYED_S if reached_s is None else reached_s) - RECORD_S
    return {
        **bounds_of(found.raises),
        "record to 30 ready on the trace, s": (after_record_s, READY_S_MAX[WEB]),
        "reversals on the trace": (trace.reversals(seen), REVERSALS_MAX),
    }


def _described(seen: Seen) -> Mapping[str, object]:
    reached_s = ready_after_s(seen, WEB * WEB_TIMES)
    return {
        "ten_times_ready_after_s": reached_s and round(reached_s, 2),
        "unmet_pod_seconds": round(trace.unmet(seen), 1),
        "reversals": trace.reversals(seen),
        "replica_minutes": round(trace.replica_minutes(seen), 2),
        "seen": trace.told(seen),
    }


def _spread(raises: Sequence[Raised]) -> Mapping[str, object]:
    """Seconds from the record."""
    kinds = {
        "object_asked_for_s": [each.created_s for each in raises],
        "first_floor_s": [each.written_s for each in raises],
        "readers_ready_s": [each.readers_s for each in raises],
        "web_ready_s": [each.ready_s for each in raises],
    }
    quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {"runs": len(raises)} | {
        kind: {name: round(quantile(values, part), 3) for name, part in quantiles.items()}
        for kind, values in kinds.items()
    }
