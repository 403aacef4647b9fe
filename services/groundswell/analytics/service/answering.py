"""Answers from the store: questions within limits, and the books.

A question has a place from when it is asked until the store is done with it, also when its caller is long gone: else who asks and hangs
up, again and again, has any number of them running. Of a tenant's places only some are at work at a time, so that one tenant's questions
never take all threads. And a caller hears of a bound before the own time is over: the wait here ends before the one around it.
"""

import asyncio
import math
from dataclasses import dataclass
from functools import partial

from groundswell.analytics import errors
from groundswell.analytics.model import questions
from groundswell.analytics.model.questions import Question
from groundswell.analytics.store import schema
from groundswell.analytics.store.books import Books, BookStore
from groundswell.analytics.store.queries import Found, QueryStore
from groundswell.kernel.clickhouse import StoreOverloaded
from groundswell.kernel.clock import Clock
from groundswell.kernel.context import Context
from groundswell.kernel.errors import DeadlineExceeded

BOOKS_S = 0.5
"""How long books are told again instead of read: many watch, and they change no faster than ranges are stored."""
BOOKS_REST, BOOKS_S_MAX = 2.0, 4.0
"""The same as a multiple of the time that the reading took, and the bound of that: the more a tenant has, the less often it is added up."""
TENANTS_MAX = 1_000
LEAVE_S = 0.5
"""What a question leaves of its caller's time, or half of it where there is less than a second."""


@dataclass(slots=True)
class _Places:
    """A tenant's questions that the store is not done with, and whose turn it is."""

    turns: asyncio.Semaphore
    taken: int = 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """A reading of one tenant's books, under way or done."""

    books: asyncio.Future[tuple[Books, float]]

    def is_over(self, now_s: float) -> bool:
        """Whether it is to be read anew: it failed, or is too old."""
        return self.books.done() and (self.books.exception() is not None or now_s > self.books.result()[1])


class Answering:
    """Answers callers; each sees its own tenant."""

    def __init__(self, queries: QueryStore, books: BookStore, clock: Clock, at_once: int, threads: int) -> None:
        """`at_once` questions a tenant are taken; of the `threads` that answer, one tenant gets half."""
        self._queries, self._books, self._clock = queries, books, clock
        self._at_once, self._at_work = at_once, max(1, threads // 2)
        self._places: dict[int, _Places] = {}
        self._known: dict[tuple[int, bool], _Reading] = {}

    async def ask(self, context: Context, question: Question) -> Found:
        """Raises `QueryInvalid`, `QueryTooExpensive`, `TooManyQueries`."""
        tenant = context.require_tenant()
        checked = questions.checked(question, self._clock.now_ms())
        until_s = self._until_s(context)
        asked = self._placed(tenant, checked, until_s)
        try:
            await asyncio.wait([asked], timeout=until_s - self._clock.monotonic_s())
        finally:
            asked.cancel()  # of one that is answered nothing is left to cancel
        if not asked.done():
            raise errors.QueryTooExpensive
        try:
            return asked.result()
        except (DeadlineExceeded, StoreOverloaded) as error:
            raise errors.QueryTooExpensive from error

    async def books(self, context: Context, *, rolled: bool = True) -> Books:
        """The tenant's books, with the rollups if they are to be `rolled` too. They are half a second old, or where they take their time at
        most `BOOKS_S_MAX`; callers at the same time share one reading."""
        key = context.require_tenant(), rolled
        known = self._known.get(key)
        if known is None or known.is_over(self._clock.monotonic_s()):
            if len(self._known) >= TENANTS_MAX:
                self._known.clear()
            known = self._known[key] = _Reading(asyncio.ensure_future(self._read(*key)))
        return (await asyncio.shield(known.books))[0]

    async def _read(self, tenant: int, rolled: bool) -> tuple[Books, float]:
        """The books, and until when they are told again."""
        began_s = self._clock.monotonic_s()
        books = await self._books.read(tenant, schema.ROLLUPS if rolled else ())
        ended_s = self._clock.monotonic_s()
        return books, max(began_s + BOOKS_S, ended_s + min(BOOKS_REST * (ended_s - began_s), BOOKS_S_MAX))

    def _until_s(self, context: Context) -> float:
        """Until when there is an answer, or a word why not."""
        if context.deadline_s is None:
            return math.inf
        left_s = context.deadline_s - self._clock.monotonic_s()
        return context.deadline_s - min(LEAVE_S, left_s / 2)

    def _placed(self, tenant: int, question: Question, until_s: float) -> asyncio.Task[Found]:
        places = self._places.setdefault(tenant, _Places(asyncio.Semaphore(self._at_work)))
        if places.taken >= self._at_once:
            raise errors.TooManyQueries(self._at_once)
        places.taken += 1
        asked = asyncio.create_task(self._answer(places, tenant, question, until_s))
        asked.add_done_callback(partial(self._left, tenant, places))
        return asked

    async def _answer(self, places: _Places, tenant: int, question: Question, until_s: float) -> Found:
        async with places.turns:
            return await self._queries.answer(tenant, question, until_s - self._clock.monotonic_s())

    def _left(self, tenant: int, places: _Places, asked: asyncio.Task[Found]) -> None:
        """Frees the place of a question that has ended; how, nobody may be left to hear."""
        if not asked.cancelled():
            asked.exception()
        places.taken -= 1
        if not places.taken:
            del self._places[tenant]
