"""Rollups: what is stored, grouped by second, minute, hour and item, under the same protocol as the rows themselves.

The group's offset says how far the rollups are; its intent, what range is being added. After a range is in every rollup, the
absolute totals of the items that it touched are published, at once or, while more comes, with those of the next ranges, and the note
`T:x` moves on; after a crash everything since x is published again, which changes nothing where it had arrived. Where the group's offsets
are forgotten, as they are when nobody was a member for a week, x is the oldest offset that the store has. However much there is to
publish, a turn takes as many offsets as a rollup, and the note moves after each; while a turn leaves some over, the next comes at once,
since the newest totals come last.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

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
        rest_s, left_over = 0.0, False
        async with self._membership.joined():
            while True:
                try:
                    wait_s = 0.0 if left_over else self._config.rollup_ms / 1000
                    await self._membership.records(wait_s)
                    await self._gather(rest_s - wait_s)
                    began_s = time.monotonic()
                    async with self._membership.turn():
                        left_over = await self._cycle()
                    resting = not (left_over or self._membership.fresh)
                    rest_s = min(REST * (time.monotonic() - began_s), REST_S_MAX) if resting else 0.0
                except PASSING as error:
                    left_over = False
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

    async def _cycle(self) -> bool:
        """One turn; returns whether it left totals over that wait for nothing but the next one."""
        if self._membership.fresh:
            await self._recover(sorted(self._membership.fresh))
        due = await self._due()
        if due:
            await self._roll_up(due)
        if time.monotonic() >= self._totals_rest_until_s or not (due and await self._due()):
            return await self._publish_totals(self._owned())
        return False

    async def _stored(self) -> dict[int, int]:
        """The last offset of each partition that has some to roll up."""
        return await self._ranges.newest({partition: self._places[partition].next for partition in self._owned()})

    def _owned(self) -> list[int]:
        """The partitions of which it is known where they stand."""
        return sorted(self._membership.partitions - self._membership.fresh)

    async def _due(self) -> list[Range]:
        """What is stored and not rolled up, of each partition as much as one rollup takes."""
        stored, due = await self._stored(), []
        for partition in self._owned():
            first = self._places[partition].next
            newest = stored.get(partition, first - 1)
            BEHIND.labels(str(partition)).set(newest + 1 - first)
            if newest >= first:
                due.append(Range(partition, first, min(newest, first + self._config.rollup_offsets_max - 1)))
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

    async def _publish_totals(self, partitions: Sequence[int]) -> bool:
        """Publishes a piece of each partition's; returns whether there is more."""
        places = {p: self._places[p] for p in partitions}
        due = [
            Range(p, place.totals, min(place.next, place.totals + self._config.rollup_offsets_max) - 1)
            for p, place in places.items()
            if place.totals < place.next
        ]
        if not due:
            return False
        failpoints.reach("writer.before_totals")
        began_s = time.monotonic()
        await self._publish(await self._rollups.totals(due))
        failpoints.reach("writer.after_totals")
        for of in due:
            self._places[of.partition].totals = of.last + 1
        left_over = any(place.totals < place.next for place in places.values())
        if not left_over:
            ended_s = time.monotonic()
            self._totals_rest_until_s = ended_s + min(TOTALS_REST * (ended_s - began_s), TOTALS_REST_S_MAX)
        await self._membership.commit({of.partition: self._places[of.partition].mark() for of in due})
        return left_over

    async def _recover(self, partitions: Sequence[int]) -> None:
        """Finds where the partitions stand, and adds to rollups the next of what they lack: of a range that a predecessor had begun, and
        of all before it that writers of an earlier version left out, since they did not know the rollup.

        Totals of a group whose offsets are forgotten begin where the store does; of a partition of which the store holds no frame any more,
        none can be told from raw rows, and they begin where its rollups end.

        What is lacking may take hours, so a turn adds one piece of it, and only while the partition is still ours at its unchanged mark.
        The partition stays fresh until nothing is lacking. While the store still works at a predecessor's statement nothing is added,
        since nobody can see what that is about to add.
        """
        marks = {partition: await self._membership.mark(partition) or Mark(0) for partition in partitions}
        busy = await self._rollups.under_way(partitions)
        lacking_from = await self._rollups.lacking_from()
        forgotten = any(intents.parse(mark.note).totals is None for mark in marks.values())
        oldest = await self._ranges.oldest() if forgotten else {}
        due: list[Range] = []
        whole: dict[int, _Place] = {}
        for partition in set(partitions) - busy:
            mark = marks[partition]
            note = intents.parse(mark.note)
            first = lacking_from.get(partition, mark.offset)
            end = max(mark.offset, first, note.intent[1] + 1 if note.intent is not None else 0)
            place = _Place(end, note.totals if note.totals is not None else oldest.get(partition, end))
            if first < place.next:
                due.append(Range(partition, first, min(place.next, first + self._config.rollup_offsets_max) - 1))
                BEHIND.labels(str(partition)).set(place.next - first)
            else:
                whole[partition] = place
        if whole:
            await self._begin(whole)
        if due:
            await self._roll_up_again(due, marks)

    async def _begin(self, places: Mapping[int, _Place]) -> None:
        """From now on the partitions are rolled up from here on."""
        await self._membership.commit({partition: place.mark() for partition, place in places.items()})
        self._places.update(places)
        for partition, place in places.items():
            self._membership.ready(partition, place.next)

    async def _roll_up_again(self, due: Sequence[Range], marks: Mapping[int, Mark]) -> None:
        await self._membership.commit({of.partition: marks[of.partition] for of in due}, intent=True)
        log.info("rolled up again: %s", ", ".join(map(str, due)))
        async with self._rollups.adding:
            await self._rollups.write_again(due)
