"""What operators and a bridge ask of an API server at rest, against one on loopback (`serving`), and what rests as long as they do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from groundswell_operator.applying import connecting
from groundswell_operator.applying.reading import HEARTBEAT
from groundswell_operator.applying.requests import FOLLOW_S_MAX
from groundswell_operator.applying.writing import Cluster
from groundswell_operator.bridge import consuming
from groundswell_operator.bridge.sources import HEARD_S
from groundswell_operator.health import STALLED_S
from groundswell_operator.leading import RENEW_S
from groundswell_operator.reconciling import IDLE_S, Reconciler
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Governing
from groundswell_operator.watching import SILENCE_S_MAX
from tests.operators.passing import METRICS
from tests.operators.serving import Answer, Asked, answering
from tests.operators.test_odd_objects import SPEC, made
from tests.operators.world import World, governing

CONFIG_MAPS, PAGES = 5, 4
ENDED_S = 90.0
"""After so long without a request an API server ends a connection."""


def answer(asked: Asked) -> Answer:
    """KEDA is served, a thousand spikes are over, and policies name some ConfigMaps."""
    name, rest = asked.path.rpartition("/")[2], {"metadata": {}, "items": list[Any]()}
    if asked.path.endswith(f"/leases/{HEARTBEAT}"):
        return 404, {"message": "not found"}
    if name.startswith("flags"):
        return 200, made(name, data={})
    if name == "viralspikes":
        page = int(asked.query.get("continue", "1"))
        return 200, {**rest, "metadata": {"continue": str(page + 1)} if page < PAGES else {}}
    if name == "viralspikepolicies":
        patches = [
            {"name": f"sets-{number}", "order": 0, "configMapPatch": {"name": f"flags-{number}", "data": {"ttl": "60"}}}
            for number in range(CONFIG_MAPS)
        ]
        rest["items"] = [made("default", spec={**SPEC, "actions": patches})]
    return 200, rest


async def test_at_rest_two_operators_and_a_bridge_ask_for_less_than_one_thing_a_second() -> None:
    """Beside KEDA and ConfigMaps too. A pass is counted; the rest follows from how often each is asked for."""
    async with answering(answer) as (server, requests):
        cluster = Cluster(requests, "here")
        await cluster.read()  # what is asked for once only
        server.asked.clear()
        await cluster.read()
    assert len(server.asked) >= 6 + PAGES + CONFIG_MAPS
    watches = 5 / SILENCE_S_MAX
    lease = 1 / RENEW_S + 2 / FOLLOW_S_MAX  # who leads, and who waits
    bridge = 1 / HEARD_S + 1 / consuming.LOOK_S
    assert len(server.asked) / IDLE_S + watches + lease + bridge < 1


def test_a_connection_rests_for_longer_than_the_calm_between_two_passes_and_not_until_it_is_ended() -> None:
    assert IDLE_S < connecting.KEPT_S < ENDED_S


class Unanswered(World):
    """Says when it was looked at, and answers never."""

    def __init__(self, *policies: Governing) -> None:
        super().__init__(*policies)
        self.looked_at = asyncio.Event()

    async def read(self) -> Namespace:
        self.looked_at.set()
        return await asyncio.Future()


async def test_a_pass_that_begins_after_a_calm_has_as_long_to_end_as_any_other() -> None:
    """By what liveness is judged: an operator that waits for nothing is not stalled, however slow its next pass is."""
    world = Unanswered(governing())
    reconciler = Reconciler(world, METRICS, world.clock)
    reconciler.progressed_s = time.monotonic() - STALLED_S
    passes = asyncio.create_task(reconciler.run())
    try:
        async with asyncio.timeout(20):
            await world.looked_at.wait()
        assert time.monotonic() - reconciler.progressed_s < STALLED_S / 2
    finally:
        passes.cancel()
        await asyncio.gather(passes, return_exceptions=True)
