"""PostgreSQL that takes what is sent and says nothing, as when it is frozen or a network swallows its words.

Goal: whoever waits hears what is wrong and when to come again before their own time is over. Method: a real server whose processes are
stopped while connections are open; whoever has more time, or less to do, shows that it is the wait that ends and not the silence.
"""

import asyncio
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from groundswell.gateway.settings import GatewaySettings
from groundswell.kernel import errors, postgres
from groundswell.kernel.context import Context
from groundswell.kernel.postgres.database import ROLLBACK_S_MAX, TELLING_S
from groundswell.links.model.links import Link
from groundswell.links.service import bulkhead
from groundswell.links.service.redirects import Redirect

from .conftest import KEY, MIGRATIONS, Process, Switched, started
from .test_redirects import follow, forget

CONNECTIONS = 8


@contextmanager
def silent(database: Switched) -> Iterator[None]:
    database.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        database.signal(signal.SIGCONT)


async def connected(process: Process, caller: Context, link: Link) -> None:
    """Connections for all who will ask: to make one takes two seconds at most, whoever asks."""
    await asyncio.gather(*(process.links.get(caller, link.id) for _ in range(CONNECTIONS)))


def told(answers: Sequence[object]) -> None:
    for error in answers:
        assert isinstance(error, errors.Unavailable), error
        assert error.retry_after_s


async def test_while_postgresql_is_frozen_callers_hear_when_to_come_again_before_their_time_is_over(
    database: Switched, valkey: Switched, alice: Context, bob: Context, slugs: dict[int, str]
) -> None:
    """Creations too that need a block of codes, one of them or all who wait behind it, or a new tenant's domain.

    The control is a caller with time: that one still waits.
    """
    dsn = await postgres.migrate(database.address, "links", MIGRATIONS, KEY)
    async with started(dsn, valkey.address, slugs) as process:
        link = await process.create(alice)
        await forget(process, link)
        await connected(process, alice, link)
        with silent(database):
            patient = asyncio.create_task(process.links.get(alice, link.id))
            hurried = replace(alice, deadline_s=time.monotonic() + 2)
            asking = [
                process.links.get(hurried, link.id),
                process.links.page(hurried, 1 << 62, 10),
                process.create(hurried, code_length=8),
                process.create(hurried, code_length=8),
                process.domains.all(replace(bob, deadline_s=hurried.deadline_s)),
                follow(process, link),
            ]
            answers = await asyncio.gather(*asking, return_exceptions=True)
            assert not patient.done()
        told(answers)
        assert (await patient).id == link.id
        assert (await follow(process, link)).target.link == link.id
        assert len((await process.create(alice, code_length=8)).code) == 8


@pytest.mark.parametrize("max_visits", [0, 5])
async def test_a_visitor_who_waits_for_one_thing_after_the_other_hears_it_no_later_than_who_waits_for_one(
    database: Switched, valkey: Switched, alice: Context, slugs: dict[int, str], max_visits: int
) -> None:
    """A reader that died holds the lease on the fill for a second, or another visitor's visit is being spent."""
    dsn = await postgres.migrate(database.address, "links", MIGRATIONS, KEY)
    waiting: list[asyncio.Task[Redirect]] = []
    async with started(dsn, valkey.address, slugs) as process:
        slow, other = await process.create(alice, max_visits=max_visits), await process.create(alice)
        await connected(process, alice, slow)
        await follow(process, slow)
        await forget(process, other)
        with silent(database):
            if max_visits:
                waiting.append(asyncio.create_task(follow(process, slow)))
                async with asyncio.timeout(5):
                    while process.redirects._visits._waiting.get(slow.id) != []:  # until its visit is being spent
                        await asyncio.sleep(0)
            else:
                await forget(process, slow)
                assert await process.cache.lease_fill(slow.domain, slow.code)
            waiting += [asyncio.create_task(follow(process, each)) for each in (slow, other)]
            await asyncio.wait(waiting[-1:])
            await asyncio.wait(waiting, timeout=bulkhead.SECONDS_MAX / 4)
            assert all(each.done() for each in waiting)
        told(await asyncio.gather(*waiting, return_exceptions=True))


def test_what_a_redirect_may_wait_for_postgresql_is_less_than_what_its_visitor_does() -> None:
    """And leaves time to end what was begun and to say so."""
    assert GatewaySettings().cached_upstream_timeout_s - 0.2 > bulkhead.SECONDS_MAX + ROLLBACK_S_MAX
    assert ROLLBACK_S_MAX < TELLING_S - 0.2
