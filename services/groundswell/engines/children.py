"""Child processes that cannot outlive their parent.

Each child leads a process group of its own, so that ending it ends what it started, and asks the kernel for a signal at its parent's
death (prctl(2), PR_SET_PDEATHSIG), so that even kill -9 of the supervisor leaves nothing behind. The kernel ties that signal to the
thread that forked: children must be started from a thread that lives as long as they do, in practice the main one.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

POLL_S = 0.02
START_TIME_S_TOLERANCE = 2.0
"""The system counts start times from its boot, whose own time moves when the clock is set."""
LOG_BYTES_MAX = 64 << 20
"""A bigger log is set aside, when its process starts and while it runs."""
COPY_BYTES = 1 << 20
LOG_TAIL_BYTES = 64 << 10
LOG_LINES = 20
PR_SET_PDEATHSIG = 1
AUTOGROUP_TRIES_MAX = 50

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start and stop one process."""

    command: Sequence[str]
    log: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the parent's environment."""
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel when the parent dies."""
    grace_s: float = 25.0
    """Time between the stop signal and SIGKILL."""
    niceness: int = 0
    """0 to 19: how far it steps back behind others when processors are short."""
    log_bytes_max: int = LOG_BYTES_MAX


class Child:
    """A started process."""

    def __init__(self, launch: Launch) -> None:
        """Starts it; its output is appended to the log. Raises `OSError`."""
        self.launch = launch
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        set_log_aside(launch.log, launch.log_bytes_max)
        with launch.log.open("ab") as log:
            self._process = subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=launch.cwd,
                env={**os.environ, **launch.environment},
                start_new_session=True,
                preexec_fn=_leash(os.getpid(), launch.orphan_signal, launch.niceness),
            )
        self.pid = self._process.pid
        self.started_s = start_time_s(self.pid) or time.time()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def bound_log(self) -> None:
        """Begins its log anew when it has grown too big."""
        bound_log(self.launch.log, self.launch.log_bytes_max)

    async def wait(self) -> int:
        """Waits for its end; the exit code."""
        while (code := self.exit_code) is None:
            await _until_over(self.pid)
        return code

    async def stop(self) -> int:
        """Asks it to stop, ends it with all it started when the grace is over; the exit code."""
        if self.exit_code is None:
            self._process.send_signal(self.launch.stop_signal)
            try:
                async with asyncio.timeout(self.launch.grace_s):
                    await self.wait()
            except TimeoutError:
                self.kill()
        return await self.wait()

    def kill(self) -> None:
        """SIGKILL to its whole process group."""
        kill_group(self.pid)


async def _until_over(pid: int) -> None:
    """Waits for the end of a child that nobody has reaped, or where the kernel does not tell of it (pidfd_open(2)), for a moment."""
    try:
        told = os.pidfd_open(pid)
    except (AttributeError, OSError):  # another system, an old kernel, or no descriptor left
        await asyncio.sleep(POLL_S)
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(told, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(told)
        os.close(told)


def log_end(log: Path | str, lines: int = LOG_LINES) -> str:
    """The last lines of a log; empty when there is none yet."""
    file = Path(log)
    if not file.exists():
        return ""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - LOG_TAIL_BYTES))
        return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])


def set_log_aside(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Sets a log that has grown too big, and that nobody writes yet, aside as it is; one older log is kept."""
    with suppress(OSError):
        if log.stat().st_size > bytes_max:
            log.replace(_older(log))


def bound_log(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Sets the last `bytes_max` of a log that is written and has grown too big aside; one older log is kept.

    They are copied and the log is emptied, since who writes it goes on with the file that it has, at its end (O_APPEND). What is written
    in between is lost. The log is emptied also where the disk takes no copy: it is full then, and logs are what can be spared.
    """
    with suppress(OSError):
        if (size := log.stat().st_size) > bytes_max:
            _copy(log, _older(log), size - bytes_max, bytes_max)
            os.truncate(log, 0)


def _older(log: Path) -> Path:
    return log.with_suffix(".old.log")


def _copy(log: Path, older: Path, begin: int, size: int) -> None:
    """Copies `size` bytes from `begin` on, or none."""
    try:
        older.unlink(missing_ok=True)  # so that there is room
        with log.open("rb") as source, older.open("wb") as copy:
            source.seek(begin)
            while size > 0 and (piece := source.read(min(size, COPY_BYTES))):
                size -= copy.write(piece)
    except OSError:
        with suppress(OSError):
            older.unlink()


def _leash(parent: int, orphan_signal: signal.Signals, niceness: int) -> Callable[[], None]:
    """Runs between fork and exec, where only the simplest calls are safe."""

    def leash() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the kernel knew what to do then
            os._exit(1)
        if niceness:
            _step_back(niceness)

    return leash


def _step_back(niceness: int) -> None:
    """Lowers the priority of this process among its session's, and that of its session among all.

    Linux may share processors out between sessions first (sched(7), autogroup), and each child leads one: a nice value alone would
    then mean nothing.
    """
    os.nice(niceness)
    with suppress(OSError):  # no such thing here
        group = os.open("/proc/self/autogroup", os.O_WRONLY)
        for _ in range(AUTOGROUP_TRIES_MAX):
            with suppress(BlockingIOError):
                os.write(group, b"%d" % niceness)
                break
            time.sleep(POLL_S)  # the kernel takes one such change in a tenth of a second


def start_time_s(pid: int) -> float | None:
    """When the process began, in seconds since 1970; None when there is none. A pid alone may be somebody else's by now."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def same_process(pid: int, started_s: float) -> bool:
    """Whether `pid` is still the process that began at `started_s`, and not a dead one that nobody has reaped."""
    try:
        process = psutil.Process(pid)
        return (
            abs(process.create_time() - started_s) < START_TIME_S_TOLERANCE and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def kill_group(leader: int) -> None:
    """SIGKILL to the process group that `leader` leads; nothing when it is gone."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
