"""Requests to an API server, as one user."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Self, TypeVar

import httpx

Object = dict[str, Any]
"""An object of Kubernetes, as its manifest says."""
T = TypeVar("T")

REQUEST_S_MAX = 15.0
POLL_S = 0.05
PATCHES = {
    "apply": "application/apply-patch+yaml",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}


class Refused(Exception):
    """The API server said no."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message = status, reason, message


class Api:
    """An API server as one user sees it; a context manager. Paths are those of Kubernetes, such as /api/v1/nodes.

    Every method raises `Refused`, or `httpx.TransportError` while nobody answers.
    """

    def __init__(self, address: str, identity: ssl.SSLContext, token: str | None = None) -> None:
        """The user is who the certificate in `identity` names, or whom the token belongs to."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.address = address
        self._client = httpx.AsyncClient(base_url=address, verify=identity, headers=headers, timeout=REQUEST_S_MAX)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str, **parameters: str) -> Object:
        return await self._send("GET", path, parameters)

    async def items(self, path: str, **parameters: str) -> list[Object]:
        """What a list holds."""
        found: list[Object] = (await self.get(path, **parameters))["items"]
        return found

    async def create(self, path: str, value: Object) -> Object:
        return await self._send("POST", path, {}, value)

    async def replace(self, path: str, value: Object) -> Object:
        return await self._send("PUT", path, {}, value)

    async def patch(self, path: str, value: object, kind: str = "merge", **parameters: str) -> Object:
        """`kind` is one of `PATCHES`; applying wants `fieldManager`."""
        return await self._send("PATCH", path, parameters, value, PATCHES[kind])

    async def delete(self, path: str, options: Object | None = None) -> Object:
        """`options` is a DeleteOptions."""
        return await self._send("DELETE", path, {}, options)

    async def watch(self, path: str, version: str, seconds: int) -> AsyncGenerator[Object, None]:
        """The events of a list since a version of it; ends after `seconds`."""
        asked = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            "allowWatchBookmarks": "true",
        }
        limit = httpx.Timeout(REQUEST_S_MAX, read=seconds + REQUEST_S_MAX)
        async with self._client.stream("GET", path, params=asked, timeout=limit) as answer:
            if not answer.is_success:
                await answer.aread()
                raise _refusal(answer)
            async for line in answer.aiter_lines():
                yield json.loads(line)

    async def text(self, path: str) -> str:
        """An answer that is no object, such as that of /readyz."""
        answer = await self._client.get(path)
        if not answer.is_success:
            raise Refused(answer.status_code, answer.reason_phrase, answer.text)
        return answer.text

    async def _send(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        value: object = None,
        kind: str = "application/json",
    ) -> Object:
        answer = await self._client.request(
            method, path, params=parameters, json=value, headers={"Content-Type": kind, "Accept": "application/json"}
        )
        if not answer.is_success:
            raise _refusal(answer)
        said: Object = answer.json()
        return said


def _refusal(answer: httpx.Response) -> Refused:
    """What the API server says, or a server that extends it, in its own words."""
    if "json" not in answer.headers.get("content-type", ""):
        return Refused(answer.status_code, answer.reason_phrase, answer.text)
    said: Object = answer.json()
    return Refused(answer.status_code, said.get("reason", ""), said.get("message", ""))


async def until(condition: Callable[[], Awaitable[T]], timeout_s: float = 30.0) -> T:
    """Asks again and again until the answer is true, and returns it; raises `TimeoutError` with the last answer. What takes long to answer,
    as a list of a thousand objects does, is asked for less often: it costs those that are waited for a processor too."""
    deadline = time.monotonic() + timeout_s
    while True:
        asked = time.monotonic()
        if answer := await condition():
            return answer
        answered = time.monotonic()
        if answered > deadline:
            raise TimeoutError(f"after {timeout_s} s still: {answer!r}")
        await asyncio.sleep(max(POLL_S, 3 * (answered - asked)))
