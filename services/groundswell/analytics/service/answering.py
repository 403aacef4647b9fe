"""Answers from the store: questions within limits, and the books."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from groundswell.analytics import errors
from groundswell.analytics.model import questions
from groundswell.analytics.model.questions import Question
from groundswell.analytics.store.books import Books, BookStore
from groundswell.analytics.store.queries import Found, QueryStore
from groundswell.kernel.clickhouse import StoreOverloaded
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context
from groundswell.kernel.errors import DeadlineExceeded

BOOKS_S = 0.5
"""How long books are told again instead of read: many watch, and they change no faster than ranges are stored."""
TENANTS_MAX = 1_000


class Answering:
    """Answers callers; each sees its own tenant."""

    def __init__(self, queries: QueryStore, books: BookStore, clock: Clock, at_once: int) -> None:
        self._queries, self._books, self._clock, self._at_once = queries, books, clock, at_once
        self._running: defaultdict[int, int] = defaultdict(int)
        self._known: dict[int, tuple[float, asyncio.Future[Books]]] = {}

    async def ask(self, context: Context, question: Question) -> Found:
        """Raises `QueryInvalid`, `QueryTooExpensive`, `TooManyQueries`."""
        tenant = context.require_tenant()
        checked = questions.checked(question, self._clock.now_ms())
        async with self._slot(tenant):
            try:
                return await self._queries.answer(tenant, checked)
            except (DeadlineExceeded, StoreOverloaded) as error:
                raise errors.QueryTooExpensive from error

    async def books(self, context: Context) -> Books:
        """The tenant's books, at most half a second old; callers at the same time share one reading."""
        tenant = context.require_tenant()
        known = self._known.get(tenant)
        if known is None or (known[1].done() and (self._clock.monotonic_s() > known[0] or known[1].exception())):
            if len(self._known) >= TENANTS_MAX:
                self._known.clear()
            reading = asyncio.ensure_future(self._books.read(tenant))
            known = self._known[tenant] = self._clock.monotonic_s() + BOOKS_S, reading
        return await asyncio.shield(known[1])

    @asynccontextmanager
    async def _slot(self, tenant: int) -> AsyncIterator[None]:
        if self._running[tenant] >= self._at_once:
            raise errors.TooManyQueries(self._at_once)
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
