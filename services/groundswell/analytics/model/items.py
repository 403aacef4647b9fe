"""How often each item came: the busiest of each tenant, whatever other tenants do.

A tenant that has many more than `ITEMS_MAX` loses its own quietest. When the process is full, items are taken from who has most: each
tenant keeps its first, then each its second, and so on while there is room. So nobody's flood costs another tenant an item that is among as
many of its busiest as would be an equal share of the room.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from groundswell.analytics.model.rings import KeyedRings
from groundswell.analytics.model.rows import Groups, Places, starts

ITEMS_MAX = 50_000
"""Busiest items of a tenant; once it has a quarter more, that is forgotten. Totals are not touched by that."""
PROCESS_ITEMS_MAX = 200_000
"""Items of all tenants together, which are 200 MB then; past it a quarter is forgotten."""
FORGOTTEN_SHARE = 0.25
STEP = 16_384
"""Items that are added before it is looked whether there are too many."""

Group = tuple[int, str]


class Items:
    """Counts of items by tenant and kind: of `chart_s` by the second, and of the window, by which the quietest are found."""

    def __init__(
        self, chart_s: int, window_s: int, tenant_max: int = ITEMS_MAX, process_max: int = PROCESS_ITEMS_MAX
    ) -> None:
        self._tenant_max, self._process_max = tenant_max, process_max
        self._chart_s, self._window_s = chart_s, window_s
        self.forget_all()

    def __len__(self) -> int:
        return len(self._rings)

    def held(self, tenant: int) -> int:
        """How many items of the tenant are known."""
        return sum(self._rings.size(group) for group in self._groups.get(tenant, ()))

    def forget_all(self) -> None:
        """Begins anew, at whatever second is told next."""
        self._rings: KeyedRings[Group] = KeyedRings(self._chart_s, self._window_s)
        self._groups: dict[int, set[Group]] = {}

    def advance(self, second: int) -> None:
        self._rings.advance(second)

    def count(self, groups: Groups, items: npt.NDArray[np.uint64]) -> None:
        """Counts the items of all rows."""
        items = items[groups.order]
        for part in np.split(items, groups.starts[1:]):
            part.sort()
        numbers = np.repeat(np.arange(len(groups.names)), groups.lengths())
        first = starts(numbers, items)
        counts, numbers, items = np.diff(first, append=len(items)), numbers[first], items[first]
        for start in range(0, len(items), STEP):
            step = slice(start, start + STEP)
            self._add(groups, numbers[step], items[step], counts[step])

    def top(self, groups: Sequence[Group], most: int) -> list[tuple[str, int, int]]:
        """(kind, item, how often it came in the last `chart_s`) of the items that came most often, most first."""
        numbers, items, columns = self._rings.keys(groups)
        sums = self._rings.seconds.sums(columns)
        least = max(1, int(np.partition(sums, -most)[-most])) if len(sums) > most else 1
        busy = np.flatnonzero(sums >= least)
        order = busy[np.argsort(-sums[busy], kind="stable")[:most]]
        return [(groups[numbers[place]][1], items[place], int(sums[place])) for place in order]

    def _add(self, groups: Groups, numbers: Places, items: npt.NDArray[np.uint64], counts: Places) -> None:
        first = starts(numbers)
        runs = [
            (length, groups.names[number])
            for number, length in zip(
                numbers[first].tolist(), np.diff(first, append=len(numbers)).tolist(), strict=True
            )
        ]
        grown = self._rings.add(groups.seconds[numbers], runs, items, counts)
        for group in grown:
            self._groups.setdefault(group[0], set()).add(group)
        if len(self._rings) > self._tenant_max:
            self._make_room({tenant for tenant, _ in grown})

    def _make_room(self, grown: set[int]) -> None:
        for tenant in grown:
            if self.held(tenant) > self._tenant_max * (1 + FORGOTTEN_SHARE):
                self._keep_busiest(list(self._groups[tenant]), self._tenant_max)
        if len(self._rings) > self._process_max:
            every = [group for groups in self._groups.values() for group in groups]
            self._keep_busiest(every, int(self._process_max * (1 - FORGOTTEN_SHARE)))

    def _keep_busiest(self, groups: Sequence[Group], kept: int) -> None:
        """Forgets items of these groups until `kept` are left: the busiest of each tenant, of all as many while they have them."""
        numbers, items, columns = self._rings.keys(groups)
        sums = self._rings.window.sums(columns)
        tenants = np.array([tenant for tenant, _ in groups], np.uint64)[numbers]
        order = np.lexsort((-sums, tenants))
        first = starts(tenants[order])
        ranks = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
        last = np.lexsort((-sums[order], ranks, sums[order] == 0))  # what did not come within the window goes first
        gone = np.sort(order[last[kept:]])
        self._forget(groups, numbers[gone], [items[place] for place in gone.tolist()])

    def _forget(self, groups: Sequence[Group], numbers: Places, items: Sequence[int]) -> None:
        first = starts(numbers)
        for start, end in zip(first.tolist(), [*first[1:].tolist(), len(items)], strict=True):
            group = groups[numbers[start]]
            self._rings.drop(group, items[start:end])
            if not self._rings.size(group):
                self._forget_group(group)

    def _forget_group(self, group: Group) -> None:
        self._groups[group[0]].discard(group)
        if not self._groups[group[0]]:
            del self._groups[group[0]]
