"""Builds what is missing of a cluster's programs: `python -m tests.cluster.tools.build`.

One program after the other, each moved to its place when it is whole: a build that was interrupted goes on with the program that it
was at, and Go's own cache keeps what that one had compiled. Go checks every module against go.sum before it compiles a line of it. It
runs as a child that cannot outlive this process; what it says goes into a log, and is read from there for progress.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from groundswell.engines.children import Child, Launch, log_end
from tests.cluster.tools.families import CLUSTER, FLAGS, FOLDER_VARIABLE, MONITORING, Family, Shelf, shelf

PROGRESS_S = 10.0
POLL_S = 0.1
INTERRUPT_S_MAX = 10.0
"""Go is given this long to end its compilers."""
NOTHING: Mapping[str, str] = MappingProxyType({})
ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
AGAIN = "`make cluster-tools` goes on where it stopped."
INTERRUPTED = 130

Say = Callable[[str], None]
"""Takes one line of progress for the user."""

COMPLAINTS = {
    r"checksum mismatch": "A module is not the one whose checksum is recorded, so it was not used. If it was damaged on this machine, "
    "`go clean -modcache` and another try help; if it comes back, somebody has changed the module: leave it alone and report it.",
    r"missing go\.sum entry|updates to go\.(mod|sum) needed": "go.mod asks for what go.sum has no checksum of: "
    "`python -m tests.cluster.tools.pin` writes both anew.",
    r"dial tcp|no such host|connection re(fused|set)|(i/o|handshake) timeout|unexpected EOF|is unreachable|: 50[234] ": "Modules could "
    f"not be fetched: a first build needs the network, or in GOPROXY a module proxy that this machine can reach. Then {AGAIN}",
    r"no space left on device": "The disk is full: a first build takes 8 GB. Make room, or name folders elsewhere in "
    f"{FOLDER_VARIABLE}, GOMODCACHE and GOCACHE. Then {AGAIN}",
}
"""What to do, by what Go says."""


class BuildError(Exception):
    """Something cannot be built; the message says what to do."""


async def build(place: Shelf, say: Say, environment: Mapping[str, str] = NOTHING) -> None:
    """Builds what is missing on the shelf; `environment` is added to this process's. Raises `BuildError`."""
    if not place.missing():
        say(f"the cluster's programs are built: {place.folder / 'bin'}")
        return
    for family in place.families:
        check_go(family, environment)
    started = time.monotonic()
    async with _alone(place.folder, say):
        for family, program in place.missing():
            await _build(place, family, program, say, environment)
    say(f"built the cluster's programs in {_clock(time.monotonic() - started)}: {place.folder / 'bin'}")


def check_go(family: Family, environment: Mapping[str, str] = NOTHING) -> None:
    """Raises `BuildError` unless this machine has a Go that builds the family."""
    needed = f"{family.name} {family.version} needs Go {family.go_version} or newer"
    try:
        answer = subprocess.run(
            ["go", "env", "GOVERSION"],
            env={**os.environ, **ENVIRONMENT, **environment},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    except FileNotFoundError:
        raise BuildError(f"Go was not found, and {needed}: install it, put it on the PATH, and try again.") from None
    if _numbers(answer) < _numbers(family.go_version):
        raise BuildError(
            f"{needed}, and the one on the PATH is {answer or 'silent'}: install a newer one and try again."
        )


async def _build(place: Shelf, family: Family, program: str, say: Say, environment: Mapping[str, str]) -> None:
    """Compiles one program and puts it on the shelf."""
    say(f"building {program} ({family.module} {family.version})")
    draft, log = place.folder / "drafts" / program, place.folder / "logs" / f"{program}.log"
    log.unlink(missing_ok=True)
    options = [*FLAGS, f"-tags={family.tags}", f"-ldflags={family.linker_flags()}", f"-o={draft}"]
    command = ["go", "build", "-v", *options, family.programs[program]]
    environment = {**ENVIRONMENT, **environment}
    go = Child(Launch(command, log, family.folder, environment, stop_signal=signal.SIGINT, grace_s=INTERRUPT_S_MAX))
    try:
        await _watch(go, say)
    finally:
        code = await go.stop()
    if code:
        raise BuildError(_complaint(program, log))
    place.path(program).parent.mkdir(exist_ok=True)
    draft.replace(place.path(program))


async def _watch(go: Child, say: Say) -> None:
    """Waits for its end and tells how far it is."""
    started = told = time.monotonic()
    while go.exit_code is None:
        await asyncio.sleep(POLL_S)
        if (now := time.monotonic()) - told >= PROGRESS_S:
            told = now
            lines = go.launch.log.read_text().splitlines()
            fetched = sum(line.startswith("go: downloading ") for line in lines)
            compiled = sum(" " not in line for line in lines)
            say(f"  {_clock(now - started)}  {fetched} modules fetched, {compiled} packages compiled")


def _complaint(program: str, log: Path) -> str:
    said = log_end(log)
    hint = advice(said) or f"Its log is {log}."
    said = "\n".join(line for line in said.splitlines() if " " in line and not line.startswith("go: downloading "))
    return f"{program} was not built. {hint}\nGo said:\n{said}"


def advice(said: str) -> str:
    """What to do when Go has said that; empty where nobody knows."""
    return next((each for pattern, each in COMPLAINTS.items() if re.search(pattern, said)), "")


@asynccontextmanager
async def _alone(folder: Path, say: Say) -> AsyncIterator[None]:
    """Two builds at once would do everything twice: the second one waits, and finds what the first one made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        waiting = False
        while not _locked(lock.fileno()):
            if not waiting:
                say("another build is under way: waiting for it")
            waiting = True
            await asyncio.sleep(POLL_S)
        yield


def _locked(file: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _numbers(version: str) -> tuple[int, ...]:
    """(1, 26, 8) of go1.26.8; nothing of what is no version."""
    return tuple(int(each) for each in re.findall(r"\d+", version)[:3])


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


async def _until_signal() -> None:
    """Builds for the command line; SIGTERM ends it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    for families in (CLUSTER, MONITORING):
        await build(shelf(families), lambda line: print(line, flush=True))


def main() -> int:
    """The command; its exit code."""
    try:
        asyncio.run(_until_signal())
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"\nStopped. {AGAIN}", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
