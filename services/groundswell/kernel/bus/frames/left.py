"""Journals that nobody holds any more: their processes belong to a placement that is no longer run.

A frame is named by the producer that announced it, not by the process that sends it, so whoever takes such a journal sends
its frames under their own names, and readers drop what the log has already. Once all is sent, the folder keeps its producer's name
and no segment, by which it is no longer taken for left.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from groundswell.kernel.bus.frames.journal import JournalBusy
from groundswell.kernel.bus.frames.producer import FrameProducer, journal_in
from groundswell.kernel.bus.frames.sender import KafkaSender
from groundswell.kernel.bus.frames.settings import FrameSettings

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Before a journal that could not be had is tried again."""


async def send_left(bootstrap: str, folders: Sequence[Path], config: FrameSettings) -> None:
    """Sends what the journals in `folders` hold, one after the other, and then rests.

    One that a process still holds, or for which there is no descriptor just now, is tried again after the others. One that cannot be
    read is passed over aloud: it is nobody's any more, and must not keep the process that looks after it from its own work.
    """
    waiting, tried = deque(folders), set[Path]()
    while waiting:
        folder = waiting.popleft()
        if folder in tried:
            await asyncio.sleep(RETRY_S)
        try:
            await _sent(bootstrap, folder, config)
        except (JournalBusy, OSError) as error:
            level = logging.DEBUG if folder in tried else logging.WARNING
            log.log(level, "what %s holds is not sent yet, and tried again: %s", folder, error)
            tried.add(folder)
            waiting.append(folder)
        except Exception:
            log.exception("%s could not be sent and stays as it is: what it holds is not counted", folder)
    await asyncio.Event().wait()


async def _sent(bootstrap: str, folder: Path, config: FrameSettings) -> None:
    """Sends what the journal in `folder` holds and removes what is sent; raises `JournalBusy` and `OSError`."""
    journal = await asyncio.to_thread(journal_in, folder, config, lock_wait_s=0.0)
    sender = KafkaSender(bootstrap, config.topic, config.acks)
    producer = FrameProducer(journal, sender, config)
    if rows := producer.waiting_rows:
        log.info("sending %d rows of %s, which no process of this topology holds", rows, folder)
    producer.start()
    try:
        await producer.drained()
        await asyncio.to_thread(journal.vacate)
    finally:
        await producer.close(0)  # what is not sent stays where it is
        await sender.close()
