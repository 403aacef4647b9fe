"""Frames: rows come out of one as they went in, and what cannot be counted is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.kernel.bus import frames
from groundswell.kernel.bus.frames.lane import departure

from .framing import DIGEST, rows_of, some_rows

texts = st.text(st.characters(codec="utf-8"), max_size=40)
any_row = st.builds(
    frames.Row,
    ts_ms=st.integers(-(2**62), 2**62),
    kind=st.text(st.characters(codec="utf-8"), max_size=16),
    tenant=st.integers(0, 2**64 - 1),
    item=st.integers(0, 2**64 - 1),
    user=st.integers(0, 2**64 - 1),
    network=st.integers(0, 2**32 - 1),
    country=st.integers(0, 2**16 - 1),
    device=st.integers(0, 255),
    flags=st.integers(0, 255),
    value=st.floats(allow_nan=False),
    props=texts,
    name=texts,
)


@given(st.lists(any_row, min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_rows_come_out_of_a_frame_as_they_went_in(rows: list[frames.Row]) -> None:
    """Goal: no field of any row is changed by packing, dictionaries or compression."""
    columns = frames.record_batch(rows)
    header = frames.Header(7, 1, len(rows), min(r.ts_ms for r in rows), max(r.ts_ms for r in rows))
    frame = frames.decode(frames.encode(columns), header.to_record())
    assert rows_of(frame.columns) == rows
    assert frame.header == header


def test_the_partition_of_a_row_and_of_its_column_is_the_same() -> None:
    """Goal: rows that come one by one and as columns meet in the same partition, so distinct users add up."""
    users = np.random.default_rng(5).integers(0, 2**64 - 1, 1000, dtype=np.uint64)
    tenants = np.arange(1000, dtype=np.uint64)
    columns = frames.partitions_of(tenants, users, 4)
    assert [frames.partition_of(int(t), int(u), 4) for t, u in zip(tenants, users, strict=True)] == columns.tolist()
    assert min(np.bincount(columns.astype(int))) > 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", (0, "")), ("42", (42, "")), ("9223372036854775807", (2**63 - 1, ""))],
)
def test_an_id_of_the_platform_is_its_own_item(text: str, expected: tuple[int, str]) -> None:
    assert frames.item_id(text) == expected


@pytest.mark.parametrize("text", ["007", "9223372036854775808", "/pricing", "-1", "٣"])
def test_any_other_text_is_hashed_and_keeps_its_name(text: str) -> None:
    item, name = frames.item_id(text)
    assert item >= frames.TOP_BIT
    assert name == text


def sound() -> tuple[bytes, dict[str, bytes]]:
    rows = some_rows(10)
    header = frames.Header(1, 1, 10, rows[0].ts_ms, rows[-1].ts_ms)
    return frames.encode(frames.record_batch(rows)), dict(header.to_record())


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("n", b"11"),
        ("n", b"many"),
        ("n", b"0"),
        ("n", b"9000"),
        ("schema", b"2"),
        ("producer_id", b""),
        ("producer_id", b"-1"),
        ("frame_seq", b"0"),
        ("frame_seq", b"18446744073709551616"),
        ("batches", b"short"),
        ("batches", DIGEST + (5).to_bytes(4, "little") + (6).to_bytes(4, "little")),
    ],
)
@pytest.mark.promise("ANALYTICS-2")
def test_a_frame_whose_headers_do_not_fit_is_corrupt(header: str, value: bytes) -> None:
    """Goal: what cannot be counted is refused with a reason, never counted wrongly."""
    body, record = sound()
    with pytest.raises(frames.CorruptFrame):
        frames.decode(body, (record | {header: value}).items())


@pytest.mark.parametrize("body", [b"", b"not arrow", sound()[0][:200], sound()[0][:-300]])
def test_a_frame_whose_body_is_damaged_is_corrupt(body: bytes) -> None:
    with pytest.raises(frames.CorruptFrame) as caught:
        frames.decode(body, sound()[1].items())
    assert caught.value.rows == 10


@given(
    st.floats(0, 1e6),
    st.floats(0.001, 5.0),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8),
)
def test_frames_that_fill_together_leave_together_and_none_waits_longer_than_it_may(
    ticks: float, flush_s: float, within: list[float]
) -> None:
    """Partitions whose frames begin in the same stretch of time share its end."""
    begun_s = [(int(ticks) + 0.001 + 0.998 * each) * flush_s for each in within]
    leave_s = [departure(now_s, flush_s) for now_s in begun_s]
    assert len(set(leave_s)) == 1
    assert all(now_s < left_s <= now_s + flush_s for now_s, left_s in zip(begun_s, leave_s, strict=True))


def test_frames_that_wait_for_no_others_leave_at_once() -> None:
    assert departure(7.5, 0.0) == 7.5
