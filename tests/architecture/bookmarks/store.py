"""All queries of bookmarks."""

from groundswell.bookmarks.model import Bookmark

from groundswell.kernel import postgres


class BookmarkStore:
    """Bookmarks of the transaction's tenant."""

    def __init__(self, tx: postgres.Tx) -> None:
        self._tx = tx

    async def add(self, bookmark: Bookmark) -> None:
        await self._tx.execute(
            "INSERT INTO bookmarks (tenant_id, id, owner, note) VALUES ($1, $2, $3, $4)",
            self._tx.tenant,
            bookmark.id,
            bookmark.owner,
            bookmark.note,
        )
