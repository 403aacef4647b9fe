"""Rollups: what is stored, grouped by second, minute, hour and item, under the same protocol as the rows themselves.

The group's offset says how far the rollups are; its intent, what range is being added. After a range is in every rollup, the
absolute totals of the items that it touched are published, at once or, while more comes, with those of the next ranges, and the note
`T:x` moves on; after a crash everything since x is published again, which changes nothing where it had arrived.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from prometheus_client import Gauge

from groundswell.analytics.consumers.writer import PASSING, RETRY_S
from groundswell.analytics.model import intents
from groundswell.analytics.settings import WriterSettings
from groundswell.analytics.store.ranges import Range, RangeStore
from groundswell.analytics.store.rollups import RollupStore, Total
from groundswell.kernel import failpoints
from groundswell.kernel.bus.intents import Mark, Membership

log = logging.getLogger(__name__)

GROUP = "analytics.rollups"
OFFSETS_MAX = 2_000
"""Offsets that one rollup takes at most: up to 16 million rows."""
REST = 8.0
"""The pause after a rollup, as a multiple of the time that it took: the busier the machine, the more rows share a rollup."""
REST_S_MAX = 8.0
QUIET_S = 0.5
"""A pause ends when nothing more was stored for so long: it would gather nothing."""
TOTALS_REST = 10.0
"""The pause after totals were published, as a multiple of the time that it took. A total stands for all that came before it, so what is
published less often is less: with one hot item nobody notices, with a million items the log is spared."""
TOTALS_REST_S_MAX = 10.0

BEHIND = Gauge("groundswell_rollups_offsets_behind", "Stored offsets that no rollup holds yet.", ["partition"])

Publish = Callable[[Sequence[Total]], Awaitable[None]]
"""Publishes absolute totals; returns when the log has them."""


@dataclass(slots=True)
class _Place:
    """Where one partition stands: the first offset not rolled up, and the first whose totals are not published."""

    next: int
    totals: int

    def mark(self) -> Mark:
        return Mark(self.next, str(intents.Note(totals=self.totals)))


class Rollups:
    """Rolls up the partitions that the group gives to this process."""

    def __init__(
        self, membership: Membership, ranges: RangeStore, rollups: RollupStore, config: WriterSettings, publish: Publish
    ) -> None:
        self._membership, self._ranges, self._rollups = membership, ranges, rollups
        self._config, self._publish = config, publish
        self._places: dict[int, _Place] = {}
        self._totals_rest_until_s = 0.0

    async def run(self) -> None:
        """Rolls up until cancelled."""
        rest_s = 0.0
        async with self._membership.joined():
            while True:
                try:
                    await self._membership.records(self._config.rollup_ms / 1000)
                    await self._gather(rest_s - self._config.rollup_ms / 1000)
                    began_s = time.monotonic()
                    async with self._membership.turn():
                        await self._cycle()
                    rest_s = min(REST * (time.monotonic() - began_s), REST_S_MAX)
                except PASSING as error:
                    log.warning("the rollups read their marks again: %r", error)
                    self._membership.restart()
                    await asyncio.sleep(RETRY_S)

    async def _gather(self, rest_s: float) -> None:
        """Lets more come for so long, while more does come."""
        until_s = time.monotonic() + rest_s
        before = {partition: place.next - 1 for partition, place in self._places.items()}
        while (left_s := until_s - time.monotonic()) > 0:
            await self._membership.records(min(left_s, QUIET_S))
            stored = await self._stored()
            if all(newest == before[partition] for partition, newest in stored.items()):
                return
            before |= stored

    async def _cycle(self) -> None:
        if self._membership.fresh:
            await self._recover(sorted(self._membership.fresh))
        due = await self._due()
        if due:
            await self._roll_up(due)
        if not due or time.monotonic() >= self._totals_rest_until_s:
            await self._publish_totals(sorted(self._membership.partitions))

    async def _stored(self) -> dict[int, int]:
        """The last offset of each partition that has some to roll up."""
        owned = sorted(self._membership.partitions - self._membership.fresh)
        return await self._ranges.newest({partition: self._places[partition].next for partition in owned})

    async def _due(self) -> list[Range]:
        """What is stored and not rolled up, of each partition as much as one rollup takes."""
        stored, due = await self._stored(), []
        for partition in sorted(self._membership.partitions):
            first = self._places[partition].next
            newest = stored.get(partition, first - 1)
            BEHIND.labels(str(partition)).set(newest + 1 - first)
            if newest >= first:
                due.append(Range(partition, first, min(newest, first + OFFSETS_MAX - 1)))
        return due

    async def _roll_up(self, due: Sequence[Range]) -> None:
        notes = {}
        for of in due:
            note = intents.Note((of.first, of.last), self._places[of.partition].totals)
            notes[of.partition] = Mark(of.first, str(note))
        await self._membership.commit(notes, intent=True)
        failpoints.reach("writer.rollup_after_intent")
        async with self._rollups.adding:
            await self._rollups.write(due)
        for of in due:
            self._places[of.partition].next = of.last + 1
        await self._membership.commit({of.partition: self._places[of.partition].mark() for of in due})
        failpoints.reach("writer.rollup_after_commit")

    async def _publish_totals(self, partitions: Sequence[int]) -> None:
        places = {p: self._places[p] for p in partitions}
        due = [Range(p, place.totals, place.next - 1) for p, place in places.items() if place.totals < place.next]
        if not due:
            return
        failpoints.reach("writer.before_totals")
        began_s = time.monotonic()
        await self._publish(await self._rollups.totals(due))
        failpoints.reach("writer.after_totals")
        ended_s = time.monotonic()
        self._totals_rest_until_s = ended_s + min(TOTALS_REST * (ended_s - began_s), TOTALS_REST_S_MAX)
        for of in due:
            self._places[of.partition].totals = of.last + 1
        await self._membership.commit({of.partition: self._places[of.partition].mark() for of in due})

    async def _recover(self, partitions: Sequence[int]) -> None:
        """Finds where the partitions stand, and adds to each rollup what it lacks: of a range that a predecessor had begun, and of
        everything before it that writers of an earlier version left out, since they did not know the rollup."""
        lacking_from = await self._rollups.lacking_from()
        gaps: list[Range] = []
        for partition in partitions:
            mark = await self._membership.mark(partition) or Mark(0)
            note = intents.parse(mark.note)
            first = lacking_from.get(partition, mark.offset)
            place = _Place(max(mark.offset, first), note.totals or 0)
            if note.intent is not None:
                place.next = max(place.next, note.intent[1] + 1)
            self._places[partition] = place
            if first < place.next:
                gaps.append(Range(partition, first, place.next - 1))
        if gaps:
            log.info("rolled up again: %s", ", ".join(map(str, gaps)))
        for due in _rounds(gaps):
            async with self._rollups.adding:
                await self._rollups.write_again(due)
        await self._membership.commit({partition: self._places[partition].mark() for partition in partitions})
        for partition in partitions:
            self._membership.ready(partition, self._places[partition].next)


def _rounds(gaps: Sequence[Range]) -> list[list[Range]]:
    """Each gap in order, no more of it at once than one rollup takes; gaps of different partitions beside each other."""
    pieces = [
        [
            Range(gap.partition, first, min(first + OFFSETS_MAX - 1, gap.last))
            for first in range(gap.first, gap.last + 1, OFFSETS_MAX)
        ]
        for gap in gaps
    ]
    return [[piece for piece in each if piece is not None] for each in zip_longest(*pieces)]
