"""What the bridge makes of records while an API server on loopback (`serving`) answers as it is told."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from prometheus_client import Counter

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeEnded, SpikeEscalated, SpikeStarted, SpikeUpdated
from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell_operator.applying.reading import FINALIZER, level_of, over_of
from groundswell_operator.applying.requests import Requests
from groundswell_operator.bridge.intake import KNOWN_S, Intake
from groundswell_operator.bridge.records import TOPIC, TYPE, Malformed, sighting
from groundswell_operator.bridge.taking import OLD_TRIES_MAX, PASSING_S_MAX, POLICIES_S_MAX, Taker
from groundswell_operator.policies import Level
from tests.operators.serving import Answer, Asked, answering
from tests.operators.test_odd_objects import SPEC, made

HEADERS: dict[str, bytes] = {TYPE: SpikeStarted.DESCRIPTOR.full_name.encode()}


def started(detected_s: int) -> bytes:
    spike = Spike(name="spikes/00000000000000aa", tenant="acme", kind="link", item="links/7", level=Spike.VIRAL)
    spike.detected_time.seconds = detected_s
    return SpikeStarted(spike=spike).SerializeToString()


def seen(
    kind: type[Any] = SpikeStarted,
    level: Spike.Level.ValueType = Spike.VIRAL,
    identifier: int = 0xAA,
    views: int = 1,
    made_s: float | None = None,
) -> ConsumerRecord[bytes, bytes]:
    """A record of one spike, that was detected just now."""
    spike = Spike(name=f"spikes/{identifier:016x}", tenant="acme", kind="link", item="links/7", level=level)
    spike.projected_views_hour = views
    spike.detected_time.GetCurrentTime()
    return record(kind(spike=spike).SerializeToString(), {TYPE: kind.DESCRIPTOR.full_name.encode()}, made_s)


def record(body: bytes, headers: dict[str, Any], made_s: float | None = None) -> ConsumerRecord[bytes, bytes]:
    made_ms = int((made_s or time.time()) * 1_000)
    return ConsumerRecord(TOPIC, 0, 0, made_ms, 0, None, body, 0, 0, len(body), tuple(headers.items()))


class Store:
    """Keeps spikes as an API server does, as far as the bridge asks; there is one policy."""

    def __init__(self, unknown: Collection[str] = ()) -> None:
        """Of a spec it drops the fields that are `unknown`."""
        self.spikes: dict[str, dict[str, Any]] = {}
        self._unknown = unknown
        self.policy: dict[str, Any] = made("default", spec=SPEC)

    def answer(self, asked: Asked) -> Answer:
        name = asked.path.removesuffix("/status").rpartition("/")[2]
        if name == "viralspikepolicies":
            return 200, {"items": [self.policy]}
        if asked.method == "POST":
            return self._create(asked.value)
        if name not in self.spikes:
            return 404, {"message": "not found"}
        if asked.method == "PATCH":
            self.spikes[name].setdefault("status", {}).update(asked.value["status"])
        return 200, self.spikes[name]

    def _create(self, value: dict[str, Any]) -> Answer:
        name = value["metadata"]["name"]
        if name in self.spikes:
            return 409, {"message": "is there already"}
        spec = {name: each for name, each in value["spec"].items() if name not in self._unknown}
        self.spikes[name] = {**value, "spec": spec}
        return 201, self.spikes[name]

    def refusing(self, method: str, answers: Iterable[int]) -> Callable[[Asked], Answer]:
        """Answers requests of a kind by each status first, then as it does otherwise."""
        left = iter(answers)

        def answer(asked: Asked) -> Answer:
            status = next(left, None) if asked.method == method else None
            return self.answer(asked) if status is None else (status, {"message": "not now"})

        return answer


def taker(
    requests: Requests,
    passing_s_max: float = PASSING_S_MAX,
    known_s: float = KNOWN_S,
    old_tries_max: int = OLD_TRIES_MAX,
    policies_s_max: float = POLICIES_S_MAX,
) -> tuple[Taker, Counter]:
    records = Counter("records", "Records.", ["outcome"], registry=None)
    intake = Intake(requests, "here", records, known_s=known_s)
    return Taker(intake, records, passing_s_max, old_tries_max, policies_s_max), records


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


async def test_a_policy_that_is_for_higher_levels_only_gets_its_spike_when_it_escalates() -> None:
    hot = made("default", spec={**SPEC, "match": {**SPEC["match"], "minLevel": "HOT"}})

    def answer(asked: Asked) -> Answer:
        return (200, {"items": [hot]}) if asked.method == "GET" else (201, {**asked.value, "status": {"level": "HOT"}})

    async with answering(answer) as (server, requests):
        found, _ = taker(requests)
        await found.take([seen(), seen(SpikeEscalated, Spike.HOT)])
    assert len(server.written()) == 1


@pytest.mark.parametrize(
    ("mode", "active", "held"),
    [
        ("Enforce", None, True),
        ("Enforce", 2, True),
        ("Enforce", 3, False),
        ("Observe", 0, False),
        ("Approve", 0, False),
    ],
)
async def test_a_spike_that_is_likely_to_be_raised_at_once_is_made_with_the_finalizer_and_no_other(
    mode: str, active: int | None, held: bool
) -> None:
    """The operator would have to set it before its first write, and on one that is over has to take it away again."""
    store = Store()
    status = {} if active is None else {"status": {"activeSpikes": active}}
    store.policy = {**made("default", spec={**SPEC, "mode": mode}), **status}
    async with answering(store.answer) as (_, requests):
        await taker(requests)[0].take([seen()])
    (spike,) = store.spikes.values()
    assert spike["metadata"].get("finalizers", []) == ([FINALIZER] if held else [])


COURSE = [(SpikeStarted, Spike.VIRAL), (SpikeEscalated, Spike.HOT), (SpikeEnded, Spike.OVER)]


@pytest.mark.promise("OPERATOR-4")
@pytest.mark.parametrize("order", [*itertools.permutations(COURSE)])
@pytest.mark.parametrize("looks", [1, 3])
async def test_in_whatever_order_start_rise_and_end_of_a_spike_come_it_is_over_in_the_end(
    order: Sequence[tuple[type[Any], Spike.Level.ValueType]], looks: int
) -> None:
    store, records = Store(), [seen(kind, level) for kind, level in order]
    async with answering(store.answer) as (server, requests):
        found, _ = taker(requests)
        for each in [records] if looks == 1 else [[one] for one in records]:
            await found.take(each)
    (spike,) = store.spikes.values()
    assert (level_of(spike), over_of(spike) is not None) == (Level.HOT, True)
    if order[0][0] is SpikeEnded:
        first = server.written()[0].value
        assert "over" in first["spec"]  # from the beginning: else it would be raised
        assert "finalizers" not in first["metadata"]
    if order[0][0] is SpikeStarted:
        assert "status" not in server.written()[0].value


@pytest.mark.promise("OPERATOR-4")
@pytest.mark.parametrize("order", [*itertools.permutations(COURSE)])
async def test_kinds_of_the_version_before_whose_spec_says_no_level_and_no_end_are_told_them_at_once(
    order: Sequence[tuple[type[Any], Spike.Level.ValueType]],
) -> None:
    """Method: an API server that drops what its schema does not know. Level and end come in one write: in between it would be raised."""
    store = Store(unknown=("level", "over"))
    async with answering(store.answer) as (server, requests):
        found, _ = taker(requests)
        for kind, level in order:
            await found.take([seen(kind, level)])
    (spike,) = store.spikes.values()
    assert (spike["status"]["level"], "over" in spike["status"]) == ("HOT", True)
    if order[0][0] is SpikeEnded:
        assert {"level", "over"} <= server.written()[1].value["status"].keys()


async def test_of_what_is_read_at_once_the_biggest_spikes_are_made_first_and_what_is_said_of_each_keeps_its_order() -> (
    None
):
    store, chance = Store(), random.Random(7)
    views = list(range(1, 51))
    chance.shuffle(views)
    records = [seen(identifier=each, views=each) for each in views]
    records += [seen(SpikeEnded, Spike.OVER, identifier=each, views=0) for each in views]
    async with answering(store.answer) as (server, requests):
        found, _ = taker(requests)
        await found.take(records)
    created = [each.value["spec"]["spikeId"] for each in server.written() if each.method == "POST"]
    assert created == [f"{each:016x}" for each in sorted(views, reverse=True)]
    assert all("over" in each["status"] for each in store.spikes.values())


@pytest.mark.parametrize("ahead_s", [-300, 0, 300])
async def test_the_age_of_a_record_is_that_of_the_api_servers_clock_however_wrong_the_bridges_own_is(
    ahead_s: float,
) -> None:
    store = Store()
    async with answering(store.answer) as (server, requests):
        server.ahead_s = ahead_s
        found, records = taker(requests)
        await found.take(
            [
                seen(identifier=1, views=2, made_s=server.now_s() - 130),  # maxRecordAge is 120 s
                seen(identifier=2, views=1, made_s=server.now_s() - 90),
            ]
        )
    assert [each["spec"]["spikeId"] for each in store.spikes.values()] == [f"{2:016x}"]
    assert (found.late("default"), records.labels("too_old")._value.get()) == (1, 1)


@pytest.mark.parametrize("status", [401, 403, 409])
async def test_an_end_that_is_refused_for_a_moment_is_said_when_that_has_passed(status: int) -> None:
    store = Store()
    async with answering(store.refusing("PATCH", [status])) as (_, requests):
        found, records = taker(requests)
        await found.take([seen(), seen(SpikeEnded, Spike.OVER)])
    (spike,) = store.spikes.values()
    assert over_of(spike)
    assert records.labels("refused")._value.get() == 0


@pytest.mark.parametrize("status", [401, 403])
async def test_a_start_that_is_refused_for_a_moment_is_made_when_that_has_passed(status: int) -> None:
    store = Store()
    async with answering(store.refusing("POST", [status])) as (_, requests):
        found, _ = taker(requests)
        await found.take([seen()])
    assert len(store.spikes) == 1


async def test_a_refusal_that_lasts_holds_up_other_records_for_a_while_only() -> None:
    """A quota lets no further object in: it is counted, and the end of one that is there is said."""
    store = Store()
    async with answering(store.answer) as (_, requests):
        await taker(requests)[0].take([seen()])
    async with answering(store.refusing("POST", itertools.repeat(403))) as (_, requests):
        found, records = taker(requests, passing_s_max=1.5)
        await found.take([seen(identifier=0xBB, views=2), seen(SpikeEnded, Spike.OVER)])
    (spike,) = store.spikes.values()
    assert over_of(spike)
    assert records.labels("refused")._value.get() == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_start_that_is_older_than_a_refusal_is_waited_for_is_tried_again_all_the_same(status: int) -> None:
    """As after an outage of the bridge: its token was renewed in between, and the record is young enough for its policy."""
    store = Store()
    async with answering(store.refusing("POST", [status])) as (server, requests):
        found, records = taker(requests)
        await found.take([seen(made_s=server.now_s() - 2 * PASSING_S_MAX)])
    assert len(store.spikes) == 1
    assert records.labels("refused")._value.get() == 0


async def test_a_refusal_that_lasts_holds_old_records_up_for_few_tries_together() -> None:
    store = Store()
    async with answering(store.refusing("POST", itertools.repeat(403))) as (server, requests):
        found, records = taker(requests, old_tries_max=2)
        old_s = server.now_s() - 2 * PASSING_S_MAX
        await found.take([seen(identifier=each, made_s=old_s) for each in range(20)])
        assert len(server.written()) == 20 + 2
        assert records.labels("refused")._value.get() == 20
        await found.take([seen(identifier=0xBB, made_s=old_s)])
    assert len(server.written()) == 20 + 2 + 3, "each look has its own"


@pytest.mark.parametrize("status", [403, 409, 422])
async def test_an_end_that_was_refused_for_too_long_is_said_again_at_a_later_look(status: int) -> None:
    """Its record is as old as that of a bridge that was away, and is not tried again: its offset is committed."""
    store, ended = Store(), seen(SpikeEnded, Spike.OVER, made_s=time.time() - 3_600)
    async with answering(store.refusing("PATCH", [status])) as (server, requests):
        found, records = taker(requests, old_tries_max=0)
        await found.take([seen(), ended])
        assert not any(over_of(each) for each in store.spikes.values())
        assert records.labels("refused")._value.get() == 1
        await found.take([])
        assert all(over_of(each) for each in store.spikes.values())
        asked = len(server.asked)
        await found.take([])
    assert len(server.asked) == asked, "what has been said is not said again"


async def test_what_is_refused_of_one_policy_is_made_for_the_others() -> None:
    policies: list[dict[str, Any]] = [made(name, spec=SPEC) for name in ("closed", "default")]

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return 200, {"items": policies}
        owner = asked.value["metadata"]["ownerReferences"][0]["name"]
        return (422, {"message": "no"}) if owner == "closed" else (201, asked.value)

    async with answering(answer) as (_, requests):
        found, records = taker(requests)
        await found.take([seen()])
    assert [records.labels(each)._value.get() for each in ("refused", "created")] == [1, 1]


async def test_a_record_that_one_policy_refuses_for_good_waits_for_another_that_refuses_it_for_a_moment() -> None:
    policies: list[dict[str, Any]] = [made(name, spec=SPEC) for name in ("closed", "default")]
    passing, created = iter([403]), list[str]()

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return 200, {"items": policies}
        owner = asked.value["metadata"]["ownerReferences"][0]["name"]
        if owner == "closed" or next(passing, 0):
            return (422 if owner == "closed" else 403), {"message": "no"}
        created.append(owner)
        return 201, asked.value

    async with answering(answer) as (_, requests):
        await taker(requests)[0].take([seen()])
    assert created == ["default"]


@pytest.mark.parametrize("level", [Spike.VIRAL, Spike.HOT])
async def test_a_spike_whose_object_is_gone_comes_again_with_its_next_record(level: Spike.Level.ValueType) -> None:
    store = Store()
    async with answering(store.answer) as (_, requests):
        found, _ = taker(requests, known_s=0)
        await found.take([seen()])
        store.spikes.clear()
        await found.take([seen(SpikeUpdated, level)])
    assert len(store.spikes) == 1


async def test_a_record_that_is_soon_repeated_costs_no_request_but_for_the_policies() -> None:
    store = Store()
    async with answering(store.answer) as (server, requests):
        found, _ = taker(requests)
        await found.take([seen()])
        server.asked.clear()
        await found.take([seen(SpikeUpdated)] * 50)
    assert [each.path.rpartition("/")[2] for each in server.asked] == ["viralspikepolicies"]
