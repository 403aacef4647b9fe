"""The live window: what happened in the last fifteen minutes, counted as frames arrive.

A frame is counted once, however often it comes: frames are named by (producer, partition, sequence) and offsets only go up. Counts
are kept by the second in which an event happened, so a frame that waited in a journal still lands where it belongs. Distinct users
of a second are exact, since all frames with one user are in one partition and all partitions of a process meet here.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from groundswell.analytics.model.rings import KeyedRings

SECONDS = 130
WINDOW_S = 900
ITEMS_MAX = 50_000
"""Items a process keeps; past it the quietest quarter is forgotten. Totals are not touched by that."""
TOTALS_MAX = 100_000
"""Counters of a process, each of a tenant's kind and country, device or the like, which are 900 bytes. Past it tenants are forgotten as a
whole, first those that count least with each of theirs, until a quarter is free; none of their numbers is told as complete before a window
later. Counters that were silent for a window go anyway, and a kind with them."""
FREED_SHARE = 0.25
SWEEP_S = 60
DOUBTED_MAX = 100_000
"""Tenants of whom something was forgotten or left out that are told apart; past it nobody's numbers are complete for a window."""
USERS_S = 10
"""Seconds for which users are kept to tell them apart; afterwards only their number is."""
AHEAD_S_MAX = 1
"""Events further ahead of this clock are counted now: a wrong clock must not move the window."""
DIGESTS_MAX = 500_000
"""Names of client batches in each of two generations; a batch that is sent again after twice as many others may count again here, not
in the store."""
KINDS_MAX = 200
"""Kinds of a tenant that are told apart; whatever comes after them counts as `OTHER_KINDS`."""
OTHER_KINDS = "(other)"
KIND_NUMBERS_MAX = 50_000
CHART_S = 60
TOP_ITEMS = 20

_NONE = np.zeros(0, np.int64)


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
class Look:
    """What a tenant's live page shows. `events` and `users` are of the last whole second."""

    time_ms: int
    events_per_second: list[int]
    events: int
    users: int
    top_items: list[tuple[str, int, int]]
    """(kind, item, events in the last minute), most first."""
    countries: dict[int, int]
    devices: dict[int, int]
    window_events: int
    window_bots: int
    complete: bool
    """Whether nothing of the tenant's was forgotten, for want of room, or left out within the window."""


class Window:
    """All live counters of one process, about `totals_max` of them beside those of items."""

    def __init__(self, totals_max: int = TOTALS_MAX, doubted_max: int = DOUBTED_MAX) -> None:
        self._totals_max, self._doubted_max = totals_max, doubted_max
        self._swept_s = 0
        self._doubted_s: dict[int, int] = {}
        self._all_doubted_s = 0
        self.forgotten = 0
        """Tenants that were forgotten, each as often as it was."""
        self._totals = KeyedRings(SECONDS, WINDOW_S)
        self._items = KeyedRings(SECONDS, WINDOW_S)
        self._kind_numbers: dict[str, int] = {}
        self._kind_names: list[str] = []
        self._users: defaultdict[int, defaultdict[tuple[int, str], list[npt.NDArray[np.uint64]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._kinds: dict[int, set[str]] = {}
        self._newest: dict[tuple[int, int], int] = {}
        self._digests: set[bytes] = set()
        self._older_digests: set[bytes] = set()

    def kind(self, name: str) -> int:
        """The number of a kind in the `Columns` of the next `count`."""
        number = self._kind_numbers.setdefault(name, len(self._kind_names))
        if number == len(self._kind_names):
            self._kind_names.append(name)
        return number

    def is_new(self, partition: int, producer: int, sequence: int) -> bool:
        """Whether a frame has not been counted yet; it has from now on. Its offset says nothing: a log that lost its end gives it again."""
        if sequence <= self._newest.get((producer, partition), -1):
            return False
        self._newest[producer, partition] = sequence
        return True

    def is_new_batch(self, partition: int, digest: bytes) -> bool:
        """Whether a client's batch has not been counted yet; it has from now on."""
        name = partition.to_bytes(4, "little") + digest
        if name in self._digests or name in self._older_digests:
            return False
        self._digests.add(name)
        if len(self._digests) >= DIGESTS_MAX:
            self._older_digests, self._digests = self._digests, set()
        return True

    def count(self, rows: Columns, now_ms: int) -> None:
        """Counts a frame's rows."""
        now_s = now_ms // 1000
        self._advance(now_s)
        if now_s >= self._swept_s + SWEEP_S:
            self._forget_silent(now_s)
        seconds = np.minimum(rows.ts_ms // 1000, now_s + AHEAD_S_MAX)
        held = seconds > now_s - WINDOW_S
        if not held.all():
            rows, seconds = rows.where(held), seconds[held]
        if not len(seconds):
            return
        if seconds.max() > now_s:
            self._advance(int(seconds.max()))
        groups = self._groups_of(rows, seconds)
        self._count_totals(groups, rows)
        self._count_items(groups, rows)
        self._note_users(groups, rows, now_s)
        if len(self._totals) > self._totals_max:
            self._make_room(now_s)
        if len(self._kind_names) > KIND_NUMBERS_MAX:  # numbers are good for one count only, so they may begin anew
            self._kind_numbers, self._kind_names = {}, []

    def doubt(self, tenants: npt.NDArray[np.uint64], now_ms: int) -> None:
        """Something of these was counted in part or not at all: their numbers are not whole before the window has passed."""
        self._note_doubt(set(tenants.tolist()), now_ms // 1000)

    def look(self, tenant: int, kind: str, now_ms: int) -> Look:
        """The window as `tenant` sees it; `kind` empty means all kinds together."""
        now_s = now_ms // 1000
        self._advance(now_s)
        kinds = [kind] if kind else sorted(self._kinds.get(tenant, ()))
        everything = np.concatenate([_NONE, *(self._totals.values((tenant, each, "all"))[1] for each in kinds)])
        bots = np.concatenate([_NONE, *(self._totals.values((tenant, each, "bots"))[1] for each in kinds)])
        chart = self._totals.seconds.series(everything, range(now_s - CHART_S, now_s))
        return Look(
            time_ms=now_ms,
            events_per_second=chart.tolist(),
            events=int(chart[-1]),
            users=self._distinct(tenant, kinds, now_s - 1),
            top_items=self._top(tenant, kinds),
            countries=self._breakdown(tenant, kinds, "country"),
            devices=self._breakdown(tenant, kinds, "device"),
            window_events=int(self._totals.window.sums(everything).sum()),
            window_bots=int(self._totals.window.sums(bots).sum()),
            complete=self._told_whole_s(tenant) <= now_s,
        )

    def _advance(self, second: int) -> None:
        self._totals.advance(second)
        self._items.advance(second)

    def _forget_silent(self, now_s: int) -> None:
        self._swept_s = now_s
        self._totals.forget_silent()
        self._kinds = {}
        for (tenant, kind, _), _, _ in self._counters():
            self._kinds.setdefault(tenant, set()).add(kind)
        for tenant in [each for each in self._doubted_s if self._told_whole_s(each) <= now_s]:
            del self._doubted_s[tenant]

    def _make_room(self, now_s: int) -> None:
        """Forgets silent counters, then tenants, until a quarter is free."""
        self._forget_silent(now_s)
        excess = len(self._totals) - int(self._totals_max * (1 - FREED_SHARE))
        columns: Counter[int] = Counter()
        events: Counter[int] = Counter()
        for (tenant, _, dimension), count, total in self._counters():
            columns[tenant] += count
            events[tenant] += total if dimension == "all" else 0
        gone = set()
        for tenant in sorted(columns, key=lambda each: events[each] / columns[each]):
            if excess <= 0:
                break
            gone.add(tenant)
            excess -= columns[tenant]
        self._forget_tenants(gone, now_s)

    def _forget_tenants(self, gone: Set[int], now_s: int) -> None:
        self._totals.forget({name for name, _, _ in self._counters() if name[0] in gone})
        for tenant in gone:
            self._kinds.pop(tenant, None)
        self.forgotten += len(gone)
        self._note_doubt(gone, now_s)

    def _note_doubt(self, tenants: Set[int], now_s: int) -> None:
        self._doubted_s.update(dict.fromkeys(tenants, now_s))
        if len(self._doubted_s) > self._doubted_max:
            self._all_doubted_s, self._doubted_s = now_s, {}

    def _told_whole_s(self, tenant: int) -> int:
        """From when on the tenant's numbers are whole: what was forgotten or left out has left the window then."""
        return max(self._doubted_s.get(tenant, 0), self._all_doubted_s) + WINDOW_S + AHEAD_S_MAX

    def _counters(self) -> list[tuple[tuple[int, str, str], int, int]]:
        """The totals' groups (tenant, kind, dimension), their columns, and their counts in the window."""
        return cast(list[tuple[tuple[int, str, str], int, int]], self._totals.groups())

    def _groups_of(self, rows: Columns, seconds: npt.NDArray[np.int64]) -> "_Groups":
        """The rows by second, tenant and kind."""
        order = np.lexsort((rows.kinds, rows.tenants, seconds))
        starts = _starts(seconds[order], rows.tenants[order], rows.kinds[order])
        first = order[starts]
        tenants, kinds = rows.tenants[first].tolist(), rows.kinds[first].tolist()
        names = [
            (tenant, self._known(tenant, self._kind_names[kind])) for tenant, kind in zip(tenants, kinds, strict=True)
        ]
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
        return _Groups(names, seconds[first], numbers, np.split(order, starts[1:]))

    def _known(self, tenant: int, kind: str) -> str:
        """The kind, or the one that stands for all that are too many."""
        known = self._kinds.setdefault(tenant, set())
        if kind not in known and len(known) >= KINDS_MAX:
            kind = OTHER_KINDS
        known.add(kind)
        return kind

    def _count_totals(self, groups: "_Groups", rows: Columns) -> None:
        everything = np.arange(len(groups.names))
        self._add(self._totals, "all", groups, everything, np.zeros_like(everything), np.bincount(groups.numbers))
        for dimension, values, bits in ("country", rows.countries, 16), ("device", rows.devices, 8):
            codes, counts = _tally(groups.numbers << bits | values, len(everything) << bits)
            self._add(self._totals, dimension, groups, codes >> bits, codes & (1 << bits) - 1, counts)
        bots, counts = np.unique(groups.numbers[rows.bots], return_counts=True)
        if len(bots):
            self._add(self._totals, "bots", groups, bots, np.zeros_like(bots), counts)

    def _count_items(self, groups: "_Groups", rows: Columns) -> None:
        for number, places in enumerate(groups.places):
            items, counts = np.unique(rows.items[places], return_counts=True)
            self._add(self._items, "item", groups, np.full(len(items), number), items, counts)
        if len(self._items) > ITEMS_MAX:
            self._items.forget_quietest(0.25)

    def _add(
        self,
        rings: KeyedRings,
        dimension: str,
        groups: "_Groups",
        numbers: npt.NDArray[np.int64],
        values: npt.NDArray[Any],
        counts: npt.NDArray[np.int64],
    ) -> None:
        """Adds `counts` of `values` in the groups of these `numbers`, which ascend."""
        starts = _starts(numbers).tolist()
        runs = [
            (end - start, (*groups.names[numbers[start]], dimension))
            for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True)
        ]
        rings.add(groups.seconds[numbers], runs, values, counts)

    def _note_users(self, groups: "_Groups", rows: Columns, now_s: int) -> None:
        for second in [second for second in self._users if second <= now_s - USERS_S]:
            del self._users[second]
        for second, name, places in zip(groups.seconds.tolist(), groups.names, groups.places, strict=True):
            if second > now_s - USERS_S:
                self._users[second][name].append(rows.users[places])

    def _distinct(self, tenant: int, kinds: list[str], second: int) -> int:
        if second not in self._users:
            return 0
        by_kind = self._users[second]
        arrays = [array for kind in kinds for array in by_kind.get((tenant, kind), [])]
        # By sorting, since unique() looks each value up in a table: forty times slower for a busy second, and it is asked for at each look.
        return len(_starts(np.sort(np.concatenate(arrays)))) if arrays else 0

    def _top(self, tenant: int, kinds: list[str]) -> list[tuple[str, int, int]]:
        found: list[tuple[str, int, int]] = []
        for kind in kinds:
            items, columns = self._items.values((tenant, kind, "item"))
            sums = self._items.seconds.sums(columns, CHART_S)
            order = np.argsort(-sums, kind="stable")[:TOP_ITEMS]
            found += [(kind, items[place], int(sums[place])) for place in order if sums[place]]
        return sorted(found, key=lambda each: -each[2])[:TOP_ITEMS]

    def _breakdown(self, tenant: int, kinds: list[str], dimension: str) -> dict[int, int]:
        found: Counter[int] = Counter()
        for kind in kinds:
            values, columns = self._totals.values((tenant, kind, dimension))
            found.update(dict(zip(values, self._totals.seconds.sums(columns, CHART_S).tolist(), strict=True)))
        return {value: count for value, count in found.items() if count}


@dataclass(frozen=True, slots=True)
class _Groups:
    """Rows by second, tenant and kind: what each group is, the group of each row, and the rows of each group."""

    names: list[tuple[int, str]]
    seconds: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    places: list[npt.NDArray[np.int64]]


def _starts(*sorted_columns: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where a new group begins in columns that are sorted together."""
    changes = np.zeros(len(sorted_columns[0]), np.bool_)
    changes[:1] = True
    for column in sorted_columns:
        changes[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changes)


def _tally(codes: npt.NDArray[np.int64], end: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which codes below `end` there are, ascending, and how often each comes."""
    if end > 16 * len(codes):
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes)
    found = np.flatnonzero(counts)
    return found, counts[found]
