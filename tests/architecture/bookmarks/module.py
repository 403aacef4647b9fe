"""The wiring of bookmarks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from groundswell.bookmarks.rpc import BookmarkRpc
from groundswell.bookmarks.service import Bookmarks

from groundswell.kernel.bus.relay import relay
from groundswell.kernel.modules import Module
from groundswell.kernel.resources import Resources


@asynccontextmanager
async def bookmarks(resources: Resources) -> AsyncIterator[Module]:
    """BookmarkService, and the relay of its events."""
    database = await resources.postgres("bookmarks")
    yield Module(
        "bookmarks",
        servicers=[BookmarkRpc(Bookmarks(database, resources.ids))],
        tasks={"relay": partial(relay, database, resources.producer())},
    )
