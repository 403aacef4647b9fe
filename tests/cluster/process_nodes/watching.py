"""A copy of what a list of the API server holds, kept up to date."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import httpx

from tests.cluster.control_plane.api import Api, Object, Refused

log = logging.getLogger(__name__)

RETRY_S = 0.2
WATCH_S = 300


class Reflector:
    """Lists, then watches, and lists again when the watch cannot go on. `changed` hears each object, and None once it is gone."""

    def __init__(self, api: Api, path: str, changed: Callable[[str, Object | None], None] | None = None) -> None:
        self._api, self._path, self.changed = api, path, changed
        self._version = ""
        self.objects: dict[str, Object] = {}
        """By `namespace/name`."""

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            try:
                await self._list()
                while True:
                    await self._watch()
            except (httpx.HTTPError, Refused) as error:
                log.info("%s is listed again: %r", self._path, error)
            await asyncio.sleep(RETRY_S)

    async def _list(self) -> None:
        found = await self._api.get(self._path)
        self._version = found["metadata"]["resourceVersion"]
        there = {key_of(each): each for each in found["items"]}
        for key in self.objects.keys() - there.keys():
            self._put(key, None)
        for key, each in there.items():
            self._put(key, each)

    async def _watch(self) -> None:
        async for event in self._api.watch(self._path, self._version, WATCH_S):
            if event["type"] == "ERROR":
                raise Refused(event["object"].get("code", 0), event["object"].get("reason", ""), "the watch ended")
            changed = event["object"]
            self._version = changed["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._put(key_of(changed), None if event["type"] == "DELETED" else changed)

    def _put(self, key: str, value: Object | None) -> None:
        if value is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = value
        if self.changed:
            self.changed(key, value)


def key_of(each: Object) -> str:
    """Its `namespace/name`."""
    return f"{each['metadata'].get('namespace', '')}/{each['metadata']['name']}"
