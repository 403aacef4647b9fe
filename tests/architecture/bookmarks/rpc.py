"""The edge of bookmarks."""

from groundswell.api.bookmarks.v1 import bookmarks_pb2 as pb
from groundswell.api.bookmarks.v1 import bookmarks_pb2_grpc
from groundswell.bookmarks.events import to_proto
from groundswell.bookmarks.service import Bookmarks

from groundswell.kernel import rpc


class BookmarkRpc(bookmarks_pb2_grpc.BookmarkServiceServicer):
    """BookmarkService."""

    def __init__(self, bookmarks: Bookmarks) -> None:
        self._bookmarks = bookmarks

    async def CreateBookmark(self, request: pb.CreateBookmarkRequest, call: rpc.Call) -> pb.Bookmark:
        return to_proto(await self._bookmarks.create(call.context, request.bookmark.note, call.request))
