"""The live counters of one process: frames in, looks out."""

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from prometheus_client import Counter, Histogram

from groundswell.analytics.model.people import Second
from groundswell.analytics.model.rows import Columns, joined
from groundswell.analytics.model.window import SETTLED_S, Look, Window
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
STEP_MS_MAX = 5_000
"""A clock that is set on by more left what came before in other seconds than those that are asked for then."""
LOOKS_MAX = 10_000
SECONDS_MAX = 1_000

COUNTED = Counter("groundswell_live_events_total", "Events counted live.")
REBUILT = Counter("groundswell_live_rebuilt_events_total", "Events counted again from the log, to rebuild the window.")
FRESHNESS = Histogram(
    "groundswell_live_freshness_seconds",
    "Age of a frame's oldest event when it was counted.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
FORGOTTEN = Counter(
    "groundswell_live_tenants_forgotten_total", "Tenants whose counters were forgotten for want of room."
)
SKIPPED = Counter("groundswell_live_frames_skipped_total", "Frames not counted.", ["reason"])


_NOBODY = np.zeros(0, np.uint64)


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
    """Counts frames into the window. Corrupt frames are skipped here; the writer sets them aside and keeps the books.

    Whatever else a frame does, it stops nobody: a process that died of it would read it again and die again.
    """

    def __init__(self, clock: Clock, window: Window | None = None) -> None:
        self._clock = clock
        self._window = window or Window()
        self._names: dict[tuple[int, int], str] = {}
        self._looks: dict[tuple[int, str], Look] = {}
        self._seconds: dict[tuple[int, str], Second] = {}
        self._forgotten = 0
        self._freshness_ms = 0
        self._counted_ms = 0
        self._began_ms = self._told_ms = clock.now_ms()
        self._told_s = clock.monotonic_s()
        self._complete_ms: int | None = None

    def take(self, records: Sequence[LogRecord], *, replayed: bool = False) -> None:
        """Counts records of the log, all at once: the more there are, the less each costs. `replayed` ones are neither fresh nor stale."""
        found = (record for record in records if not frames.is_void(record.headers))
        parts = [(record, part) for record in found if (part := self._columns(record))]
        now_ms = self._now_ms()
        if not parts or (rows := self._counted(parts, now_ms)) is None:
            return
        (REBUILT if replayed else COUNTED).inc(len(rows.ts_ms))
        FORGOTTEN.inc(self._window.forgotten - self._forgotten)
        self._forgotten = self._window.forgotten
        if not replayed and len(rows.ts_ms):
            self._freshness_ms, self._counted_ms = max(0, now_ms - int(rows.ts_ms.min())), now_ms
            FRESHNESS.observe(self._freshness_ms / 1000)

    def look(self, tenant: int, kind: str) -> Look:
        """The tenant's numbers now; one look serves all who ask within a tick."""
        now_ms = self._now_ms()
        known = self._looks.get((tenant, kind))
        if known is None or not 0 <= now_ms - known.time_ms < LOOK_MS:
            known = self._window.look(tenant, kind, now_ms)
            if len(self._looks) > LOOKS_MAX:
                self._looks.clear()
            self._looks[tenant, kind] = known
        return known

    def second(self, tenant: int, kind: str) -> Second:
        """The tenant's second that began `SETTLED_S` ago, by its users; told once for all who ask within a second."""
        now_ms = self._now_ms()
        known = self._seconds.get((tenant, kind))
        if known is None or known.second != now_ms // 1000 - SETTLED_S:
            known = self._window.second(tenant, kind, now_ms)
            if len(self._seconds) > SECONDS_MAX:
                self._seconds.clear()
            self._seconds[tenant, kind] = known
        return known

    def complete(self, age_s: float) -> None:
        """All that was in the log `age_s` ago is counted."""
        self._complete_ms = self._now_ms() - int(age_s * 1000)

    @property
    def complete_ms(self) -> int | None:
        """The newest moment at which all that was in the log is known to be counted; None until there is one."""
        return self._complete_ms

    @property
    def freshness_ms(self) -> int:
        """Age of the oldest event in the newest frame, when that frame was counted; while the counters stand still it grows.

        Where no frame came for a while it is how long ago the counters were known to be complete.
        """
        now_ms = self._now_ms()
        still_ms = now_ms - (self._began_ms if self._complete_ms is None else self._complete_ms)
        newest_ms = self._freshness_ms if now_ms - self._counted_ms <= FRESHNESS_KEPT_MS else 0
        return max(newest_ms, still_ms) if still_ms > STILL_MS else newest_ms

    def name_of(self, tenant: int, item: int) -> str:
        """What the tenant called the item: its id, or the text behind the number. (Another tenant's text may have the same one.)"""
        return self._names.get((tenant, item), str(item))

    def _now_ms(self) -> int:
        """The moment. Where the clock was set back, what is known of earlier moments goes back with it; the window itself sees when that is
        much. Where it was set on, no tenant's numbers are whole before the window has passed."""
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        back_ms = self._told_ms - now_ms
        if back_ms > 0:
            self._began_ms, self._counted_ms = self._began_ms - back_ms, self._counted_ms - back_ms
            self._complete_ms = None if self._complete_ms is None else self._complete_ms - back_ms
        if -back_ms - (now_s - self._told_s) * 1000 > STEP_MS_MAX:
            self._window.doubt_all(now_ms)
        self._told_ms, self._told_s = now_ms, now_s
        return now_ms

    def _counted(self, parts: Sequence[tuple[LogRecord, Columns]], now_ms: int) -> Columns | None:
        """The rows that were counted: all at once and, should that fail, record by record."""
        whole = joined([part for _, part in parts])
        try:
            self._window.count(whole, now_ms)
            return whole
        except Exception:  # whatever it is, the other records are to be counted
            if len(parts) == 1:
                self._failed(parts[0][0], whole.tenants)
                return None
            log.exception("%d frames are counted one by one, since together they cannot be", len(parts))
        self._window.doubt(whole.tenants, now_ms)  # some rows may be counted twice now
        counted = [rows for part in parts if (rows := self._counted([part], now_ms))]
        return joined(counted) if counted else None

    def _columns(self, record: LogRecord) -> Columns | None:
        """The rows of a record that are to be counted; None when it is corrupt, cannot be counted or came before."""
        tenants: npt.NDArray[np.uint64] = _NOBODY
        try:
            frame = frames.decode(record.value, record.headers)
            tenants = frame.columns.column("tenant").to_numpy()
            return self._rows(record, frame)
        except frames.CorruptFrame as error:
            SKIPPED.labels("corrupt").inc()
            log.warning("the frame %d of partition %d is not counted: %s", record.offset, record.partition, error)
            return None
        except Exception:  # whatever it is, the other records are to be counted
            self._failed(record, tenants)
            return None

    def _failed(self, record: LogRecord, tenants: npt.NDArray[np.uint64]) -> None:
        """Goes past a frame that is sound and could not be counted. The store may have it, so its tenants' numbers are not whole."""
        SKIPPED.labels("failed").inc()
        log.exception("the frame %d of partition %d is not counted", record.offset, record.partition)
        self._window.doubt(tenants, self._now_ms())

    def _rows(self, record: LogRecord, frame: frames.Frame) -> Columns | None:
        if not self._window.is_new(record.partition, frame.header.producer_id, frame.header.frame_seq):
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
