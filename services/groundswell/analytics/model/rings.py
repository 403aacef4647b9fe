"""Rings of counts: how often each key came in each of the last seconds, for many keys at once.

One ring is a matrix of time buckets × keys. Time goes down the rows, so that forgetting the oldest bucket clears one contiguous row,
and adding a frame's counts is one vectorised addition. A key gets a column when it first comes.
"""

from collections.abc import Collection, Hashable, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Group = TypeVar("Group", bound=Hashable)

COLUMNS_MIN = 1_024


class Ring:
    """Counts by bucket and key over the last `buckets` buckets of `width_s` seconds each.

    Buckets are numbered by `second // width_s`; what is older than the ring is not counted, and the caller never adds to buckets
    beyond the head (`advance` moves it).
    """

    def __init__(self, buckets: int, width_s: int) -> None:
        self.buckets = buckets
        self.width_s = width_s
        self._head = 0
        self._counts: npt.NDArray[np.uint32] = np.zeros((buckets, COLUMNS_MIN), np.uint32)

    def reserve(self, columns: int) -> None:
        """Makes room for `columns` keys."""
        if columns > self._counts.shape[1]:
            grown = np.zeros((self.buckets, max(columns, 2 * self._counts.shape[1])), np.uint32)
            grown[:, : self._counts.shape[1]] = self._counts
            self._counts = grown

    def advance(self, second: int) -> None:
        """Makes `second` the newest; buckets in between start at zero."""
        bucket = second // self.width_s
        steps = min(bucket - self._head, self.buckets)
        for step in range(steps):
            self._counts[(bucket - step) % self.buckets] = 0
        self._head = max(self._head, bucket)

    def add(self, seconds: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], counts: Counts) -> None:
        """Adds counts; one (bucket, column) may come several times."""
        buckets = seconds // self.width_s
        held = buckets > self._head - self.buckets
        np.add.at(self._counts, (buckets[held] % self.buckets, columns[held]), counts[held].astype(np.uint32))

    def sums(self, columns: npt.NDArray[np.int64], buckets: int | None = None) -> Counts:
        """For each column, its count over the newest `buckets` buckets (all of them unless given)."""
        count = min(self.buckets if buckets is None else buckets, self.buckets)
        rows = (self._head - np.arange(count)) % self.buckets
        if len(columns) * 4 < self._counts.shape[1]:
            gathered: Counts = self._counts[np.ix_(rows, columns)].sum(axis=0, dtype=np.int64)
            return gathered
        # Most columns are wanted: adding whole rows, which lie together in memory, beats gathering.
        added: Counts = np.zeros(self._counts.shape[1], np.int64)
        for row in rows:
            added += self._counts[row]
        return added[columns]

    def series(self, columns: npt.NDArray[np.int64], seconds: Sequence[int]) -> Counts:
        """The count of all `columns` together in each of `seconds` (bucket starts); zero beyond the ring."""
        held = [second // self.width_s for second in seconds]
        inside = [self._head - self.buckets < bucket <= self._head for bucket in held]
        rows = np.array(held, np.int64) % self.buckets
        totals = self._counts[np.ix_(rows, columns)].sum(axis=1, dtype=np.int64)
        return np.where(inside, totals, 0)

    def clear(self, columns: npt.NDArray[np.int64]) -> None:
        """Sets these columns to zero."""
        self._counts[:, columns] = 0

    def keep(self, columns: npt.NDArray[np.int64]) -> None:
        """Drops every column but these, which become 0, 1, 2 … in the order given."""
        kept = np.zeros((self.buckets, max(COLUMNS_MIN, len(columns))), np.uint32)
        kept[:, : len(columns)] = self._counts[:, columns]
        self._counts = kept


class KeyedRings(Generic[Group]):
    """Two rings with one set of keys: seconds for what is live, tens of seconds for the whole window.

    A key is a group (any hashable, few) and a value in it (a number, many), so that a frame's rows are looked up run by run.
    """

    def __init__(self, seconds: int, window_s: int) -> None:
        self.seconds = Ring(seconds, 1)
        self.window = Ring(window_s // 10, 10)
        self._groups: dict[Group, dict[int, int]] = {}
        self._used = 0
        self._free: list[int] = []
        """Columns among those used that belong to no key any more."""

    def __len__(self) -> int:
        return self._used - len(self._free)

    def size(self, group: Group) -> int:
        """How many values a group has."""
        return len(self._groups.get(group, ()))

    def values(self, group: Group) -> tuple[list[int], npt.NDArray[np.int64]]:
        """All values that were counted in a group, and their columns."""
        known = self._groups.get(group, {})
        return list(known), np.fromiter(known.values(), np.int64, len(known))

    def advance(self, second: int) -> None:
        self.seconds.advance(second)
        self.window.advance(second)

    def add(
        self,
        seconds: npt.NDArray[np.int64],
        runs: Sequence[tuple[int, Group]],
        values: npt.NDArray[Any],
        counts: Counts,
    ) -> set[Group]:
        """Adds `counts[i]` to `values[i]` in `seconds[i]`; `runs` say in order how many of the values belong to which group.

        Returns the groups that have new values.
        """
        columns = np.empty(len(values), np.int64)
        start, grown = 0, set()
        for length, group in runs:
            before = len(self)
            columns[start : start + length] = self._columns(group, values[start : start + length].tolist())
            start += length
            if len(self) > before:
                grown.add(group)
        self.seconds.reserve(self._used)
        self.window.reserve(self._used)
        self.seconds.add(seconds, columns, counts)
        self.window.add(seconds, columns, counts)
        return grown

    def groups(self) -> list[tuple[Group, int, int]]:
        """Each group with how many keys it has and its count in the window."""
        _, columns = self._keys()
        sums, start, found = self.window.sums(columns), 0, []
        for group, known in self._groups.items():
            found.append((group, len(known), int(sums[start : start + len(known)].sum())))
            start += len(known)
        return found

    def keys(self, groups: Sequence[Group]) -> tuple[npt.NDArray[np.int64], list[int], npt.NDArray[np.int64]]:
        """All values of these groups, group by group: the place of each one's group among `groups`, the values, and their columns."""
        sizes = [self.size(group) for group in groups]
        held = [self._groups.get(group, {}) for group in groups]
        columns = np.fromiter(chain.from_iterable(known.values() for known in held), np.int64, sum(sizes))
        return np.repeat(np.arange(len(groups)), sizes), list(chain.from_iterable(held)), columns

    def drop(self, group: Group, values: Sequence[int]) -> None:
        """Forgets these values of a group. Others may have their columns, so the work is that of what goes and not of what stays."""
        known = self._groups[group]
        columns = [known.pop(value) for value in values]
        if not known:
            del self._groups[group]
        self.seconds.clear(np.array(columns, np.int64))
        self.window.clear(np.array(columns, np.int64))
        self._free += columns

    def forget_silent(self) -> None:
        """Forgets the keys that did not come within the window: their counts are all zero, so no sum changes."""
        keys, columns = self._keys()
        places = np.flatnonzero(self.window.sums(columns))
        if len(places) < len(keys):
            self._keep(keys, columns, places)

    def forget(self, groups: Collection[Group]) -> None:
        """Forgets all keys of these groups."""
        keys, columns = self._keys()
        self._keep(
            keys, columns, np.array([place for place, (group, _) in enumerate(keys) if group not in groups], np.int64)
        )

    def _keys(self) -> tuple[list[tuple[Group, int]], npt.NDArray[np.int64]]:
        """All keys, group by group, and their columns."""
        keys = [(group, value) for group, known in self._groups.items() for value in known]
        columns = [column for known in self._groups.values() for column in known.values()]
        return keys, np.array(columns, np.int64)

    def _keep(
        self, keys: Sequence[tuple[Group, int]], columns: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
    ) -> None:
        """Forgets all keys but those at `places`."""
        self.seconds.keep(columns[places])
        self.window.keep(columns[places])
        self._groups, self._used, self._free = {}, len(places), []
        for column, place in enumerate(places.tolist()):
            group, value = keys[place]
            self._groups.setdefault(group, {})[value] = column

    def _columns(self, group: Group, values: list[int]) -> list[int]:
        known = self._groups.setdefault(group, {})
        for value in values:
            if value not in known:
                known[value] = self._free.pop() if self._free else self._used
                self._used = max(self._used, known[value] + 1)
        return list(map(known.__getitem__, values))
