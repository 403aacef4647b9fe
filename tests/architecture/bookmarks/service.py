"""The use cases of bookmarks."""

from groundswell.bookmarks import events, model
from groundswell.bookmarks.model import Bookmark
from groundswell.bookmarks.store import BookmarkStore

from groundswell.kernel import postgres
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestKey
from groundswell.kernel.ids import Ids


class Bookmarks:
    """Each method is one transaction; events leave with it, or not at all."""

    def __init__(self, database: postgres.Database, ids: Ids) -> None:
        self._database = database
        self._ids = ids

    async def create(self, context: Context, note: str, request: RequestKey) -> Bookmark:
        bookmark = Bookmark(self._ids.next(), context.actor, model.checked_note(note))
        async with self._database.tenant_tx(context) as tx:
            if answered := await tx.replayed(request, Bookmark):
                return answered
            await BookmarkStore(tx).add(bookmark)
            await tx.publish(events.created(bookmark))
            return await tx.answer(request, bookmark)
