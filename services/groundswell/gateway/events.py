"""Readings as rows of telemetry: appended to the journal before the answer leaves, so that what is answered is counted."""

import logging
from enum import Enum

from prometheus_client import Counter

from groundswell.gateway.model.answers import Counted
from groundswell.gateway.model.visitors import Visitors
from groundswell.kernel import errors, telemetry
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import Clock

log = logging.getLogger(__name__)

ACK_S_MAX = 0.25


class View(Enum):
    """What became of a reading's row."""

    COUNTED = b"counted"
    """The log has acknowledged it."""
    SPOOLED = b"spooled"
    """It is in this process's journal on disk."""
    DROPPED = b"dropped"
    """The journal is full, or its disk."""
    SKIPPED = b"skipped"
    """The reader asked not to be counted, or did not read."""


_VIEWS = Counter("groundswell_gateway_views_total", "Readings answered, by what became of their rows.", ["view"])
_COUNTS = {view: _VIEWS.labels(view.name.lower()) for view in View}


class Views:
    """Counts readings into the process's frame producer."""

    def __init__(self, producer: frames.FrameProducer, visitors: Visitors, clock: Clock) -> None:
        self._producer = producer
        self._visitors = visitors
        self._clock = clock
        self._refusals = telemetry.Seldom(log)

    def spool(self, counted: Counted, address: str, agent: bytes) -> tuple[View, int]:
        """Appends the row of one reading; returns what became of it and its position for `settled`."""
        now_ms = self._clock.now_ms()
        visitor = self._visitors.visitor(address, agent, now_ms)
        row = frames.Row(
            now_ms,
            counted.kind,
            counted.tenant,
            counted.item,
            visitor.user,
            visitor.network,
            0,
            visitor.device,
            visitor.flags,
        )
        try:
            position = self._producer.append(row)
        except (frames.JournalFull, errors.Error, OSError) as error:
            self._refusals.warning("readings are not counted, %d since this was last said: %s", error)
            _COUNTS[View.DROPPED].inc()
            return View.DROPPED, -1
        if not counted.wait_for_ack:
            _COUNTS[View.SPOOLED].inc()
        return View.SPOOLED, position

    async def settled(self, position: int) -> View:
        """Waits for the log, briefly: `COUNTED` when it acknowledged the row in time, else still `SPOOLED`."""
        view = View.COUNTED if await self._producer.acknowledged(position, ACK_S_MAX) else View.SPOOLED
        _COUNTS[view].inc()
        return view

    def skip(self) -> View:
        """Notes a reading that is not to be counted."""
        _COUNTS[View.SKIPPED].inc()
        return View.SKIPPED
