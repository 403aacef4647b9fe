"""`python -m groundswell_operator laptop --home DIR POLICY…`: acts upon spikes by scaling the processes of a home."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from groundswell_operator.applying.writing import Cluster
from groundswell_operator.bridge.consuming import Bridge
from groundswell_operator.laptop.book import Book, Unreadable
from groundswell_operator.laptop.local import NAMESPACE, Local
from groundswell_operator.laptop.supervisor import NothingRuns, Supervisor, kafka_of
from groundswell_operator.metrics import Metrics
from groundswell_operator.reconciling import Acting, Reconciler
from groundswell_operator.rehearsing import files
from groundswell_operator.running import as_it_is
from groundswell_operator.settings import Settings

BOOK, LOCK = "spikes.json", "spikes.lock"
GIVE_BACK_S_MAX = 60.0
LOOK_S = 0.2
FILES_S = 1.0
"""How often it is looked whether somebody has written a policy's file."""

log = logging.getLogger(__name__)


class HomeTaken(Exception):
    """Another process acts upon this home."""


def add(parser: argparse.ArgumentParser) -> None:
    """What the command may be told."""
    parser.add_argument("policies", type=Path, nargs="+", metavar="POLICY", help="a ViralSpikePolicy, as YAML")
    parser.add_argument(
        "--home", type=Path, default=Path(".groundswell"), metavar="DIR", help="of a platform that runs"
    )
    parser.add_argument(
        "--release",
        default="groundswell",
        metavar="NAME",
        help="in a policy for a cluster, NAME-links is the process links (groundswell)",
    )
    parser.add_argument("--give-back", action="store_true", help="end every spike, give back what is raised, and leave")


def run(options: argparse.Namespace, acting: Callable[[Cluster], Acting] = as_it_is) -> int:
    """Until it is told to end (0); 1 when what was raised could not be given back, 2 with a sentence when it cannot begin."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of a broker that is away the user hears from us
    home = options.home.resolve()
    try:
        kafka = kafka_of(home)
        with _alone(home):
            return asyncio.run(_acted(options, home, kafka, acting))
    except (NothingRuns, HomeTaken, Unreadable, files.Unreadable) as error:
        print(error, file=sys.stderr)
        return 2


async def _acted(options: argparse.Namespace, home: Path, kafka: str, acting: Callable[[Cluster], Acting]) -> int:
    async with Supervisor.of(home) as supervisor:
        local = Local(supervisor, Book(home / BOOK), options.policies, options.release)
        reconciler = Reconciler(acting(Cluster(local, NAMESPACE)), Metrics())
        local.changed = reconciler.wake
        if options.give_back:
            return await _given_back(local, reconciler)
        bridge = Bridge(_settings(kafka), local, local)
        return await _until_told(reconciler.run(), bridge.run(), followed(options.policies, reconciler.wake))


async def followed(policies: Sequence[Path], wake: Callable[[], None]) -> None:
    """Calls `wake` after each change of a file, such as an approval: the next pass of a calm would come after a minute."""
    seen = [*map(_written_ns, policies)]
    while True:
        await asyncio.sleep(FILES_S)
        if (found := [*map(_written_ns, policies)]) != seen:
            seen = found
            wake()


def _written_ns(file: Path) -> int:
    """When it was last written; 0 where it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


async def _until_told(*running: Coroutine[object, object, None]) -> int:
    """Raises what ends one of them."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    tasks = [asyncio.create_task(each) for each in running]
    end = asyncio.create_task(told.wait())
    log.info("acts upon spikes; what is raised stays raised when this ends")
    try:
        done, _ = await asyncio.wait([*tasks, end], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*tasks, end):
            task.cancel()
        await asyncio.gather(*tasks, end, return_exceptions=True)
    return 0


async def _given_back(local: Local, reconciler: Reconciler) -> int:
    local.end_all()
    passes = asyncio.create_task(reconciler.run())
    ends_s = time.monotonic() + GIVE_BACK_S_MAX
    try:
        while local.spikes and time.monotonic() < ends_s and not passes.done():
            await asyncio.sleep(LOOK_S)
    finally:
        passes.cancel()
        await asyncio.gather(passes, return_exceptions=True)
    if local.spikes:
        log.error("not given back after %.0f s: %s", GIVE_BACK_S_MAX, ", ".join(local.spikes))
    return 1 if local.spikes else 0


def _settings(kafka: str) -> Settings:
    """Of the bridge: it serves nothing and asks no API server."""
    return Settings(
        namespace=NAMESPACE,
        identity=f"laptop-{os.getpid()}",
        port=0,
        bind="127.0.0.1",
        kafka=kafka,
        bridge="",
        deployment="",
        log_level="INFO",
    )


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Holds the home's lock, which ends with the process however it ends; raises `HomeTaken`."""
    with (home / LOCK).open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HomeTaken(f"Another process acts upon spikes in {home} already.") from error
        yield
