"""Valkey/Redis: commands of one loop tick leave as one pipeline, and an absent server fails fast.

Nothing here may be the only copy of anything. Batching across requests is what makes one connection carry thousands of requests a
second from one process (one command a request: about 4,300/s; batched: 13,600–16,000/s). When the server does not answer within
50 ms it counts as down: calls fail at once, also those that wait to be sent, and every half second one of them goes out as the probe
that finds the server back.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import Counter, Gauge
from redis import asyncio as redis_asyncio
from redis.asyncio.client import Pipeline
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from groundswell.kernel import errors

log = logging.getLogger(__name__)

ANSWER_S_MAX = 0.05
CONNECT_S_MAX = 0.5
PROBE_S = 0.5
BATCH_COMMANDS_MAX = 500
PIPELINES_MAX = 8

_AWAY = "The cache does not answer."

Value = str | bytes | int | float
_Batch = Sequence[tuple[tuple[Value, ...], asyncio.Future[Any]]]

_COMMANDS = Counter("groundswell_redis_commands_total", "Commands sent, by outcome.", ["outcome"])
_UP = Gauge("groundswell_redis_up", "1 while the server answers in time.")


class Script:
    """A Lua script, run by its digest and loaded when the server does not know it. On a cluster all keys share one slot."""

    def __init__(self, redis: "Redis", text: str) -> None:
        self._redis = redis
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[Value], arguments: Sequence[Value] = ()) -> Any:
        try:
            return await self._redis.execute("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._redis.execute("EVAL", self._text, len(keys), *keys, *arguments)


class Redis:
    """A client that batches; one a process. Raises `Unavailable` when the server is away, `RedisError` when it answers so."""

    def __init__(self, client: redis_asyncio.Redis) -> None:
        self._client = client
        self._waiting: list[tuple[tuple[Value, ...], asyncio.Future[Any]]] = []
        self._slots = asyncio.Semaphore(PIPELINES_MAX)
        self._scheduled = False
        self._down_until = 0.0
        self._failures = 0
        self._sends: set[asyncio.Task[None]] = set()

    def script(self, text: str) -> Script:
        """A script to call with (keys, arguments)."""
        return Script(self, text)

    async def execute(self, *command: Value) -> Any:
        """Runs one command; answers are bytes, numbers, None or lists of them."""
        if not self.up and not self._probes():
            _COMMANDS.labels("refused").inc()
            raise errors.Unavailable(_AWAY)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, future))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return await future

    @property
    def up(self) -> bool:
        """Whether the server answered last time."""
        return self._down_until == 0.0

    def _probes(self) -> bool:
        """Whether the server is down for so long that this caller, and nobody after it, is to look whether it is back."""
        now_s = time.monotonic()
        if now_s < self._down_until:
            return False
        self._down_until = now_s + PROBE_S
        return True

    def _flush(self) -> None:
        self._scheduled = False
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), BATCH_COMMANDS_MAX):
            task = asyncio.create_task(self._send(waiting[start : start + BATCH_COMMANDS_MAX], self._failures))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)

    async def _send(self, batch: _Batch, failures: int) -> None:
        """Sends a batch that was made after so many failures; if there are more by its turn it need not be tried."""
        answers: Sequence[Any] = [errors.Unavailable(_AWAY)] * len(batch)
        try:
            async with self._slots:
                if failures == self._failures:
                    answers = await self._answers(batch)
                    self._mark_up()
        except (RedisError, OSError, TimeoutError) as error:
            self._mark_down(error)
        finally:  # also after a defect, and at the end of the process: nobody waits for ever
            _settle(batch, answers)

    async def _answers(self, batch: _Batch) -> list[Any]:
        pipeline: Pipeline = self._client.pipeline(transaction=False)
        for command, _ in batch:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    def _mark_down(self, error: Exception) -> None:
        if self.up:
            log.warning("the cache is away: %s", type(error).__name__)
        self._down_until = time.monotonic() + PROBE_S
        self._failures += 1
        _UP.set(0)

    def _mark_up(self) -> None:
        if not self.up:
            log.info("the cache is back")
        self._down_until = 0.0
        _UP.set(1)


def _settle(batch: _Batch, answers: Sequence[Any]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():
            continue
        _COMMANDS.labels("error" if isinstance(answer, Exception) else "ok").inc()
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


@asynccontextmanager
async def opened(url: str, *, answer_s_max: float = ANSWER_S_MAX) -> AsyncIterator[Redis]:
    """A client of the server at `url` (`redis://host:port`), or of the cluster that this node is part of when the URL says `?cluster=1`.

    A server that takes longer than `answer_s_max` for a pipeline counts as down.
    """
    never = Retry(NoBackoff(), 0)
    times: dict[str, Any] = {"socket_timeout": answer_s_max, "socket_connect_timeout": CONNECT_S_MAX}
    client: Any
    if "cluster=1" in url:
        client = redis_asyncio.RedisCluster.from_url(url.partition("?")[0], **times)
    else:
        client = redis_asyncio.Redis.from_url(url, retry=never, max_connections=PIPELINES_MAX, **times)
    try:
        yield Redis(client)
    finally:
        await client.aclose()
