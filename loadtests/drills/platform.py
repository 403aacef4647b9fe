"""The platform that a drill runs on: its own, in a folder for the time of the drill, and gone with it.

A drill that was killed leaves a platform behind, perhaps with a frozen process or an armed crash point in it. So every start notes
its home in `open.json`, and the next one ends what it finds there before it begins.
"""

import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from loadtests.platform.installation import Installation, PlatformFailed, is_same

RUNS = Path(__file__).parent.parent / "runs"


@asynccontextmanager
async def opened(topology: str, say: Callable[[str], None], runs: Path = RUNS) -> AsyncIterator[Installation]:
    """A fresh platform; raises `PlatformFailed` while another drill runs on this machine."""
    runs.mkdir(parents=True, exist_ok=True)
    note = runs / "open.json"
    await _end_leftover(note, say)
    home = Path(tempfile.mkdtemp(prefix="groundswell-drill-"))
    note.write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time(), "home": str(home)}))
    installation = Installation(home)
    try:
        say(f"starting a platform of the drill's own in {home}")
        await installation.up(topology, port=0)
        yield installation
    finally:
        await _end(installation, note)


async def _end_leftover(note: Path, say: Callable[[str], None]) -> None:
    if not note.exists():
        return
    told = json.loads(note.read_text())
    if is_same(told["pid"], told["started"]):
        raise PlatformFailed(
            f"Another drill runs here (pid {told['pid']}). Two at once would disturb each other; wait for it."
        )
    say(f"ending the platform that a killed drill left in {told['home']}")
    await _end(Installation(Path(told["home"])), note)


async def _end(installation: Installation, note: Path) -> None:
    if installation.home.exists():
        installation.arm("")
        if installation.topology is not None:
            await installation.down()
        shutil.rmtree(installation.home, ignore_errors=True)
    note.unlink(missing_ok=True)
