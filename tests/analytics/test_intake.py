"""Intake: which events are taken, in which time they land, and what a batch that is sent again adds."""

import asyncio
from pathlib import Path

import pytest

from groundswell.analytics.errors import BatchSizeInvalid, IntakeFull, OutcomeUnknown
from groundswell.analytics.model import intake
from groundswell.analytics.model.intake import Event
from groundswell.analytics.service.collecting import Collector
from groundswell.kernel.bus import frames
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from tests.clocks import HeldClock

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3_600_000
ALICE = Context(tenant=7)


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
async def collector(log: Log, journal: frames.Journal):  # type: ignore[no-untyped-def]  # a fixture's generator
    producer = frames.FrameProducer(journal, log, frames.FrameSettings())
    producer.start()
    yield Collector(producer, HeldClock(NOW_MS), b"k" * 32, acknowledge_s=1.0)
    await producer.close(0.1)


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
        ALICE, [event(), event(item="pages/pricing", properties='{"a":1}')], None, RequestKey()
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
    ]
    taken = await collector.collect(ALICE, [event(), *bad, event()], None, RequestKey())
    assert taken.accepted == 2
    assert [each.index for each in taken.parked] == [1, 2, 3, 4, 5]
    assert "kind must be" in taken.parked[0].reason
    assert sum(bool(int(str(row["flags"])) & frames.PARKED) for row in log.rows()) == 5


@pytest.mark.promise("ANALYTICS-6")
async def test_the_same_batch_again_carries_the_same_digest_and_another_one_does_not(
    collector: Collector, log: Log
) -> None:
    batch = [event(user_id=f"u{n}") for n in range(50)]
    for sent in (batch, batch, [*batch[:-1], event(user_id="other")]):
        await collector.collect(ALICE, sent, None, RequestKey("r1", b"d"))
    await collector.collect(Context(tenant=8), batch, None, RequestKey("r1", b"d"))
    await collector.collect(ALICE, batch, None, RequestKey())
    by_batch = [sorted(log.digests()[n : n + 4]) for n in range(0, 20, 4)]
    assert by_batch[0] == by_batch[1]
    assert len({tuple(digests) for digests in by_batch}) == 4


@pytest.mark.promise("ANALYTICS-2")
async def test_no_batch_is_answered_before_the_log_has_it(collector: Collector, log: Log) -> None:
    log.away = True
    with pytest.raises(OutcomeUnknown):
        await collector.collect(ALICE, [event()], None, RequestKey("r1", b"d"))
    log.away = False
    taken = await collector.collect(ALICE, [event()], None, RequestKey("r1", b"d"))
    assert taken.accepted == 1
    assert len(set(log.digests())) == 1


async def test_a_full_journal_is_said_and_nothing_is_lost_by_it(collector: Collector, log: Log) -> None:
    log.away = True
    with pytest.raises(IntakeFull):
        await asyncio.gather(
            *(collector.collect(ALICE, [event(properties="x" * 1_000)] * 100, None, RequestKey()) for _ in range(5))
        )


@pytest.mark.parametrize("count", [0, intake.BATCH_EVENTS_MAX + 1])
async def test_a_batch_of_a_wrong_size_is_refused(collector: Collector, count: int) -> None:
    with pytest.raises(BatchSizeInvalid):
        await collector.collect(ALICE, [event()] * count, None, RequestKey())


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
