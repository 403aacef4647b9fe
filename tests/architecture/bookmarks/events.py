"""Bookmarks as events."""

from groundswell.api.bookmarks.v1 import bookmarks_events_pb2 as events_pb
from groundswell.api.bookmarks.v1 import bookmarks_pb2 as pb
from groundswell.bookmarks.model import Bookmark

from groundswell.kernel import bus


def created(bookmark: Bookmark) -> bus.Outgoing:
    return bus.Outgoing("bookmarks.events.v1", str(bookmark.id), events_pb.BookmarkCreated(bookmark=to_proto(bookmark)))


def to_proto(bookmark: Bookmark) -> pb.Bookmark:
    return pb.Bookmark(name=f"bookmarks/{bookmark.id}", note=bookmark.note)
