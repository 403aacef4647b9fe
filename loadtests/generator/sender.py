"""Sends a plan's arrivals at their moments, whether or not earlier answers are back.

Invariant: each arrival ends in exactly one way: an outcome in the log, or unsent. An arrival that finds the door
closed waits and is tried again, because nothing of it was sent; once its request is written it is never sent again.
Latency counts from the planned moment, so a stall of the platform shows in the latencies of all who came meanwhile.
"""

import asyncio
import time
from collections import Counter, deque

from loadtests.arrivals.agents import AGENTS
from loadtests.arrivals.plan import Plan, address_of
from loadtests.generator.connection import Connection
from loadtests.generator.log import BY_VIEW, Outcome, OutcomeLog
from loadtests.generator.order import LATE_MS, Order

CONNECTING_MAX = 16
CONNECT_TIMEOUT_S = 2.0
RETRY_S = 0.02
SWEEP_S = 0.5
SLEEP_S_MIN = 0.001
"""uvloop's timers count whole milliseconds: a shorter sleep is none, and waiting by it would take a processor from the platform."""


class Sender:
    """Paces one plan. `run` returns when every arrival has ended."""

    def __init__(self, plan: Plan, order: Order, log: OutcomeLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._plan, self._order, self._log = plan, order, log
        self._at_us = plan.arrivals["at_us"].tolist()
        self._heads = [
            f"GET {target.path} HTTP/1.1\r\nHost: {target.host}\r\nAccept: */*\r\n".encode() for target in order.targets
        ]
        self._agents = [f"User-Agent: {agent}\r\nX-Forwarded-For: ".encode() for agent in AGENTS]
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._waiting: deque[int] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._start_s = 0.0
        self._is_over = False
        self.outcomes: Counter[Outcome] = Counter()
        self.dispatched = self.late = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start_s

    async def run(self) -> int:
        """Sends everything; returns how many arrivals stayed unsent."""
        self._start_s = time.monotonic()
        sweeper = asyncio.create_task(self._sweep())
        try:
            await self._pace()
            await self._drain()
        finally:
            sweeper.cancel()
            await self._close()
        return len(self._at_us) - self.dispatched + len(self._waiting)

    async def _close(self) -> None:
        """Ends all connections; what still has no answer is recorded as unknown on the way."""
        self._is_over = True
        for task in self._connecting:
            task.cancel()
        for connection in (*self._idle, *self._busy):
            connection.abort()
        while self._busy:
            await asyncio.sleep(0)

    async def _pace(self) -> None:
        position, count = 0, len(self._at_us)
        while position < count:
            now_us = self.elapsed_s * 1e6
            while position < count and self._at_us[position] <= now_us:
                self._dispatch(position, now_us)
                position += 1
            if position < count:
                await asyncio.sleep(max(self._at_us[position] / 1e6 - self.elapsed_s, SLEEP_S_MIN))

    async def _drain(self) -> None:
        end_s = time.monotonic() + self._order.drain_s
        while (self._waiting or self._busy) and time.monotonic() < end_s:
            await asyncio.sleep(0.02)

    def _dispatch(self, arrival: int, now_us: float) -> None:
        self.dispatched += 1
        self.late += now_us - self._at_us[arrival] > LATE_MS * 1000
        self._waiting.append(arrival)
        self._feed()

    def _feed(self) -> None:
        """Gives waiting arrivals to idle connections and opens more when there are not enough."""
        if self._is_over:
            return
        while self._waiting and self._idle:
            connection = self._idle.pop()
            if not connection.is_closing:
                self._send(connection, self._waiting.popleft())
        open_now = len(self._busy) + len(self._idle) + len(self._connecting)
        wanted = min(len(self._waiting), self._order.connections_max - open_now, CONNECTING_MAX) - len(self._connecting)
        for _ in range(wanted):
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._tried)

    def _send(self, connection: Connection, arrival: int) -> None:
        _, target, agent, visitor = self._plan.arrivals[arrival].item()
        address = address_of(visitor, self._order.seed).encode()
        self._busy.add(connection)
        connection.send(arrival, self._heads[target] + self._agents[agent] + address + b"\r\n\r\n", time.monotonic())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._loop.create_connection(lambda: Connection(self), self._order.address, self._order.port)
        except OSError:  # the door is closed, or too slow to open: nothing was sent, so the arrival goes on waiting
            await asyncio.sleep(RETRY_S)

    def _tried(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._feed()

    def ready(self, connection: Connection) -> None:
        self._busy.discard(connection)
        self._idle.append(connection)
        self._feed()

    def answered(self, connection: Connection, arrival: int, status: int, view: bytes) -> None:
        outcome = BY_VIEW.get(view, Outcome.UNMARKED) if 300 <= status < 400 else Outcome.REFUSED
        self._record(arrival, status, outcome)

    def lost(self, connection: Connection, arrival: int | None) -> None:
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if arrival is not None:
            self._record(arrival, 0, Outcome.UNKNOWN)
        self._feed()

    def _record(self, arrival: int, status: int, outcome: Outcome) -> None:
        at_us = int(self.elapsed_s * 1e6)
        self._log.append(arrival, at_us, at_us - self._at_us[arrival], status, outcome)
        self.outcomes[outcome] += 1

    async def _sweep(self) -> None:
        """Gives up on requests that got no answer in time; `lost` then records them as unknown."""
        while True:
            await asyncio.sleep(SWEEP_S)
            limit_s = time.monotonic() - self._order.timeout_s
            for connection in [each for each in self._busy if each.arrival is not None and each.sent_s < limit_s]:
                connection.abort()
