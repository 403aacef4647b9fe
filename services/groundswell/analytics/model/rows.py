"""Rows of frames as the live window takes them, and which of them belong together."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """What the window needs of frames: one entry per row in each array; `kinds` are numbers given by `Window.kind`."""

    ts_ms: npt.NDArray[np.int64]
    tenants: npt.NDArray[np.uint64]
    kinds: npt.NDArray[np.int64]
    items: npt.NDArray[np.uint64]
    users: npt.NDArray[np.uint64]
    countries: npt.NDArray[np.uint16]
    devices: npt.NDArray[np.uint8]
    bots: npt.NDArray[np.bool_]

    def where(self, kept: npt.NDArray[np.bool_]) -> "Columns":
        """The rows for which `kept` is true."""
        return Columns(*(getattr(self, each.name)[kept] for each in fields(Columns)))


def joined(parts: Sequence[Columns]) -> Columns:
    """The rows of all `parts`, in order."""
    if len(parts) == 1:
        return parts[0]
    return Columns(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Columns)))


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by second, tenant and kind, seconds ascending."""

    names: list[tuple[int, str]]
    """Tenant and kind of each group; too many kinds are one, so a name may come twice in a second."""
    seconds: Places
    numbers: Places
    """The group of each row."""
    order: Places
    """The places of all rows, group by group."""
    starts: Places
    """Where each group begins in `order`."""

    def lengths(self) -> Places:
        """How many rows each group has."""
        return np.diff(self.starts, append=len(self.order))


def starts(*sorted_columns: npt.NDArray[Any]) -> Places:
    """Where a new group begins in columns that are sorted together."""
    changes = np.zeros(len(sorted_columns[0]), np.bool_)
    changes[:1] = True
    for column in sorted_columns:
        changes[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changes)
