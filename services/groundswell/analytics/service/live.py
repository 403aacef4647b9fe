"""The live counters of one process: frames in, looks out."""

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from prometheus_client import Counter, Histogram

from groundswell.analytics.model.window import Columns, Look, Window, joined
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import Clock

log = logging.getLogger(__name__)

NAMES_MAX = 100_000
"""Names of items that are no ids; past it the oldest is forgotten and such an item shows as its number."""

STILL_MS = 3_000
"""The end of the log is looked for twice a second; a look that is this old means that the counters stand still."""
FRESHNESS_KEPT_MS = 10_000
"""How long the newest frame's age is told: a page that is quiet must not look late for ever."""
LOOK_MS = 200
LOOKS_MAX = 10_000

COUNTED = Counter("groundswell_live_events_total", "Events counted live.")
FRESHNESS = Histogram(
    "groundswell_live_freshness_seconds",
    "Age of a frame's oldest event when it was counted.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
SKIPPED = Counter("groundswell_live_frames_skipped_total", "Frames not counted.", ["reason"])


class LogRecord(Protocol):
    """A record as any reader of the log has it."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes]]: ...


class LiveCounters:
    """Counts frames into the window. Corrupt frames are skipped here; the writer sets them aside and keeps the books."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._window = Window()
        self._names: dict[tuple[int, int], str] = {}
        self._looks: dict[tuple[int, str], Look] = {}
        self._freshness_ms = 0
        self._counted_ms = 0
        self._began_ms = clock.now_ms()
        self._complete_ms: int | None = None

    def take(self, records: Sequence[LogRecord], *, replayed: bool = False) -> None:
        """Counts records of the log, all at once: the more there are, the less each costs. `replayed` ones are neither fresh nor stale."""
        parts = [part for record in records if (part := self._columns(record))]
        if not parts:
            return
        now_ms = self._clock.now_ms()
        rows = joined(parts)
        self._window.count(rows, now_ms)
        COUNTED.inc(len(rows.ts_ms))
        if not replayed and len(rows.ts_ms):
            self._freshness_ms, self._counted_ms = max(0, now_ms - int(rows.ts_ms.min())), now_ms
            FRESHNESS.observe(self._freshness_ms / 1000)

    def forget(self, partitions: Iterable[int]) -> None:
        """These partitions are to be read from somewhere else again."""
        self._window.forget(partitions)

    def look(self, tenant: int, kind: str) -> Look:
        """The tenant's numbers now; one look serves all who ask within a tick."""
        now_ms = self._clock.now_ms()
        known = self._looks.get((tenant, kind))
        if known is None or now_ms - known.time_ms >= LOOK_MS:
            known = self._window.look(tenant, kind, now_ms)
            if len(self._looks) > LOOKS_MAX:
                self._looks.clear()
            self._looks[tenant, kind] = known
        return known

    def complete(self, age_s: float) -> None:
        """All that was in the log `age_s` ago is counted."""
        self._complete_ms = self._clock.now_ms() - int(age_s * 1000)

    @property
    def complete_ms(self) -> int | None:
        """The newest moment at which all that was in the log is known to be counted; None until there is one."""
        return self._complete_ms

    @property
    def freshness_ms(self) -> int:
        """Age of the oldest event in the newest frame, when that frame was counted; while the counters stand still it grows.

        Where no frame came for a while it is how long ago the counters were known to be complete.
        """
        now_ms = self._clock.now_ms()
        still_ms = now_ms - (self._began_ms if self._complete_ms is None else self._complete_ms)
        newest_ms = self._freshness_ms if now_ms - self._counted_ms <= FRESHNESS_KEPT_MS else 0
        return max(newest_ms, still_ms) if still_ms > STILL_MS else newest_ms

    def name_of(self, tenant: int, item: int) -> str:
        """What the tenant called the item: its id, or the text behind the number. (Another tenant's text may have the same one.)"""
        return self._names.get((tenant, item), str(item))

    def _columns(self, record: LogRecord) -> Columns | None:
        """The rows of a record that are to be counted; None when it is corrupt or came before."""
        try:
            frame = frames.decode(record.value, record.headers)
        except frames.CorruptFrame as error:
            SKIPPED.labels("corrupt").inc()
            log.warning("the frame %d of partition %d is not counted: %s", record.offset, record.partition, error)
            return None
        if not self._window.is_new(record.partition, record.offset, frame.header.producer_id, frame.header.frame_seq):
            SKIPPED.labels("duplicate").inc()
            return None
        self._note_names(frame.columns)
        rows, kept = self._to_columns(frame.columns), self._kept(record.partition, frame)
        return rows if kept.all() else rows.where(kept)

    def _kept(self, partition: int, frame: frames.Frame) -> npt.NDArray[np.bool_]:
        flags = frame.columns.column("flags").to_numpy()
        kept: npt.NDArray[np.bool_] = (flags & frames.PARKED) == 0
        for group in frame.header.groups:
            if not self._window.is_new_batch(partition, group.digest):
                kept[group.first : group.first + group.rows] = False
        return kept

    def _to_columns(self, batch: pa.RecordBatch) -> Columns:
        """A frame's batch as the window wants it."""
        kinds = batch.column("kind")
        numbers = np.array([self._window.kind(name) for name in kinds.dictionary.to_pylist()], np.int64)
        return Columns(
            ts_ms=batch.column("ts").to_numpy(),
            tenants=batch.column("tenant").to_numpy(),
            kinds=numbers[kinds.indices.to_numpy(zero_copy_only=False)],
            items=batch.column("item").to_numpy(),
            users=batch.column("user").to_numpy(),
            countries=batch.column("country").to_numpy(),
            devices=batch.column("device").to_numpy(),
            bots=(batch.column("flags").to_numpy() & frames.BOT) != 0,
        )

    def _note_names(self, columns: pa.RecordBatch) -> None:
        names = columns.column("name")
        if names.null_count == len(names):
            return
        named = names.is_valid().to_numpy(zero_copy_only=False)
        texts = names.dictionary.to_pylist()
        tenants, items = (columns.column(name).to_numpy()[named].tolist() for name in ("tenant", "item"))
        for tenant, item, code in zip(tenants, items, names.indices.drop_null().to_pylist(), strict=True):
            if (tenant, item) not in self._names and len(self._names) >= NAMES_MAX:
                self._names.pop(next(iter(self._names)))
            self._names[tenant, item] = texts[code]
