"""Visits of links with `max_visits`: exact, because PostgreSQL counts them, and quick, because visitors who wait share an update.

While one update of a link runs, those who come after it queue, and the next update spends all their visits at once; a link has one
update under way in a process, however many visitors. A visitor who is told to go on has a visit that is spent in the database, so no
crash and no cache makes more of them than there are; a crash in between may make fewer.
"""

import asyncio

from groundswell.kernel import context, errors, postgres
from groundswell.links.model.links import Target
from groundswell.links.service.bulkhead import Bulkhead, told_by
from groundswell.links.store.links import LinkStore

WAITING_MAX = 1_000
"""Visitors of one link who may wait in one process."""

_Visitor = asyncio.Future[bool]


class Visits:
    """Spends visits of bounded links."""

    def __init__(self, database: postgres.Database, bulkhead: Bulkhead) -> None:
        self._database = database
        self._bulkhead = bulkhead
        self._waiting: dict[int, list[_Visitor]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def spend(self, target: Target, until_s: float) -> bool:
        """Whether this visitor got one of the link's visits; raises `Unavailable` when nobody can say by `until_s` (the loop's clock)."""
        visitor: _Visitor = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(target.link)
        if waiting is None:
            self._waiting[target.link] = [visitor]
            task = asyncio.create_task(self._serve(target))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        elif len(waiting) >= WAITING_MAX:
            raise errors.Unavailable("Too many visitors wait for this link. Try again in a second.")
        else:
            waiting.append(visitor)
        async with told_by(until_s):
            return await visitor

    async def _serve(self, target: Target) -> None:
        """Serves the visitors of one link until none waits."""
        try:
            while visitors := [each for each in self._waiting[target.link] if not each.done()]:
                self._waiting[target.link] = []
                await self._spend_for(target, visitors)
        finally:
            for visitor in self._waiting.pop(target.link):
                visitor.cancel()

    async def _spend_for(self, target: Target, visitors: list[_Visitor]) -> None:
        try:
            async with (
                self._bulkhead.entered(),
                self._database.tenant_tx(context.service("links", target.tenant)) as tx,
            ):
                granted = await LinkStore(tx).count_visits(target.link, len(visitors))
        except Exception as error:  # each visitor gets the failure as its own answer
            for visitor in visitors:
                if not visitor.done():
                    visitor.set_exception(error)
            return
        for number, visitor in enumerate(visitors):
            if not visitor.done():
                visitor.set_result(number < granted)
