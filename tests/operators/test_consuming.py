"""The bridge while Kafka is not there yet: it waits, and says so."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from groundswell.engines import ports
from groundswell_operator.bridge.consuming import Bridge
from groundswell_operator.bridge.sources import HEARD_S
from groundswell_operator.settings import Settings
from tests.operators.serving import Answer, Asked, answering
from tests.operators.test_odd_objects import SPEC, made

SAID_S_MAX = 6 * HEARD_S


async def test_a_bridge_that_starts_before_kafka_is_there_lives_on_and_says_that_it_is_away() -> None:
    """Method: nothing listens where Kafka is to be; the second report is what ends a bridge that its first one broke."""
    said: list[Asked] = []
    reported = asyncio.Event()

    def answer(asked: Asked) -> Answer:
        if asked.method == "PATCH":
            said.append(asked)
            if len(_heartbeats(said)) == 2:
                reported.set()
        return 200, {"items": [made("default", spec=SPEC)]}

    settings = Settings.of(
        {"GROUNDSWELL_NAMESPACE": "here", "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{ports.draw(1)[0]}"}
    )
    async with answering(answer) as (_, requests):
        bridge = asyncio.create_task(Bridge(settings, requests, requests).run())
        waiting = asyncio.create_task(reported.wait())
        await asyncio.wait({bridge, waiting}, timeout=SAID_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert not bridge.done(), bridge.exception()
        bridge.cancel()
        with suppress(asyncio.CancelledError):
            await bridge
    assert len(_heartbeats(said)) == 2
    assert _reasons(said) == {"KafkaAway"}


def _heartbeats(said: list[Asked]) -> list[Asked]:
    return [each for each in said if each.path.endswith("/leases/groundswell-bridge")]


def _reasons(said: list[Asked]) -> set[Any]:
    conditions = [each.value["status"]["conditions"] for each in said if each.path.endswith("/default/status")]
    return {each["reason"] for found in conditions for each in found}
