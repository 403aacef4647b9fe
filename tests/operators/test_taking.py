"""What the bridge makes of records while an API server on loopback (`serving`) answers as it is told."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from prometheus_client import Counter

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeEscalated, SpikeStarted, SpikeUpdated
from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell_operator.applying.requests import Requests
from groundswell_operator.bridge.intake import Intake
from groundswell_operator.bridge.records import TOPIC, TYPE, Malformed, object_name, sighting
from groundswell_operator.bridge.taking import Taker
from tests.operators.serving import Answer, Asked, answering
from tests.operators.test_odd_objects import SPEC, made

HEADERS: dict[str, bytes] = {TYPE: SpikeStarted.DESCRIPTOR.full_name.encode()}


def started(detected_s: int) -> bytes:
    spike = Spike(name="spikes/00000000000000aa", tenant="acme", kind="link", item="links/7", level=Spike.VIRAL)
    spike.detected_time.seconds = detected_s
    return SpikeStarted(spike=spike).SerializeToString()


def seen(kind: type[Any] = SpikeStarted, level: Spike.Level.ValueType = Spike.VIRAL) -> ConsumerRecord[bytes, bytes]:
    """A record of one spike, that was detected just now."""
    spike = Spike(name="spikes/00000000000000aa", tenant="acme", kind="link", item="links/7", level=level)
    spike.detected_time.GetCurrentTime()
    return record(kind(spike=spike).SerializeToString(), {TYPE: kind.DESCRIPTOR.full_name.encode()})


def record(body: bytes, headers: dict[str, Any]) -> ConsumerRecord[bytes, bytes]:
    made_ms = int(time.time() * 1_000)
    return ConsumerRecord(TOPIC, 0, 0, made_ms, 0, None, body, 0, 0, len(body), tuple(headers.items()))


def taker(requests: Requests) -> tuple[Taker, Counter]:
    records = Counter("records", "Records.", ["outcome"], registry=None)
    return Taker(Intake(requests, "here", records), records), records


@pytest.mark.parametrize("detected_s", [2**62, -(2**62), 253_402_300_800])
async def test_a_record_that_was_detected_in_no_year_is_passed_over(detected_s: int) -> None:
    with pytest.raises(Malformed, match="detected_time"):
        sighting(HEADERS, started(detected_s), 0, 0, 0.0)
    async with answering(lambda _: (200, {"items": []})) as (_, requests):
        found, records = taker(requests)
        await found.take([record(started(detected_s), HEADERS)])
    assert records.labels("malformed")._value.get() == 1


async def test_a_header_without_a_value_is_that_of_another_kind() -> None:
    assert sighting({TYPE: None}, b"", 0, 0, 0.0) is None  # type: ignore[dict-item]  # as the log gives it


async def test_policies_are_asked_for_once_for_all_records_though_there_is_none() -> None:
    async with answering(lambda _: (200, {"items": []})) as (server, requests):
        found, _ = taker(requests)
        await found.take([record(started(1), HEADERS)] * 50)
    assert len(server.asked) == 1


async def test_records_wait_where_the_kinds_are_not_installed_yet() -> None:
    answers = iter([(404, {"message": "the server could not find the requested resource"}), (200, {"items": []})])

    def answer(_: Asked) -> Answer:
        return next(answers)

    async with answering(answer) as (server, requests):
        found, _ = taker(requests)
        await found.take([record(started(1), HEADERS)])
    assert len(server.asked) == 2


@pytest.mark.parametrize("kind", [SpikeStarted, SpikeUpdated, SpikeEscalated])
async def test_a_spike_that_was_deleted_while_it_lived_is_not_made_anew_though_the_bridge_begins_anew(
    kind: type[Any],
) -> None:
    name = object_name("default", "00000000000000aa")
    dismissing = {"dismissed": [{"name": name, "at": "2026-11-25T10:00:00Z"}]}
    policies: list[dict[str, Any]] = [made("default", spec=SPEC, status=dismissing), made("another", spec=SPEC)]

    def answer(asked: Asked) -> Answer:
        return (200, {"items": policies}) if asked.method == "GET" else (201, {"status": {"level": "HOT"}})

    async with answering(answer) as (server, requests):
        found, records = taker(requests)
        await found.take([seen(kind, Spike.HOT)])
    assert [each.value["metadata"]["name"] for each in server.written()] == [object_name("another", "00000000000000aa")]
    assert records.labels("dismissed")._value.get() == 1


async def test_a_policy_that_is_for_higher_levels_only_gets_its_spike_when_it_escalates() -> None:
    hot = made("default", spec={**SPEC, "match": {**SPEC["match"], "minLevel": "HOT"}})

    def answer(asked: Asked) -> Answer:
        return (200, {"items": [hot]}) if asked.method == "GET" else (201, {"status": {"level": "HOT"}})

    async with answering(answer) as (server, requests):
        found, _ = taker(requests)
        await found.take([seen(), seen(SpikeEscalated, Spike.HOT)])
    assert len(server.written()) == 1
