"""Generated codes, drawn from leased blocks of sequence numbers.

A process leases 10,000 numbers of a domain and length in one short transaction and then draws codes without asking anybody, so
creation has no central counter. What a process leaves of its block when it ends is never used: 62^7 codes can bear it.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from groundswell.kernel import context, postgres
from groundswell.kernel import errors as kernel_errors
from groundswell.links import errors
from groundswell.links.model import codes
from groundswell.links.model.codes import Permutation
from groundswell.links.model.links import Domain
from groundswell.links.store.domains import DomainStore

BLOCK_NUMBERS = 10_000
LANES_MAX = 10_000
"""Beyond it the lane goes that was not drawn from for longest, and with it the rest of its block."""


@dataclass(slots=True)
class _Lane:
    """The codes of one domain and length: what is left of this process's block, and the order in which they come."""

    permutation: Permutation
    numbers: Iterator[int] = field(default_factory=lambda: iter(()))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Codes:
    """Draws generated codes; `secret` is what keeps their order from everybody else."""

    def __init__(self, database: postgres.Database, secret: bytes, lanes_max: int = LANES_MAX) -> None:
        self._database = database
        self._secret = secret
        self._lanes_max = lanes_max
        self._lanes: dict[tuple[int, int], _Lane] = {}

    async def draw(self, domain: Domain, length: int, count: int, deadline_s: float | None = None) -> list[str]:
        """`count` codes that were never drawn before; raises `CodesExhausted`, and `Unavailable` shortly before the caller's deadline."""
        lane = self._lane(domain, length)
        drawn: list[str] = []
        async with _turn(lane.lock, deadline_s):
            while len(drawn) < count:
                number = next(lane.numbers, None)
                if number is None:
                    lane.numbers = await self._lease(domain, length, deadline_s)
                    continue
                code = codes.spelled(lane.permutation(number), length)
                if codes.presentable(code):
                    drawn.append(code)
        return drawn

    def _lane(self, domain: Domain, length: int) -> _Lane:
        lane = self._lanes.pop((domain.id, length), None) or _Lane(order_of(self._secret, domain.id, length))
        if len(self._lanes) >= self._lanes_max:
            self._lanes.pop(next(iter(self._lanes)))
        self._lanes[domain.id, length] = lane
        return lane

    async def _lease(self, domain: Domain, length: int, deadline_s: float | None) -> Iterator[int]:
        async with self._database.tenant_tx(context.service("links", domain.tenant, deadline_s)) as tx:
            first = await DomainStore(tx).lease(domain.id, length, BLOCK_NUMBERS)
        if first >= codes.count(length):
            raise errors.CodesExhausted(length)
        return iter(range(first, min(first + BLOCK_NUMBERS, codes.count(length))))


@asynccontextmanager
async def _turn(lock: asyncio.Lock, deadline_s: float | None) -> AsyncIterator[None]:
    """The lock; raises `Unavailable` when it does not come in time, since whoever has it waits for the database."""
    try:
        async with asyncio.timeout(None if deadline_s is None else postgres.left_s(deadline_s)):
            await lock.acquire()
    except TimeoutError as error:
        raise kernel_errors.Unavailable("The database does not answer. Try again in a second.") from error
    try:
        yield
    finally:
        lock.release()


def order_of(secret: bytes, domain: int, length: int) -> Permutation:
    """The order in which the codes of a domain and length come; only who has `secret` knows it."""
    return Permutation(codes.count(length), hmac.digest(secret, f"{domain}:{length}".encode(), hashlib.sha256))
