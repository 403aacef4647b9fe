"""Rows as the writer stores them, drawn from a seed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from groundswell.analytics.store.ranges import Content, Range

COUNTRIES, DEVICES, KINDS = 5, 4, ("click", "view")
_TIMES = {"ts": "ms", "_t": "s"}


@dataclass(frozen=True, slots=True)
class Drawn:
    """Rows of one tenant as columns: `kind` is a position in `KINDS`, `_p` and `_o` the place in the log."""

    columns: dict[str, npt.NDArray[np.generic]]

    def __len__(self) -> int:
        return len(self.columns["ts"])

    def of(self, partition: int) -> "Drawn":
        mine = self.columns["_p"] == partition
        return Drawn({name: column[mine] for name, column in self.columns.items()})

    def content(self, chunks: int = 1) -> Content:
        """What the store takes; `chunks` says how the rows lie in memory, not what they are."""
        count = len(self)
        columns = {name: pa.array(column) for name, column in self.columns.items()}
        columns |= {name: columns[name].cast(pa.timestamp(unit, "UTC")) for name, unit in _TIMES.items()}
        columns["kind"] = pa.array([KINDS[number] for number in self.columns["kind"].tolist()])
        columns |= {
            "props": pa.array([""] * count),
            "name": pa.array([f"item {n}" for n in self.columns["item"].tolist()]),
        }
        table, step = pa.table(columns), count // chunks
        rows = pa.concat_tables([table.slice(start, step) for start in range(0, count, step)])
        return Content(rows, _EMPTY, _EMPTY, _EMPTY)


_EMPTY = pa.table({"_p": pa.array([], pa.uint8())})


def draw(
    rows: int, *, seed: int, tenant: int, start_ms: int, span_ms: int, items: int, users: int, partitions: int = 1
) -> Drawn:
    """Rows spread evenly over a time; a user's rows are all in one partition, a hundred offsets in each."""
    random = np.random.default_rng(seed)
    user = random.integers(1, users + 1, rows)
    columns: dict[str, npt.NDArray[np.generic]] = {
        "ts": np.sort(start_ms + random.integers(0, span_ms, rows)),
        "kind": random.integers(0, len(KINDS), rows),
        "tenant": np.full(rows, tenant, np.uint64),
        "item": random.integers(1, items + 1, rows).astype(np.uint64),
        "user": user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        "network": random.integers(0, 3, rows).astype(np.uint32),
        "country": random.integers(0, COUNTRIES, rows).astype(np.uint16),
        "device": random.integers(0, DEVICES, rows).astype(np.uint8),
        "flags": random.integers(0, 2, rows).astype(np.uint8),
        "value": random.integers(0, 9, rows).astype(np.float64),
        "_p": (user % partitions).astype(np.uint8),
        "_o": (np.arange(rows) * 100 // rows).astype(np.uint64),
        "_t": np.full(rows, start_ms // 1000, np.int64),
    }
    return Drawn(columns)


def whole(partition: int) -> Range:
    """All offsets that `draw` gives out."""
    return Range(partition, 0, 99)
