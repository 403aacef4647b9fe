"""Intake: which events are taken, in which time they land, and what a batch that is sent again adds."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from groundswell.analytics.errors import BatchSizeInvalid, IntakeFull, OutcomeUnknown
from groundswell.analytics.model import intake
from groundswell.analytics.model.intake import Event
from groundswell.analytics.service.collecting import Collector
from groundswell.kernel import errors, ids, postgres
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestIdReused, RequestKey
from tests.clocks import HeldClock

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3_600_000
ALICE = Context(tenant=7)
NO_REQUEST = RequestKey()


class Log:
    """A log at hand: takes frames, or loses its answer, or takes none."""

    def __init__(self) -> None:
        self.frames: list[frames.Frame] = []
        self.away = False

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        if self.away:
            raise OSError("away")
        self.frames.append(frames.decode(value, headers))

    def rows(self) -> list[dict[str, object]]:
        return [row for frame in self.frames for row in frame.columns.to_pylist()]

    def digests(self) -> list[bytes]:
        return [group.digest for frame in self.frames for group in frame.header.groups]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def journal(tmp_path: Path) -> frames.Journal:
    return frames.Journal(tmp_path / "journal", 4, bytes_max=200_000, segment_bytes=50_000)


@pytest.fixture
async def collector(log: Log, journal: frames.Journal, database: postgres.Database) -> AsyncIterator[Collector]:
    producer = frames.FrameProducer(journal, log, frames.FrameSettings())
    producer.start()
    yield Collector(producer, database, HeldClock(NOW_MS), b"k" * 32, acknowledge_s=1.0)
    await producer.close(0.1)


def request(digest: bytes = b"d") -> RequestKey:
    """A request with an id that nobody used before."""
    return RequestKey(secrets.token_hex(8), digest)


def event(**changes: object) -> Event:
    given: dict[str, object] = {
        "kind": "view",
        "item": "42",
        "user_id": "u",
        "anonymous_id": "",
        "time_ms": None,
        "value": 1.5,
        "properties": "",
    }
    return Event(**(given | changes))  # type: ignore[arg-type]  # a test's own shorthand


async def test_an_event_becomes_a_row_of_its_tenant(collector: Collector, log: Log) -> None:
    taken = await collector.collect(
        ALICE, [event(), event(item="pages/pricing", properties='{"a":1}')], None, NO_REQUEST
    )
    assert (taken.accepted, taken.parked) == (2, [])
    first, second = log.rows()
    assert (first["tenant"], first["kind"], first["item"], first["ts"], first["value"]) == (7, "view", 42, NOW_MS, 1.5)
    assert (second["name"], second["props"], second["user"] == first["user"]) == ("pages/pricing", '{"a":1}', True)


async def test_one_bad_event_is_set_aside_with_its_reason_and_the_rest_is_taken(collector: Collector, log: Log) -> None:
    bad = [
        event(kind="View!"),
        event(user_id=""),
        event(anonymous_id="also"),
        event(item="x" * 513),
        event(value=float("nan")),
        event(value=-1.7e308),
    ]
    taken = await collector.collect(ALICE, [event(), *bad, event()], None, NO_REQUEST)
    assert taken.accepted == 2
    assert [each.index for each in taken.parked] == [1, 2, 3, 4, 5, 6]
    assert "kind must be" in taken.parked[0].reason
    assert sum(bool(int(str(row["flags"])) & frames.PARKED) for row in log.rows()) == 6


def nested(levels: int) -> str:
    """Properties with so many objects and lists in each other, by turns."""
    inner = "1"
    for level in range(levels, 0, -1):
        inner = f'{{"a":{inner}}}' if level % 2 else f"[{inner}]"
    return inner


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (nested(20), None),
        (nested(21), f"properties{'.a[0]' * 10} nests deeper than 20"),
        (nested(500), f"properties{'.a[0]' * 10} nests deeper than 20"),
        (orjson.dumps({f"p{n}": n for n in range(512)}).decode(), None),
        (orjson.dumps({f"p{n}": n for n in range(513)}).decode(), "at most 512 names, and properties goes beyond"),
        (
            orjson.dumps({"a": {f"p{n}": n for n in range(256)}, "b": [{f"p{n}": n for n in range(255)}]}).decode(),
            "at most 512 names, and properties.b[0] goes beyond",
        ),
        (orjson.dumps({"a": [{}, {"ü" * 128: 1}]}).decode(), None),
        (
            orjson.dumps({"a": [{}, {"ü" * 129: 1}]}).decode(),
            f"properties.a[1] has a name of over 128 characters: {'ü' * 32}…",
        ),
        ("nonsense", "properties must be JSON"),
    ],
)
async def test_properties_out_of_bounds_set_their_event_aside_and_say_where(
    collector: Collector, properties: str, reason: str | None
) -> None:
    taken = await collector.collect(ALICE, [event(properties=properties), event()], None, NO_REQUEST)
    assert taken.accepted == (2 if reason is None else 1)
    assert [each.reason.endswith(reason or "") for each in taken.parked] == ([] if reason is None else [True])


@pytest.mark.promise("LINKS-5")
async def test_a_click_that_a_client_sends_is_set_aside(collector: Collector) -> None:
    """Else the owner of a link could make its total whatever it likes."""
    taken = await collector.collect(ALICE, [event(kind="click"), event(kind="clicks")], None, NO_REQUEST)
    assert (taken.accepted, [each.index for each in taken.parked]) == (1, [0])
    assert "counted by the platform itself" in taken.parked[0].reason


@pytest.mark.promise("ANALYTICS-6")
async def test_the_same_batch_again_carries_the_same_rows_and_digests_and_another_requests_batch_does_not(
    collector: Collector, log: Log
) -> None:
    batch, first = [event(user_id=f"u{n}") for n in range(50)], request()
    for context, each in ((ALICE, first), (ALICE, first), (ALICE, request()), (replace(ALICE, tenant=8), first)):
        await collector.collect(context, batch, None, each)
    await collector.collect(ALICE, batch, None, NO_REQUEST)
    by_batch = [sorted(log.digests()[n : n + 4]) for n in range(0, 20, 4)]
    assert by_batch[0] == by_batch[1]
    assert len({tuple(digests) for digests in by_batch}) == 4


@pytest.mark.promise("ANALYTICS-6", "ANALYTICS-10")
async def test_a_later_try_makes_the_rows_of_the_first(
    log: Log, journal: frames.Journal, database: postgres.Database
) -> None:
    """Goal: an event without a time, and one at the edge of what is taken, are the same rows an hour later."""
    clock, key = HeldClock(NOW_MS), request()
    producer = frames.FrameProducer(journal, log, frames.FrameSettings())
    producer.start()
    collector = Collector(producer, database, clock, b"k" * 32, acknowledge_s=1.0)
    batch = [event(), event(time_ms=NOW_MS - 30 * DAY_MS + 60_000)]
    for hour in range(2):
        clock.at_ms = NOW_MS + hour * 3_600_000
        assert (await collector.collect(ALICE, batch, NOW_MS - 2_000, key)).accepted == 2
    await producer.close(0.1)
    rows = sorted((row for row in log.rows()), key=str)
    assert rows[::2] == rows[1::2]


@pytest.mark.promise("ANALYTICS-6", "GATEWAY-11")
async def test_another_batch_under_a_used_request_id_is_refused_and_sends_nothing(
    collector: Collector, log: Log
) -> None:
    key = request(b"one")
    await collector.collect(ALICE, [event()], None, key)
    sent = len(log.frames)
    with pytest.raises(RequestIdReused):
        await collector.collect(ALICE, [event(item="43")], None, replace(key, digest=b"two"))
    assert len(log.frames) == sent


async def test_a_batch_without_an_id_needs_no_database_and_one_with_an_id_is_not_taken_unchecked(
    log: Log, journal: frames.Journal
) -> None:
    producer = frames.FrameProducer(journal, log, frames.FrameSettings())
    producer.start()
    async with postgres.opened("postgresql://x:y@127.0.0.1:1/none", ids.Ids(SystemClock())) as nobody:
        collector = Collector(producer, nobody, HeldClock(NOW_MS), b"k" * 32, acknowledge_s=1.0)
        with pytest.raises(errors.Unavailable):
            await collector.collect(ALICE, [event()], None, request())
        assert not log.frames
        assert (await collector.collect(ALICE, [event()], None, NO_REQUEST)).accepted == 1
    await producer.close(0.1)


@pytest.mark.promise("ANALYTICS-2")
async def test_no_batch_is_answered_before_the_log_has_it(collector: Collector, log: Log) -> None:
    key = request()
    log.away = True
    with pytest.raises(OutcomeUnknown):
        await collector.collect(ALICE, [event()], None, key)
    log.away = False
    taken = await collector.collect(ALICE, [event()], None, key)
    assert taken.accepted == 1
    assert len(set(log.digests())) == 1


async def test_a_full_journal_is_said_and_nothing_is_lost_by_it(collector: Collector, log: Log) -> None:
    log.away = True
    with pytest.raises(IntakeFull):
        await asyncio.gather(
            *(
                collector.collect(ALICE, [event(properties=f'{{"a":"{"x" * 1_000}"}}')] * 100, None, NO_REQUEST)
                for _ in range(5)
            )
        )


@pytest.mark.parametrize("count", [0, intake.BATCH_EVENTS_MAX + 1])
async def test_a_batch_of_a_wrong_size_is_refused(collector: Collector, count: int) -> None:
    with pytest.raises(BatchSizeInvalid):
        await collector.collect(ALICE, [event()] * count, None, NO_REQUEST)


@pytest.mark.promise("ANALYTICS-10")
@pytest.mark.parametrize(
    ("time_ms", "sent_ms", "landed"),
    [
        (None, None, intake.Landing(NOW_MS, 0)),
        (NOW_MS - 5_000, None, intake.Landing(NOW_MS - 5_000, 0)),
        (NOW_MS - 2 * DAY_MS, None, intake.Landing(NOW_MS - 2 * DAY_MS, frames.LATE)),
        (NOW_MS - 31 * DAY_MS, None, None),
        (NOW_MS + 60_000, None, intake.Landing(NOW_MS + 60_000, 0)),
        (NOW_MS + 6 * 60_000, None, intake.Landing(NOW_MS, frames.EARLY)),
        (NOW_MS + 3_600_000, NOW_MS + 3_605_000, intake.Landing(NOW_MS - 5_000, 0)),
        (NOW_MS - 3_605_000, NOW_MS - 3_600_000, intake.Landing(NOW_MS - 5_000, 0)),
        (NOW_MS - 100, NOW_MS - 50, intake.Landing(NOW_MS - 100, 0)),
    ],
)
def test_an_event_lands_in_its_own_time(
    time_ms: int | None, sent_ms: int | None, landed: intake.Landing | None
) -> None:
    """Late ones are marked, ones over 30 days old refused, early ones clamped, and a client's wrong clock is corrected."""
    assert intake.landing(time_ms, sent_ms, NOW_MS) == landed


@pytest.mark.promise("ANALYTICS-10")
@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("unit", [(1, 1_000), (1_000, 1), (1_000_000, 1), (1_000_000_000, 1)])
async def test_a_time_in_a_wrong_unit_is_repaired_where_that_is_certain(
    collector: Collector, log: Log, unit: tuple[int, int], sent: bool
) -> None:
    """Seconds read as milliseconds, and so on. What is no time of the last month in any unit is judged as it came."""

    def wrong(time_ms: int) -> int:
        return time_ms * unit[0] // unit[1]

    times = [NOW_MS - 5_000, NOW_MS - 29 * DAY_MS, NOW_MS + 60_000, NOW_MS - 31 * DAY_MS]
    sent_ms = wrong(NOW_MS) if sent else None
    batch = [event(item=str(index), time_ms=wrong(each)) for index, each in enumerate(times)]
    taken = await collector.collect(ALICE, [*batch, event(item="9", time_ms=1_000_000)], sent_ms, NO_REQUEST)
    landed = {row["item"]: row["ts"] for row in log.rows() if row["kind"] == "view"}
    assert [landed[item] for item in range(3)] == times[:3]
    early = unit[0] > 1  # a month ago in a larger unit is far ahead, which is taken as now
    assert landed.get(3) == (NOW_MS if early else None)
    assert [each.reason for each in taken.parked] == ["time lies more than 30 days back"] * (1 if early else 2)
