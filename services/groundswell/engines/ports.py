"""Free ports on loopback, below the range from which the system draws ports for outgoing connections.

A port that a home has once drawn is kept, and stays free while its owner restarts: an outgoing connection cannot take it by chance.
Neither can another home whose range is another one (`GROUNDSWELL_PORTS`).

The public port is used seconds after it was found free, and doors share ports (SO_REUSEPORT): one takes it although another has it. So
a home claims it first, by a lock that ends with its process.
"""

import fcntl
import os
import random
import re
import socket
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from groundswell.engines.errors import SupervisorError

VARIABLE = "GROUNDSWELL_PORTS"
LOWEST, HIGHEST = 20_000, 32_000
TRIES_MAX = 1_000


def free(port: int) -> bool:
    """Whether a server could listen on `port` of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def claimed(port: int, folder: Path | None = None) -> Iterator[bool]:
    """Claims `port` for the block, among this user's homes; tells whether it could, or another has it.

    `folder` is the one of the claims, which is the system's for temporary files unless it is given.
    """
    path = (folder or Path(tempfile.gettempdir())) / f"groundswell-port-{port}-{os.getuid()}.lock"
    held = _locked(path)
    try:
        yield held is not None
    finally:
        if held is not None:
            # Before it is let go: who opened it meanwhile sees that it is not the one there.
            path.unlink(missing_ok=True)
            held.close()


def _locked(path: Path) -> IO[str] | None:
    """The lock, or None while another holds it; raises `SupervisorError` where there can be none."""
    while True:
        try:
            held = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w")
        except OSError as error:
            raise SupervisorError(
                f"No file can be made at {path}, where homes say that they have the port: {error.strerror}. "
                "Make room there, or name another folder in TMPDIR."
            ) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(path.stat(), os.fstat(held.fileno())):
                return held
        except BlockingIOError:
            held.close()
            return None
        except FileNotFoundError:  # its last holder has taken it away
            pass
        held.close()


def draw(count: int, environment: Mapping[str, str] = os.environ, taken: Collection[int] = ()) -> list[int]:
    """`count` different free ports that no home claims, none of `taken`, which are somebody's though nobody listens now.

    Raises `SupervisorError` when there are not so many, or the range in the environment is none.
    """
    lowest, highest = span(environment)
    drawn: set[int] = set()
    for _ in range(TRIES_MAX):
        if len(drawn) == count:
            return list(drawn)
        port = random.randint(lowest, highest)
        if port in taken:
            continue
        with claimed(port) as ours:
            if ours and free(port):
                drawn.add(port)
    raise SupervisorError(
        f"There are no {count} free ports between {lowest} and {highest}. Name another range: {VARIABLE}=FIRST-LAST."
    )


def span(environment: Mapping[str, str]) -> tuple[int, int]:
    """The lowest and the highest port that may be drawn; raises `SupervisorError`."""
    text = environment.get(VARIABLE) or f"{LOWEST}-{HIGHEST}"
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    lowest, highest = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1_024 <= lowest <= highest < 1 << 16:
        raise SupervisorError(f"{VARIABLE} must be FIRST-LAST, such as {LOWEST}-{HIGHEST}; it is {text!r}.")
    return lowest, highest
