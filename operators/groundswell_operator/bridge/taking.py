"""Takes records one after the other, and none before what the last one called for has been answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord
from prometheus_client import Counter

from groundswell_operator.applying.errors import Away, Conflict, Refused
from groundswell_operator.applying.requests import RETRY_S
from groundswell_operator.bridge.intake import Governed, Intake
from groundswell_operator.bridge.records import Malformed, sighting

log = logging.getLogger(__name__)


class Taker:
    """The records of a partition at a time."""

    def __init__(self, intake: Intake, records: Counter) -> None:
        """`records` counts by outcome."""
        self._intake, self._records = intake, records
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
        policies: Sequence[Governed] | None = None
        for record in records:
            while True:
                try:
                    if policies is None:
                        policies = await self._policies()
                    await self._take(record, policies)
                    break
                except Away as away:
                    log.warning("the API server is asked again in %.1f s: %s", away.retry_s, away)
                    self.progressed_s = time.monotonic()
                    policies = None
                    await asyncio.sleep(away.retry_s)
            self.progressed_s = time.monotonic()

    async def _policies(self) -> Sequence[Governed]:
        """Raises `Away` also where the kinds are not installed, or may not be read yet: records wait for that."""
        try:
            return await self._intake.policies()
        except (Refused, Conflict) as refused:
            raise Away(f"the policies cannot be read: {refused}", RETRY_S) from refused

    async def _take(self, record: ConsumerRecord, policies: Sequence[Governed]) -> None:
        """Raises `Away` only."""
        self.last_record_s = recorded_s = record.timestamp / 1000
        try:
            seen = sighting(dict(record.headers), record.value or b"", record.partition, record.offset, recorded_s)
            late = await self._intake.take(seen, policies, time.time()) if seen else []
        except Malformed as malformed:
            self._records.labels("malformed").inc()
            log.warning("%s/%d is passed over: %s", record.partition, record.offset, malformed)
            return
        except (Refused, Conflict) as refused:
            self._records.labels("refused").inc()
            log.warning("%s/%d was refused: %s", record.partition, record.offset, refused)
            return
        for name in late:
            self._late[name] = self._late.get(name, 0) + 1
