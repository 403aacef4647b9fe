"""What programs ask the control socket: HTTP with one resource, the processes and how many replicas of each are wanted.

    GET /processes         {"processes": [{"name": "links", "desired": 1, "ready": 1, "most": 4, "version": 7, "by": ""}, …]}
    GET /processes/links   one of them
    PUT /processes/links   {"replicas": 3, "by": "me", "version": 7}, answered with what is wanted then

A PUT says what is wanted and is answered at once; who waits for it asks again. With `version` it is taken only while that is the current
one (409). `by` is kept as the name of who asked last. Refusals are 422 with a sentence, `{"error": "…"}`.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from groundswell.engines.errors import NotUp, Outdated, ScaleRefused, SupervisorError, Unknown

BODY_BYTES_MAX = 64 << 10
HEADERS_MAX = 64
REQUEST_S_MAX = 5.0
NAME_LENGTH_MAX = 64
REPLICAS_MAX = 1_000
"""A number above that is no number of replicas anywhere."""
PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
           413: "Content Too Large", 422: "Unprocessable Content", 503: "Service Unavailable"}  # fmt: skip
STATUSES = {Unknown: 404, Outdated: 409, ScaleRefused: 422, NotUp: 503}

Processes = Callable[[], list[dict[str, Any]]]
Scale = Callable[[str, int, str, int | None], dict[str, Any]]
"""Of a process: the replicas wanted, by whom, seen at which version. Raises `Unknown`, `ScaleRefused`, `Outdated` or `NotUp`."""


class _Answered(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def talk(
    first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, processes: Processes, scale: Scale
) -> None:
    """Answers the one request that begins with the line `first`; raises `ConnectionError` and `ValueError` like any talk."""
    try:
        async with asyncio.timeout(REQUEST_S_MAX):
            method, path, body = await _request(first, reader)
        status, answer = 200, _answer(method, path, body, processes, scale)
    except TimeoutError as error:
        raise ConnectionError("the request never ended") from error
    except _Answered as refused:
        status, answer = refused.status, {"error": str(refused)}
    except SupervisorError as error:
        status, answer = STATUSES.get(type(error), 400), {"error": str(error)}
    text = json.dumps(answer).encode() + b"\n"
    head = f"HTTP/1.1 {status} {PHRASES[status]}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode() + text)


async def _request(first: bytes, reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    words = first.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Answered(400, "This is neither a line of JSON nor HTTP/1.1.")
    length = 0
    for _ in range(HEADERS_MAX):
        line = (await reader.readline()).strip()
        if not line:
            break
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "transfer-encoding":
            raise _Answered(400, "Send the body with its Content-Length.")
        if name.lower() == "content-length":
            length = int(value) if value.strip().isdecimal() else -1
    else:
        raise _Answered(400, f"A request has {HEADERS_MAX} headers at most.")
    if not 0 <= length <= BODY_BYTES_MAX:
        raise _Answered(413, f"A body has {BODY_BYTES_MAX} bytes at most.")
    return words[0], words[1], await reader.readexactly(length)


def _answer(method: str, path: str, body: bytes, processes: Processes, scale: Scale) -> Mapping[str, Any]:
    root, _, name = path.removeprefix("/").partition("/")
    if root != "processes":
        raise _Answered(404, "There is /processes, and /processes/NAME.")
    if method == "PUT" and name:
        return scale(name, *_asked(body))
    if method != "GET":
        raise _Answered(405, "GET /processes, GET /processes/NAME and PUT /processes/NAME are answered.")
    found = processes()
    if not name:
        return {"processes": found}
    if (one := next((each for each in found if each["name"] == name), None)) is None:
        raise Unknown(f"No process here is called {name!r}. There are: {', '.join(each['name'] for each in found)}.")
    return one


def _asked(body: bytes) -> tuple[int, str, int | None]:
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise _Answered(400, "The body is no JSON.") from error
    match asked:
        case {"replicas": int(replicas), **rest} if not isinstance(replicas, bool) and replicas <= REPLICAS_MAX:
            by, version = rest.pop("by", ""), rest.pop("version", None)
            if not rest and isinstance(by, str) and len(by) <= NAME_LENGTH_MAX and isinstance(version, int | None):
                return replicas, by, version
    raise _Answered(400, 'The body is {"replicas": NUMBER}, with "by": "NAME" and "version": NUMBER if you like.')
