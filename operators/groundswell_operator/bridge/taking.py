"""Takes records one after the other, the biggest spikes first, and none before what the last one called for has been answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord
from prometheus_client import Counter

from groundswell_operator.applying.errors import Away, Conflict, Refused
from groundswell_operator.applying.requests import RETRY_S
from groundswell_operator.bridge.intake import Governed, Intake, passes
from groundswell_operator.bridge.records import Malformed, Sighting, sighting

log = logging.getLogger(__name__)

PASSING_S_MAX = 30.0
"""So long a record waits for that, counted from its making, and from the first time that it was asked for: it must not hold up others for
ever."""
OLD_TRIES_MAX = 5
"""Of one look, a second apart, for records that are older than that already, as after an outage of the bridge: together, so that a refusal
that lasts does not hold up a thousand of them for as long each."""
POLICIES_S_MAX = 1.0
"""After which policies are read anew in the middle of a look, which may take minutes: meanwhile some are replaced, or dismiss spikes."""


class Taker:
    """The records of one look at the log at a time."""

    def __init__(
        self,
        intake: Intake,
        records: Counter,
        passing_s_max: float = PASSING_S_MAX,
        old_tries_max: int = OLD_TRIES_MAX,
        policies_s_max: float = POLICIES_S_MAX,
    ) -> None:
        """`records` counts by outcome."""
        self._intake, self._records, self._passing_s_max = intake, records, passing_s_max
        self._old_tries_max, self._policies_s_max = old_tries_max, policies_s_max
        self._old_tries = 0
        """Of this look."""
        self._policies: Sequence[Governed] = ()
        self._policies_s = float("-inf")
        """When they were looked at (monotonic)."""
        self._late: dict[str, int] = {}
        self.last_record_s: float | None = None
        """When the last record was made."""
        self.progressed_s = time.monotonic()
        """When one was last taken, or the API server was found to be away (monotonic)."""

    def late(self, policy: str) -> int:
        """The records that were too old for a policy."""
        return self._late.get(policy, 0)

    async def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Returns once all are taken, however long the API server is away: what cannot succeed is counted, and the next one is taken."""
        self._policies_s, self._old_tries = float("-inf"), 0
        if records:
            self.last_record_s = max(each.timestamp for each in records) / 1000
        await self._intake.say_again()
        for seen in ranked([each for each in map(self._seen, records) if each is not None]):
            asked_s = time.monotonic()
            while True:
                try:
                    await self._take(seen, await self._governing(), asked_s)
                    break
                except Away as away:
                    log.warning("the API server is asked again in %.1f s: %s", away.retry_s, away)
                    self.progressed_s = time.monotonic()
                    self._policies_s = float("-inf")
                    await asyncio.sleep(away.retry_s)
            self.progressed_s = time.monotonic()

    def _seen(self, record: ConsumerRecord) -> Sighting | None:
        """What a record says; None where that is nothing."""
        headers, body = dict(record.headers), record.value or b""
        try:
            return sighting(headers, body, record.partition, record.offset, record.timestamp / 1000)
        except Malformed as malformed:
            self._records.labels("malformed").inc()
            log.warning("%s/%d is passed over: %s", record.partition, record.offset, malformed)
            return None

    async def _governing(self) -> Sequence[Governed]:
        """The policies; raises `Away` also where the kinds are not installed, or may not be read yet: records wait for that."""
        if time.monotonic() - self._policies_s >= self._policies_s_max:
            try:
                self._policies = await self._intake.policies()
            except (Refused, Conflict) as refused:
                raise Away(f"the policies cannot be read: {refused}", RETRY_S) from refused
            self._policies_s = time.monotonic()
        return self._policies

    async def _take(self, seen: Sighting, policies: Sequence[Governed], asked_s: float) -> None:
        """Raises `Away` only, also for what is refused but may be taken soon."""
        try:
            late = await self._intake.take(seen, policies)
        except (Refused, Conflict) as refused:
            if passes(refused) and self._waits(seen, asked_s):
                raise Away(str(refused), RETRY_S) from refused
            self._records.labels("refused").inc()
            log.warning("%s/%d was refused: %s", seen.partition, seen.offset, refused)
            return
        for name in late:
            self._late[name] = self._late.get(name, 0) + 1

    def _waits(self, seen: Sighting, asked_s: float) -> bool:
        if time.monotonic() - asked_s >= self._passing_s_max:
            return False
        if self._intake.now_s() - seen.recorded_s < self._passing_s_max:
            return True
        self._old_tries += 1
        return self._old_tries <= self._old_tries_max


def ranked(seen: Sequence[Sighting]) -> Sequence[Sighting]:
    """The spikes with the most views first, since the first objects get the places; what is said of one spike stays in its order."""
    views: dict[str, int] = {}
    for each in seen:
        views[each.id] = max(views.get(each.id, 0), each.spike.projected_views_hour)
    return sorted(seen, key=lambda each: -views[each.id])
