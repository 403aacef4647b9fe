"""Feeds: topics that every process reads whole, for directories, revocations and purges.

A feed has no group and commits nothing: it starts at the beginning (to build a state) or at the end (to hear of changes), and knows
how old its knowledge may be, which is what a cache needs to decide whether to trust itself. Where the log no longer has its place, it reads
all that is there: what it may have missed is among that. What was kept while that was older than a
bound stays untrue when the feed hears again, since who publishes may hear of the broker's return later: `on_return` says when to forget
it. No process waits for a broker that is away: what may not be done without the feed's knowledge is refused by whoever needs it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from groundswell.kernel.bus.connecting import BROKER_RETRY_S, opened
from groundswell.kernel.bus.events import Incoming, MalformedEvent, incoming
from groundswell.kernel.clock import lasting_s

log = logging.getLogger(__name__)

CHECK_S = 0.5
AWAY_S = 3.0
"""A broker that was silent for so long counts as away."""
FETCH_WAIT_MS_MAX = 250
"""How long the broker keeps a fetch when there is nothing new; what is new it sends at once. A check waits behind it on the same
connection, so the lag is known a little later the longer it is; every process pays a third of a millisecond of CPU for each."""
LOOK_MS = 500
"""How often an idle feed sees whether its check still runs."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How far behind a feed may be for what is kept on its word, and what forgets all that once it was further behind.

    `on_return` is called before the feed counts as near again; also the first time, for what was kept before it began is no better.
    """

    lag_s_max: float
    on_return: Callable[[], None]

    @property
    def check_s(self) -> float:
        """The pause between two checks. The lag grows to this and two checks, and each of those may wait as long as a fetch."""
        return self.lag_s_max / 5


class Feed:
    """All partitions of `topics`, each event given to `handle` (quick, without waiting) in order per partition."""

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        handle: Callable[[Incoming], None],
        *,
        from_start: bool,
        bound: Bound | None = None,
        now_s: Callable[[], float] = lasting_s,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._handle = handle
        self._from_start = from_start
        self._bound = bound
        self._now_s = now_s
        self._fresh_at = 0.0
        self._answered_at = time.monotonic()
        self._settled = False
        self.caught_up = asyncio.Event()
        """Set once everything that was in the topics when the feed began has been handled."""

    def lag_s(self) -> float:
        """An upper bound on the age of what the feed has not seen; infinite before the first look."""
        return self._now_s() - self._fresh_at if self._fresh_at else float("inf")

    def settled(self) -> bool:
        """Whether there is nothing left to wait for: caught up, or the broker was found to be away. Once true it stays so."""
        silent_s = time.monotonic() - self._answered_at
        self._settled = self._settled or self.caught_up.is_set() or silent_s > AWAY_S
        return self._settled

    async def run(self) -> None:
        """Reads until cancelled; survives the broker's absence."""
        make = partial(
            AIOKafkaConsumer,
            *self._topics,
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
        )
        async with opened(make) as consumer:
            self._answered_at = time.monotonic()
            partitions = await self._assigned(consumer)
            if not self._from_start:
                await _at_the_end(consumer, partitions)
            checking = asyncio.create_task(self._check(consumer, partitions))
            try:
                while not checking.done():
                    for records in (await consumer.getmany(timeout_ms=LOOK_MS)).values():
                        for record in records:
                            self._offer(record)
                checking.result()
            finally:
                checking.cancel()

    async def _assigned(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """All partitions of all topics: without a group a consumer is given every one, as soon as the broker knows the topics."""
        while {partition.topic for partition in consumer.assignment()} != set(self._topics):
            await asyncio.sleep(0.02)
        return sorted(consumer.assignment())

    def _offer(self, record: object) -> None:
        self._answered_at = time.monotonic()
        try:
            self._handle(incoming(record))
        except MalformedEvent as error:
            log.warning("a feed skips a record that is no event: %s", error)

    async def _check(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        """Compares positions with the ends of the log: at or beyond them, all that was there when asked has been seen."""
        while True:
            asked_at = self._now_s()
            try:
                async with asyncio.timeout(2.0):
                    ends = await consumer.end_offsets(partitions)
                    while not all([await consumer.position(p) >= ends[p] for p in partitions]):
                        await asyncio.sleep(0.02)
                self._heard_up_to(asked_at)
            except (TimeoutError, KafkaError) as error:
                log.warning("a feed of %s is behind: %s", ",".join(self._topics), type(error).__name__)
            await asyncio.sleep(self._bound.check_s if self._bound else CHECK_S)

    def _heard_up_to(self, moment: float) -> None:
        if self._bound and self.lag_s() > self._bound.lag_s_max:
            self._bound.on_return()
        self._fresh_at = moment
        self.caught_up.set()


async def _at_the_end(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
    """Passes over all that is there, before anybody can take the feed for near."""
    while True:
        try:
            for partition, end in (await consumer.end_offsets(partitions)).items():
                consumer.seek(partition, end)
            return
        except KafkaError as error:
            log.warning("waiting for Kafka: %s", type(error).__name__)
        await asyncio.sleep(BROKER_RETRY_S)


def follow(
    bootstrap: str,
    topics: Sequence[str],
    handle: Callable[[Incoming], None],
    *,
    from_start: bool,
    bound: Bound | None = None,
    now_s: Callable[[], float] = lasting_s,
) -> Feed:
    """A feed of `topics`; its `run` is a task of the module. Its lag grows while the machine sleeps."""
    return Feed(bootstrap, topics, handle, from_start=from_start, bound=bound, now_s=now_s)
