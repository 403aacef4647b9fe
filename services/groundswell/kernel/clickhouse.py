"""ClickHouse: the same calls to the engine inside this process (`chdb://folder`) and to a server (`http://…`).

The drivers block, so every call runs in a thread of a small pool, one connection a thread; callers' questions have a pool of their own,
so that whoever writes does not wait for them. Queries are bounded in time and memory; a thread cannot be taken off its question, so one
that is given up counts as running until its thread is free. Values are always bound parameters (`{name:Type}`), never text of the query.
An insert carries a token: the table drops it when a block with that token is already there, which is what makes a replay harmless.

One process owns an embedded folder; two that open it would destroy it, so the folder is locked.
"""

import asyncio
import fcntl
import logging
import math
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver import exceptions
from clickhouse_connect.driver.client import Client

from groundswell.kernel import errors, settings

log = logging.getLogger(__name__)

T = TypeVar("T")

EMBEDDED = "chdb://"

THREADS_KEPT = 2
"""So many fewer than threads in all do callers' questions get."""
LEFT_S_MIN = 0.001
"""With less time than this left no question begins: the engine would take the rest of it for "no bound"."""
ANSWER_S_MAX = 5.0
"""How much longer than a question may run a server may take to answer it: the driver would hold its thread for five minutes."""
KEEP_MEMORY = ("JE_MALLOC_CONF", "dirty_decay_ms:60000,muzzy_decay_ms:60000")
"""What the engine's allocator reads when the engine is loaded: it keeps memory for a minute, since the next insert wants as much again,
and to give it back and fault it in anew costs a tenth of all that an insert does."""
_TIMEOUT_EXCEEDED, _TOO_SLOW = 159, 160
_MEMORY_LIMIT_EXCEEDED, _PYTHON_FAILED = 241, 800
"""The second is what the embedded engine says of anything that befalls it while it reads our columns; its words tell the limit apart."""
_PASSING = frozenset({75, 202, 236, 243, 252, 394})
"""What the store says while it cannot work and the statement is blameless: a write to its disk failed, too many statements, aborted (it is
stopping), its disk is full, too many parts, cancelled."""
_CODE = re.compile(r"Code: (\d+)\.")
_AWAY = "The store of events does not answer. Try again soon."
_BUSY = "The store of events cannot take this now. Try again soon."
_LATE = "The query takes too long. Ask for a shorter range or fewer dimensions."


@settings.section("CLICKHOUSE")
class ClickHouseSettings:
    """Where events are stored, and what one query may take."""

    dsn: str = ""
    """`chdb:///folder` for the engine inside this process, `http://user:password@host:8123/database` for a server."""
    query_s_max: float = 10.0
    """Seconds a query may run. Who asks may have less time, and the query then has what is left of it."""
    query_bytes_max: int = 1_000_000_000
    """Bytes of memory a query may take."""
    niceness: int = 19
    """How far the embedded engine's threads step back, on Linux. Busy processors leave 19 hardly any time: right where they answer
    visitors too, for rows can wait in the log. 0 for a store that has its processors to itself."""
    threads: int = 6
    """Calls at once of the process's own work; further ones wait. Callers' questions have two fewer, which are theirs alone."""


class StoreOverloaded(errors.Exhausted):
    """The query would take more memory than is allowed."""


class StoreUnavailable(errors.Unavailable):
    """The store cannot be reached, or cannot work at the moment."""


class QueryFailed(Exception):
    """The store refused a statement of ours: a defect, never the caller's fault."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows in the order of the query's columns, and how many rows the store read for them."""

    rows: Sequence[Sequence[Any]]
    rows_read: int


class ClickHouse:
    """One store. Any number of tasks may call at once."""

    def __init__(self, config: ClickHouseSettings) -> None:
        self._config = config
        if self.embedded:
            os.environ.setdefault(*KEEP_MEMORY)
        # Two pools and no semaphore: a thread goes on with a question that nobody waits for any more.
        self.callers = max(1, config.threads - THREADS_KEPT)
        """Callers' questions that run at once."""
        self._own = self._pool(config.threads)
        self._callers = self._pool(self.callers)
        self._local = threading.local()
        self._clients: list[Any] = []
        self._limits: dict[str, int | float] = {
            "max_execution_time": config.query_s_max,
            "max_memory_usage": config.query_bytes_max,
        }

    @property
    def embedded(self) -> bool:
        """Whether the engine runs inside this process."""
        return self._config.dsn.startswith(EMBEDDED)

    async def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        seconds_max: float | None = None,
        own: bool = False,
    ) -> Answer:
        """Runs a SELECT within the limits and `seconds_max` from now; raises `DeadlineExceeded`, `StoreOverloaded`, `StoreUnavailable`.

        `own` is what the process itself waits for: it does not queue behind callers' questions, and has no limits, which would not
        protect the process but stop it; unless `seconds_max` says that it is a caller's question all the same. A caller's question
        that is cancelled ends when its thread is free: whoever counts questions counts what runs.
        """
        is_callers = seconds_max is not None or not own
        until_s = time.monotonic() + (math.inf if seconds_max is None else seconds_max)

        def run(client: Client) -> Answer:
            limits = self._within(until_s) if is_callers else dict.fromkeys(self._limits, 0)
            result = client.query(sql, parameters=dict(parameters or {}), settings=limits)
            return Answer(result.result_rows, int(result.summary.get("read_rows", 0)))

        return await self._call(run, self._own if own else self._callers, to_its_end=is_callers)

    async def execute(
        self, sql: str, parameters: Mapping[str, Any] | None = None, options: Mapping[str, str | int] | None = None
    ) -> None:
        """Runs a statement that gives no rows: a table's definition, an INSERT … SELECT. Not bounded in time.

        Options are for an INSERT … SELECT. They become a part of it: the driver of the embedded engine would set each by a statement of its
        own, and set it back by another.
        """
        whole = f"{sql} {_clause(options)}" if options else sql
        await self._call(lambda client: client.command(whole, parameters=dict(parameters or {})), self._own)

    async def insert(self, table: str, columns: pa.Table, token: str) -> None:
        """Inserts all rows as one block, or nothing when a block with this token is there. Columns go by name.

        The store knows an insert again by its token and by the chunks that its rows came in, so they come in one.
        """
        options = insert_options(token)
        columns = columns.combine_chunks()

        def run(client: Client) -> None:
            if self.embedded:
                names = ", ".join(columns.column_names)
                # The engine reads the local variable `columns` by its name, without a copy.
                self._engine().query(
                    f"INSERT INTO {table} ({names}) SELECT {names} FROM Python(columns) {_clause(options)}"
                )
            else:
                client.insert_arrow(table, columns, settings=options)

        await self._call(run, self._own)

    def close(self) -> None:
        """Ends all connections; calls under way are waited for."""
        self._callers.shutdown(wait=True)
        self._own.shutdown(wait=True)
        for client in self._clients:
            client.close()

    def _within(self, until_s: float) -> dict[str, int | float]:
        """The limits of a question that begins now; raises `DeadlineExceeded` when it has waited until its time was over."""
        left_s = until_s - time.monotonic()
        if left_s < LEFT_S_MIN:
            raise errors.DeadlineExceeded(_LATE)
        return self._limits | {"max_execution_time": min(self._config.query_s_max, left_s)}

    async def _call(self, run: Callable[[Client], T], threads: ThreadPoolExecutor, *, to_its_end: bool = False) -> T:
        def guarded() -> T:
            try:
                return run(self._client(answers=threads is self._callers))
            except exceptions.DatabaseError as error:
                raise ours(error) from error
            except OSError as error:
                raise StoreUnavailable(_AWAY) from error
            except RuntimeError as error:  # so the engine's own handle says what the driver makes a DatabaseError
                if _CODE.match(str(error)) is None:
                    raise
                raise ours(error) from error

        begun = threads.submit(guarded)
        return await (_to_its_end(begun) if to_its_end else asyncio.wrap_future(begun))

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        step_back = partial(_step_back, self._config.niceness) if self.embedded else None
        return ThreadPoolExecutor(threads, thread_name_prefix="clickhouse", initializer=step_back)

    def _client(self, *, answers: bool) -> Client:
        """This thread's own; one that `answers` callers gives up a server that does not."""
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            bounds: dict[str, Any] = {}
            if answers and not self.embedded:
                bounds["send_receive_timeout"] = self._config.query_s_max + ANSWER_S_MAX
            client = clickhouse_connect.get_client(dsn=self._config.dsn, **bounds)
            self._local.client = client
            self._clients.append(client)
        return client

    def _engine(self) -> Any:
        """This thread's own handle to the embedded engine, for what the driver cannot do: reading Arrow in place."""
        import chdb  # a package of the laptop only

        engine = getattr(self._local, "engine", None)
        if engine is None:
            connect: Callable[[str], Any] = chdb.connect
            engine = self._local.engine = connect(self._config.dsn.removeprefix(EMBEDDED))
            self._clients.append(engine)
        return engine


async def _to_its_end(begun: Future[T]) -> T:
    """What came of it; upon a cancellation it is taken out of the queue or, once it runs, waited for."""
    waiting = asyncio.wrap_future(begun)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        waiting.add_done_callback(_heard)
        if not begun.cancel():
            await asyncio.wait([waiting])
        raise


def _heard(waiting: asyncio.Future[T]) -> None:
    """Whoever waited has gone: an error that nobody looks at would be told with a stack trace."""
    if not waiting.cancelled():
        waiting.exception()


def _step_back(niceness: int) -> None:
    """Puts this thread, and all that the engine starts from it, behind everything else that wants a processor.

    The engine wakes dozens of threads for one small insert. A fair scheduler gives each of them as much as the one that answers
    visitors, who then wait for tens of milliseconds; rows wait in the log and miss nothing.
    """
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        # Who is nicer already may not come forward again.
        there = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(there, niceness))


def _clause(options: Mapping[str, str | int]) -> str:
    """The settings as the end of a statement. They are our own, and have no quote in them."""
    return "SETTINGS " + ", ".join(f"{name} = '{value}'" for name, value in options.items())


def insert_options(token: str) -> dict[str, str | int]:
    """The settings of an insert that is one block and is known again.

    What the store remembers is derived from the token and from the number of blocks in which the rows arrive: an INSERT … SELECT
    must see to it that its SELECT gives as many each time. Rows of one key come once or a few times in an insert, so none are looked for to
    be merged.
    """
    return {
        "insert_deduplication_token": token,
        "deduplicate_insert_select": "force_enable",
        "async_insert": 0,
        "optimize_on_insert": 0,
        "max_insert_threads": 1,
        "min_insert_block_size_rows": 100_000_000,
        "min_insert_block_size_bytes": 4_000_000_000,
        "max_insert_block_size": 100_000_000,
        "max_partitions_per_insert_block": 0,
    }


def ours(error: Exception) -> Exception:
    """What an error of the driver's, or of the embedded engine's own handle, means to whoever called."""
    found = _CODE.match(str(error))
    code = getattr(error, "code", None) or (int(found[1]) if found else None)
    if code in (_TIMEOUT_EXCEEDED, _TOO_SLOW):
        return errors.DeadlineExceeded(_LATE)
    if code == _MEMORY_LIMIT_EXCEEDED or (code == _PYTHON_FAILED and "memory limit exceeded" in str(error)):
        return StoreOverloaded("The store cannot take this now. Ask for less, or try again later.", retry_after_s=5.0)
    if code in _PASSING:
        log.warning("the store cannot work now: %s", error)
        return StoreUnavailable(_BUSY, retry_after_s=5.0)
    # The driver's word for a connection that failed; to Python it is a DatabaseError like a refused statement.
    return StoreUnavailable(_AWAY) if isinstance(error, exceptions.OperationalError) else QueryFailed(str(error))


@asynccontextmanager
async def opened(config: ClickHouseSettings) -> AsyncIterator[ClickHouse]:
    """The store at `config.dsn`; raises `StoreUnavailable` when another process owns the embedded folder."""
    lock = _locked(Path(config.dsn.removeprefix(EMBEDDED))) if config.dsn.startswith(EMBEDDED) else None
    store = ClickHouse(config)
    try:
        yield store
    finally:
        await asyncio.to_thread(store.close)
        if lock is not None:
            os.close(lock)


def _locked(folder: Path) -> int:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.parent / f"{folder.name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise StoreUnavailable(
            f"{folder} is in use by another process; only one may own the embedded engine."
        ) from error
    return lock
