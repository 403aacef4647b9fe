"""Requests to the API server: bounded in time and number, and made only while this process may make them."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Protocol

import aiohttp
import orjson

from groundswell_operator.applying.errors import Away, Conflict, NotLeading, Refused
from groundswell_operator.policies import Object

REQUEST_S_MAX = 30.0
FOLLOW_S_MAX = 60.0
"""After which a server ends what is followed."""
LANDS_S_MAX = 60.0
"""An API server gives a request up after that, unless it is told otherwise: what was sent may be carried out until then."""
UNDECIDED = 500
"""From this status on an answer does not say whether what was sent is carried out, as where etcd or a proxy was too slow."""
RETRY_S = 1.0
RETRY_S_MAX = 30.0
WRITES_S_MAX = 20
"""Of a namespace, besides Leases of operators: those of operator and bridge together."""
OPERATOR_WRITES_S_MAX, RECORD_WRITES_S_MAX, SOURCE_WRITES_S_MAX = 10, 8, 2
"""Their shares: of who leads, and of the bridge for what records call for and for what it says of its source. A raise of
three targets is ten at once; it waits for nothing that the bridge writes, nor does a record for what is said of the source."""
OFF_S_MAX = 2.0
"""By which our clock may differ from what answers say, since those leave out parts of seconds, and take their time."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class Pace:
    """At most so many writes within any second."""

    def __init__(self, writes_s_max: int = WRITES_S_MAX) -> None:
        self._moments: deque[float] = deque(maxlen=writes_s_max)
        self._turn = asyncio.Lock()

    async def turn(self) -> None:
        """Returns when the next write may go."""
        async with self._turn:
            if len(self._moments) == self._moments.maxlen:
                await asyncio.sleep(max(0.0, self._moments[0] + 1.0 - time.monotonic()))
            self._moments.append(time.monotonic())


def wall_clock() -> float:
    """Seconds since 1970, to the millisecond, as the API server keeps them."""
    return round(time.time(), 3)


class Clock:
    """What time it is where an API server is. Its answers say so to the second, and come some time after that: each leaves out what cannot
    be, so what is known grows narrower, and does not go to and fro between two answers. Our own clock says the rest, unless it is off."""

    def __init__(self, own: Callable[[], float] = wall_clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` is a clock that nobody sets."""
        self._own, self._monotonic = own, monotonic
        self._least_s, self._most_s = -math.inf, math.inf
        """By how much the API server's may be ahead of our monotonic clock."""

    def hear(self, headers: Mapping[str, str], asked_s: float) -> None:
        """Goes by an answer to what was asked at a moment of the monotonic clock; one without a `Date`, or with none that can be read,
        changes nothing."""
        with suppress(ValueError, TypeError):
            said_s = parsedate_to_datetime(headers.get("Date", "")).timestamp()
            least_s, most_s = said_s - self._monotonic(), said_s + 1.0 - asked_s
            if least_s > self._most_s or most_s < self._least_s:
                self._least_s, self._most_s = least_s, most_s  # somebody has set it, or one of the clocks has drifted
            else:
                self._least_s, self._most_s = max(self._least_s, least_s), min(self._most_s, most_s)

    def now_s(self) -> float:
        """Seconds since 1970; by our own clock while no answer has said, or where it differs by less than `OFF_S_MAX`."""
        own_s = self._own()
        if math.isinf(self._least_s):
            return own_s
        said_s = round(self._least_s + self._monotonic(), 3)
        return own_s if abs(own_s - said_s) < OFF_S_MAX else said_s


class Asking(Protocol):
    """Who answers for an API server. Every method but the last two raises `Conflict`, `Refused` or `Away`."""

    async def get(self, path: str, **parameters: str) -> Object: ...

    async def create(self, path: str, value: Object) -> Object: ...

    async def apply(self, path: str, value: Object, manager: str) -> Object: ...

    async def merge(self, path: str, value: Object, manager: str) -> Object: ...

    async def delete(self, path: str, version: str) -> None: ...

    def require_lead(self) -> None: ...

    def now_s(self) -> float: ...


class Requests:
    """An API server. Every method but the last two raises `Conflict`, `Refused` or `Away`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        pace: Pace,
        left_s: Callable[[], float] = lambda: math.inf,
        own_clock: Callable[[], float] = wall_clock,
    ) -> None:
        """For how long it may write, `left_s` says at the last moment before each write, which is given up when that is over: another may
        lead then. `own_clock` is that of this machine."""
        self._session, self._pace, self._left_s = session, pace, left_s
        self._clock = Clock(own_clock)
        self._cut_s = float("-inf")
        """When a write was last given up that may have been sent (monotonic)."""

    async def get(self, path: str, **parameters: str) -> Object:
        return _understood(*await self._answered("GET", path, parameters, None, "application/json", REQUEST_S_MAX))

    async def follow(self, path: str, name: str, wait_s_max: float) -> AsyncGenerator[Object]:
        """An object as it is, and after each change, by one request; ends when nothing was heard for too long, or the server ends it."""
        parameters = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "timeoutSeconds": f"{FOLLOW_S_MAX:.0f}",
        }
        answer = await self._asked("GET", path, parameters, None, "application/json", FOLLOW_S_MAX + REQUEST_S_MAX)
        async with answer:
            if answer.status >= 300:
                _understood(answer.status, answer.headers, await answer.read())
            while True:
                try:
                    async with asyncio.timeout(wait_s_max):
                        line = await answer.content.readline()
                except (aiohttp.ClientError, TimeoutError, OSError):
                    return
                if not line:
                    return
                yield orjson.loads(line)["object"]

    async def create(self, path: str, value: Object) -> Object:
        return await self._write("POST", path, {}, value, "application/json")

    async def apply(self, path: str, value: Object, manager: str) -> Object:
        """Server-side apply with force; a `resourceVersion` in it must be the current one."""
        return await self._write("PATCH", path, {"fieldManager": manager, "force": "true"}, value, APPLY)

    async def merge(self, path: str, value: Object, manager: str) -> Object:
        """A merge patch; a `resourceVersion` in it must be the current one."""
        return await self._write("PATCH", path, {"fieldManager": manager}, value, MERGE)

    async def delete(self, path: str, version: str) -> None:
        """Removes an object if it is still the one that was read."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"resourceVersion": version}}
        await self._write("DELETE", path, {}, options, "application/json")

    async def replace(self, path: str, value: Object) -> Object:
        """A whole object, if it is still the version that `value` names."""
        return await self._write("PUT", path, {}, value, "application/json")

    def require_lead(self) -> None:
        """Raises `NotLeading` unless this process may write at this moment."""
        self._lead_s()

    def now_s(self) -> float:
        """What time it is, by the API server's clock: it stamps the objects, and ours may be wrong."""
        return self._clock.now_s()

    def may_land(self) -> bool:
        """Whether a write may still be carried out though nobody waits for its answer any more."""
        return time.monotonic() - self._cut_s < LANDS_S_MAX

    async def _write(self, method: str, path: str, parameters: Mapping[str, str], value: Object, kind: str) -> Object:
        await self._pace.turn()
        within_s = min(REQUEST_S_MAX, self._lead_s())
        try:
            answer = await self._answered(method, path, parameters, value, kind, within_s)
        except BaseException:
            self._cut_s = time.monotonic()
            raise
        if answer[0] >= UNDECIDED:
            self._cut_s = time.monotonic()
        return _understood(*answer)

    def _lead_s(self) -> float:
        """For how long this process may write; more than nothing, which would be no bound to a request. Raises `NotLeading`."""
        if (left_s := self._left_s()) <= 0:
            raise NotLeading("the Lease has run out")
        return left_s

    async def _answered(
        self, method: str, path: str, parameters: Mapping[str, str], value: Object | None, kind: str, within_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body."""
        answer = await self._asked(method, path, parameters, value, kind, within_s)
        try:
            async with answer:
                return answer.status, answer.headers, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Away(f"{method} {path}: {type(error).__name__}", RETRY_S) from error

    async def _asked(
        self, method: str, path: str, parameters: Mapping[str, str], value: Object | None, kind: str, within_s: float
    ) -> aiohttp.ClientResponse:
        """An answer whose body is still to be read."""
        asked_s = time.monotonic()
        try:
            answer = await self._session.request(
                method,
                path.removeprefix("/"),  # below the server's address, which may have a path of its own
                params=parameters,
                headers={"Accept": "application/json", "Content-Type": kind},
                data=None if value is None else orjson.dumps(value),
                timeout=aiohttp.ClientTimeout(total=within_s),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Away(f"{method} {path}: {type(error).__name__}", RETRY_S) from error
        self._clock.hear(answer.headers, asked_s)
        return answer


def _understood(status: int, headers: Mapping[str, str], body: bytes) -> Object:
    """The object in an answer; raises what the answer says."""
    if status < 300:
        said: Object = orjson.loads(body)
        return said
    message = _message(body)
    if status == 409:
        raise Conflict(message)
    if status in (408, 410, 429) or status >= 500:
        raise Away(f"{status}: {message}", _retry_s(headers))
    raise Refused(status, message)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message", ""))[:500]
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")


def _retry_s(headers: Mapping[str, str]) -> float:
    said = headers.get("Retry-After", "")
    return min(float(said), RETRY_S_MAX) if said.isdigit() else RETRY_S
