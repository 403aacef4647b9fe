"""The module `live`: the stream processor and its LiveService."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from groundswell.analytics.model.window import WINDOW_S
from groundswell.analytics.rpc.live import LiveRpc
from groundswell.analytics.service.live import LiveCounters
from groundswell.analytics.streams import live_stream
from groundswell.kernel import streams
from groundswell.kernel.bus.frames import FrameSettings
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources


@asynccontextmanager
async def live(resources: Resources) -> AsyncIterator[Module]:
    """Live counters of the partitions that this process is given."""
    counters = LiveCounters(resources.clock)
    topic = resources.settings(FrameSettings).topic
    instance = f"live-{resources.instance}"
    stream = live_stream(resources.kafka, topic, instance, resources.data / "faust", counters, resources.clock)
    yield Module(
        "live",
        servicers=[LiveRpc(counters, WINDOW_S)],
        tasks={"stream": partial(streams.run, stream)},
        ready={"stream": stream.ready.is_set},
    )
