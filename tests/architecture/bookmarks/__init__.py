"""bookmarks — things that a user wants to find again.

Owns bookmarks.  Serves BookmarkService.  Publishes bookmarks.events.v1.  Consumes nothing.
When it is down nothing else is: readers see no bookmarks, writers get 503 and try again.
"""
