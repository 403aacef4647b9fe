"""The live window: what happened in the last fifteen minutes, counted as frames arrive.

A frame is counted once, however often it comes: frames are named by (producer, partition, sequence) and offsets only go up. Counts
are kept by the second in which an event happened, so a frame that waited in a journal still lands where it belongs. Distinct users
of a second are exact, since all frames with one user are in one partition and all partitions of a process meet here.
"""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from groundswell.analytics.model.items import Items
from groundswell.analytics.model.people import People, Second
from groundswell.analytics.model.rings import KeyedRings
from groundswell.analytics.model.rows import Columns, Groups, starts

SECONDS = 130
WINDOW_S = 900
TOTALS_MAX = 100_000
"""Counters of a process, each of a tenant's kind and country, device or the like, which are 900 bytes. Past it tenants are forgotten as a
whole, first those that count least with each of theirs, until a quarter is free; none of their numbers is told as complete before a window
later. Counters that were silent for a window go anyway, and a kind with them."""
FREED_SHARE = 0.25
SWEEP_S = 60
DOUBTED_MAX = 100_000
"""Tenants of whom something was forgotten or left out that are told apart; past it nobody's numbers are complete for a window."""
SETTLED_S = 2
"""How long ago a second begins that is told by its users. It is told once, and its events have come by then unless something is behind."""
AHEAD_S_MAX = 1
"""Events further ahead of this clock are counted now: a wrong clock must not move the window."""
BACK_S_MAX = 5
"""A clock that is set back by more has the window begin anew, as all that it holds then happened later than now: nobody's numbers are told
as complete before a window later. By less it is waited for."""
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

    def __init__(
        self, totals_max: int = TOTALS_MAX, doubted_max: int = DOUBTED_MAX, items: Items | None = None
    ) -> None:
        self._totals_max, self._doubted_max = totals_max, doubted_max
        self._head_s = self._swept_s = 0
        self._doubted_s: dict[int, int] = {}
        self._all_doubted_s = 0
        self.forgotten = 0
        """Tenants that were forgotten, each as often as it was."""
        self._totals: KeyedRings[tuple[int, str, str]] = KeyedRings(SECONDS, WINDOW_S)
        self._items = Items(CHART_S, WINDOW_S) if items is None else items
        self._people = People()
        self._kind_numbers: dict[str, int] = {}
        self._kind_names: list[str] = []
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
        now_s = self._follow(now_ms)
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
        self._items.count(groups, rows.items)
        self._people.note(groups, rows, now_s)
        if len(self._totals) > self._totals_max:
            self._make_room(now_s)
        if len(self._kind_names) > KIND_NUMBERS_MAX:  # numbers are good for one count only, so they may begin anew
            self._kind_numbers, self._kind_names = {}, []

    def doubt(self, tenants: npt.NDArray[np.uint64], now_ms: int) -> None:
        """Something of these was counted in part or not at all: their numbers are not whole before the window has passed."""
        self._note_doubt(set(tenants.tolist()), self._follow(now_ms))

    def doubt_all(self, now_ms: int) -> None:
        """Nobody's numbers are whole before the window has passed."""
        self._all_doubted_s, self._doubted_s = self._follow(now_ms), {}

    def look(self, tenant: int, kind: str, now_ms: int) -> Look:
        """The window as `tenant` sees it; `kind` empty means all kinds together."""
        now_s = self._follow(now_ms)
        kinds = self._asked(tenant, kind)
        everything = np.concatenate([_NONE, *(self._totals.values((tenant, each, "all"))[1] for each in kinds)])
        bots = np.concatenate([_NONE, *(self._totals.values((tenant, each, "bots"))[1] for each in kinds)])
        chart = self._totals.seconds.series(everything, range(now_s - CHART_S, now_s))
        return Look(
            time_ms=now_ms,
            events_per_second=chart.tolist(),
            events=int(chart[-1]),
            users=self._people.users(tenant, kinds, now_s - 1),
            top_items=self._top(tenant, kinds),
            countries=self._breakdown(tenant, kinds, "country"),
            devices=self._breakdown(tenant, kinds, "device"),
            window_events=int(self._totals.window.sums(everything).sum()),
            window_bots=int(self._totals.window.sums(bots).sum()),
            complete=self._told_whole_s(tenant) <= now_s,
        )

    def second(self, tenant: int, kind: str, now_ms: int) -> Second:
        """The second that began `SETTLED_S` ago as `tenant` sees it, with the items that the page shows. It is work: see `People.tell`."""
        kinds = self._asked(tenant, kind)
        items = [(each, item) for each, item, _ in self._top(tenant, kinds)]
        return self._people.tell(tenant, kinds, now_ms // 1000 - SETTLED_S, items)

    def _asked(self, tenant: int, kind: str) -> list[str]:
        return [kind] if kind else sorted(self._kinds.get(tenant, ()))

    def _follow(self, now_ms: int) -> int:
        """Makes this second the newest and returns it, with a window that begins anew where the clock was set back."""
        now_s = now_ms // 1000
        if now_s < self._head_s - BACK_S_MAX:
            self._begin_anew(now_s)
        self._advance(now_s)
        return now_s

    def _begin_anew(self, now_s: int) -> None:
        """Forgets what was counted, but not which frames and batches were."""
        self._head_s = self._swept_s = now_s
        self._totals, self._people, self._kinds = KeyedRings(SECONDS, WINDOW_S), People(), {}
        self._items.forget_all()
        self._all_doubted_s, self._doubted_s = now_s, {}

    def _advance(self, second: int) -> None:
        self._head_s = max(self._head_s, second)
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
        return self._totals.groups()

    def _groups_of(self, rows: Columns, seconds: npt.NDArray[np.int64]) -> Groups:
        """The rows by second, tenant and kind."""
        order = np.lexsort((rows.kinds, rows.tenants, seconds))
        begins = starts(seconds[order], rows.tenants[order], rows.kinds[order])
        first = order[begins]
        tenants, kinds = rows.tenants[first].tolist(), rows.kinds[first].tolist()
        names = [
            (tenant, self._known(tenant, self._kind_names[kind])) for tenant, kind in zip(tenants, kinds, strict=True)
        ]
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(order)))
        return Groups(names, seconds[first], numbers, order, begins)

    def _known(self, tenant: int, kind: str) -> str:
        """The kind, or the one that stands for all that are too many."""
        known = self._kinds.setdefault(tenant, set())
        if kind not in known and len(known) >= KINDS_MAX:
            kind = OTHER_KINDS
        known.add(kind)
        return kind

    def _count_totals(self, groups: Groups, rows: Columns) -> None:
        everything = np.arange(len(groups.names))
        self._add("all", groups, everything, np.zeros_like(everything), np.bincount(groups.numbers))
        for dimension, values, bits in ("country", rows.countries, 16), ("device", rows.devices, 8):
            codes, counts = _tally(groups.numbers << bits | values, len(everything) << bits)
            self._add(dimension, groups, codes >> bits, codes & (1 << bits) - 1, counts)
        bots, counts = np.unique(groups.numbers[rows.bots], return_counts=True)
        if len(bots):
            self._add("bots", groups, bots, np.zeros_like(bots), counts)

    def _add(
        self,
        dimension: str,
        groups: Groups,
        numbers: npt.NDArray[np.int64],
        values: npt.NDArray[Any],
        counts: npt.NDArray[np.int64],
    ) -> None:
        """Adds `counts` of `values` in the groups of these `numbers`, which ascend."""
        first = starts(numbers).tolist()
        runs = [
            (end - start, (*groups.names[numbers[start]], dimension))
            for start, end in zip(first, [*first[1:], len(numbers)], strict=True)
        ]
        self._totals.add(groups.seconds[numbers], runs, values, counts)

    def _top(self, tenant: int, kinds: list[str]) -> list[tuple[str, int, int]]:
        return self._items.top([(tenant, kind) for kind in kinds], TOP_ITEMS)

    def _breakdown(self, tenant: int, kinds: list[str], dimension: str) -> dict[int, int]:
        found: Counter[int] = Counter()
        for kind in kinds:
            values, columns = self._totals.values((tenant, kind, dimension))
            found.update(dict(zip(values, self._totals.seconds.sums(columns, CHART_S).tolist(), strict=True)))
        return {value: count for value, count in found.items() if count}


def _tally(codes: npt.NDArray[np.int64], end: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which codes below `end` there are, ascending, and how often each comes."""
    if end > 16 * len(codes):
        return np.unique(codes, return_counts=True)
    counts = np.bincount(codes)
    found = np.flatnonzero(counts)
    return found, counts[found]
