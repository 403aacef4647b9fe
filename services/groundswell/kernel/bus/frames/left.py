"""Journals that nobody holds any more: their processes belong to a placement that is no longer run.

A frame is named by the producer that announced it, not by the process that sends it, so whoever takes such a journal sends
its frames under their own names, and readers drop what the log has already.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from groundswell.kernel.bus.frames.journal import Journal, JournalBusy
from groundswell.kernel.bus.frames.producer import FrameProducer, journal_in
from groundswell.kernel.bus.frames.sender import KafkaSender
from groundswell.kernel.bus.frames.settings import FrameSettings

log = logging.getLogger(__name__)

RETRY_S = 5.0


async def send_left(bootstrap: str, folders: Sequence[Path], config: FrameSettings) -> None:
    """Sends what the journals in `folders` hold, one after the other, and then rests. One that cannot be read is passed over aloud: it is
    nobody's any more, and must not keep the process that looks after it from its own work."""
    for folder in folders:
        try:
            await _sent(bootstrap, folder, config)
        except Exception:
            log.exception("%s could not be sent and stays as it is: what it holds is not counted", folder)
    await asyncio.Event().wait()


async def _sent(bootstrap: str, folder: Path, config: FrameSettings) -> None:
    journal, sender = await _taken(folder, config), KafkaSender(bootstrap, config.topic, config.acks)
    producer = FrameProducer(journal, sender, config)
    if rows := producer.waiting_rows:
        log.info("sending %d rows of %s, which no process of this topology holds", rows, folder)
    producer.start()
    try:
        await producer.drained()
    finally:
        await producer.close(0)  # what is not sent stays where it is
        await sender.close()


async def _taken(folder: Path, config: FrameSettings) -> Journal:
    """The journal, as soon as whoever holds it is gone."""
    while True:
        try:
            return await asyncio.to_thread(journal_in, folder, config)
        except JournalBusy as error:
            log.warning("what it holds is not sent yet: %s", error)
            await asyncio.sleep(RETRY_S)
