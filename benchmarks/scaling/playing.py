"""The trace of a spike, played on a stage: the autoscaler is told of the load, and the Deployments are looked at."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from benchmarks.scaling.stage import Stage
from benchmarks.scaling.trace import PLAYED_S, RECORD_S, Sample, Seen, demand

LOOK_S = 0.1


async def played(
    stage: Stage, names: Sequence[str], announce: Callable[[], Awaitable[None]] | None = None
) -> Mapping[str, Seen]:
    """What was seen of each Deployment; `announce` is called when the spike is detected."""
    seen: dict[str, list[Sample]] = {name: [] for name in names}
    began_s, announced = time.monotonic(), False
    while (at_s := time.monotonic() - began_s) < PLAYED_S:
        stage.load.total = math.ceil(demand(at_s))
        if announce is not None and not announced and at_s >= RECORD_S:
            await announce()
            announced = True
        for name in names:
            found = await stage.admin.get(stage.place.deployment(name))
            ready = found["status"].get("readyReplicas", 0)
            seen[name].append(Sample(time.monotonic() - began_s, found["spec"]["replicas"], ready))
        await asyncio.sleep(max(0.0, at_s + LOOK_S - (time.monotonic() - began_s)))
    return seen
