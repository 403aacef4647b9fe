"""What the live counters do with frames that they cannot count, and what they say of themselves then.

Goal: no record stops the process, which would read it again and die again, and none is left out unsaid. Method: a window that refuses what
a test names, as a mistake of ours would; no sound frame is known that the real one refuses.
"""

import logging

import pytest
from prometheus_client import REGISTRY

from groundswell.analytics.clients import Live
from groundswell.analytics.model.rows import Columns
from groundswell.analytics.model.window import WINDOW_S, Window
from groundswell.analytics.rpc.live import LiveRpc
from groundswell.analytics.service.live import LiveCounters
from groundswell.engines import ports
from groundswell.kernel import access, rpc, streams
from groundswell.kernel.bus import frames
from groundswell.kernel.context import Context
from groundswell.kernel.rpc.client import Signer
from tests.analytics.test_live_window import NOW_MS, record_of
from tests.clocks import HeldClock

KEY = b"k" * 32
UNCOUNTABLE = 13
"""A tenant whose rows break the count."""


class Breaking(Window):
    """Breaks where a frame is read, and where its rows are counted."""

    def kind(self, name: str) -> int:
        if name == "unreadable":
            raise ValueError(name)
        return super().kind(name)

    def count(self, rows: Columns, now_ms: int) -> None:
        if (rows.tenants == UNCOUNTABLE).any():
            raise OverflowError
        super().count(rows, now_ms)


def record(offset: int, tenant: int = 7, kind: str = "view") -> streams.Record:
    batch = frames.record_batch([frames.Row(NOW_MS - 100, kind, tenant, 1, 1)])
    return record_of(batch, offset, frames.Header(99, offset, 1, NOW_MS - 100, NOW_MS - 100))


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("together", [True, False])
def test_a_frame_that_cannot_be_counted_is_passed_over_and_told(
    together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HeldClock(NOW_MS)
    counters = LiveCounters(clock, Breaking())
    records = [record(1), record(2, kind="unreadable"), record(3), record(4, UNCOUNTABLE), record(5)]
    failed, counted = (
        sample("groundswell_live_frames_skipped_total", reason="failed"),
        sample("groundswell_live_events_total"),
    )
    with caplog.at_level(logging.ERROR):
        for batch in [records] if together else [[each] for each in records]:
            counters.take(batch)
    assert counters.look(7, "").window_events == 3
    assert sample("groundswell_live_frames_skipped_total", reason="failed") == failed + 2
    assert sample("groundswell_live_events_total") == counted + 3
    for offset in (2, 4):
        assert f"the frame {offset} of partition 0 is not counted" in caplog.text
    touched = [tenant for tenant in (7, 8, UNCOUNTABLE) if not counters.look(tenant, "").complete]
    assert touched == [7, UNCOUNTABLE], "a frame of 7 is missing, and whatever else was counted beside the others"
    clock.at_ms += (WINDOW_S + 1) * 1000
    assert all(counters.look(tenant, "").complete for tenant in touched)


def test_what_is_counted_again_to_rebuild_the_window_is_no_traffic() -> None:
    counters = LiveCounters(HeldClock(NOW_MS))
    names = ("groundswell_live_events_total", "groundswell_live_rebuilt_events_total")
    before = [sample(name) for name in names]
    counters.take([record(1), record(2)], replayed=True)
    assert [sample(name) for name in names] == [before[0], before[1] + 2]
    counters.take([record(3)])
    assert [sample(name) for name in names] == [before[0] + 1, before[1] + 2]
    assert counters.look(7, "").window_events == 3


async def test_the_page_of_a_tenant_whose_numbers_are_not_whole_is_not_called_complete() -> None:
    Signer.key = KEY
    clock = HeldClock(NOW_MS)
    counters = LiveCounters(clock, Breaking())
    counters.take([record(1)])
    counters.complete(0.0)
    address = f"127.0.0.1:{ports.draw(1)[0]}"

    async def nobody(secret: str) -> access.Credential:
        raise access.InvalidCredential

    async with (
        rpc.serve([LiveRpc(counters, WINDOW_S)], address, KEY, access.Verifier(nobody)),
        rpc.channel(address) as channel,
    ):
        looks = aiter(Live(channel).watch(Context(7), ""))
        assert (await anext(looks)).HasField("complete_time")
        counters.take([record(2, kind="unreadable")])
        clock.at_ms += 1_000
        while (look := await anext(looks)).HasField("complete_time"):
            pass
        assert look.window_events == 1
