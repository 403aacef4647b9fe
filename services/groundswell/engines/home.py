"""The home folder: everything that one running platform has on this machine, and nothing outside it.

    version            of this layout; a newer one is refused
    ports.json         drawn once, so that a restart keeps every address
    secrets.json       (0600) the key of the platform's processes, the first two API keys
    credentials.json   (0600) what a user needs to call the API
    state.json         (0600) what runs now; see `state`
    supervisor.lock    held for as long as a supervisor runs
    supervisor.sock    (0600) its control socket
    engines/ data/ logs/

Two homes share nothing, so two platforms beside each other never meet.
"""

import fcntl
import secrets
import shlex
import shutil
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from groundswell.engines import json_files, ports
from groundswell.engines.errors import SupervisorError

VERSION = 1
DEFAULT = Path(".groundswell")
DISK_FREE_BYTES_MIN = 1 << 30
GATEWAY_PORT = 8080
PLATFORM_TENANT = 1
FIRST_TENANT = 2
FIRST_SLUG = "demo"
SECRET_LENGTH = 43
SECRET_ALPHABET = string.ascii_letters + string.digits + "-"


class Home:
    """One home folder."""

    def __init__(
        self, path: Path, free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    ) -> None:
        """`free_bytes` tells how much the disk of a folder has left."""
        self.path = path.resolve()
        self._free_bytes = free_bytes
        self.state_file = self.path / "state.json"
        self.credentials_file = self.path / "credentials.json"
        self.socket = self.path / "supervisor.sock"
        self.logs = self.path / "logs"
        self._ports_file = self.path / "ports.json"
        self._secrets_file = self.path / "secrets.json"

    def command(self, *words: str) -> str:
        """What to type in the current folder for `groundswell` with these words and this home."""
        home = [] if self.path == DEFAULT.resolve() else ["--home", str(self.path)]
        return shlex.join([*_program(), *words, *home])

    def open(self) -> None:
        """Makes the folder when it is not there; raises `SupervisorError` when it is too new or the disk is full."""
        self.path.mkdir(parents=True, exist_ok=True)
        found = self._layout()
        if found is not None and found > VERSION:
            raise SupervisorError(
                f"{self.path} was made by a newer Groundswell (layout {found}, this one knows {VERSION}). "
                "Update Groundswell, or choose another folder with --home."
            )
        free = self._free_bytes(self.path)
        if free < DISK_FREE_BYTES_MIN:
            raise SupervisorError(
                f"The disk of {self.path} is full: {free >> 20} MiB are free, 1024 MiB are needed. "
                "Free some space, or choose a folder on another disk with --home."
            )
        if found is None:
            (self.path / "version").write_text(f"{VERSION}\n")
        self.logs.mkdir(exist_ok=True)
        if not self._secrets_file.exists():
            json_files.write(self._secrets_file, _new_secrets())

    def lock(self) -> IO[str] | None:
        """The lock that marks a running supervisor; None while another one holds it."""
        held = (self.path / "supervisor.lock").open("w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            return None
        return held

    def running(self) -> bool:
        """Whether a supervisor runs on this home."""
        if not self.path.exists():
            return False
        held = self.lock()
        if held is None:
            return True
        held.close()
        return False

    def secrets(self) -> dict[str, str]:
        """`internal_key`, `platform_key`, `api_key`."""
        return json_files.read(
            self._secrets_file,
            "Without it nobody can call what is in this home: put it back from a backup, or choose another folder with --home.",
        )

    def write_credentials(self, url: str) -> None:
        """What a user needs to call the API at `url`."""
        keys = self.secrets()
        json_files.write(
            self.credentials_file,
            {
                "url": url,
                "tenant": f"tenants/{FIRST_TENANT}",
                "api_key": keys["api_key"],
                "platform_key": keys["platform_key"],
                "docs": f"{url}/openapi.json",
            },
        )

    def settle_ports(self, names: list[str]) -> dict[str, int]:
        """A port for each name: the kept one, or a fresh one where somebody else listens on it by now, or it is kept for another name too.

        A fresh one is none that is kept, for a name of another topology either. Nothing of ours may run.
        """
        kept = self._kept_ports()
        times = Counter(kept.values())
        missing = [name for name in names if name not in kept or times[kept[name]] > 1 or not ports.free(kept[name])]
        taken = {port for name, port in kept.items() if name not in missing}
        settled = kept | dict(zip(missing, ports.draw(len(missing), taken=taken), strict=True))
        json_files.write(self._ports_file, settled)
        return {name: settled[name] for name in names}

    def settle_gateway_port(self, asked: int | None) -> int:
        """The public port: the one asked for (0 draws one), else the last one, else 8080; raises when it is in use."""
        kept = self._kept_ports()
        taken = kept.values()
        port = ports.draw(1, taken=taken)[0] if asked == 0 else asked or kept.get("gateway", GATEWAY_PORT)
        with ports.claimed(port) as ours:  # only looked at: whoever goes on to use it claims it
            if not ours or not ports.free(port):
                raise self._in_use(port)
        json_files.write(self._ports_file, kept | {"gateway": port})
        return port

    @contextmanager
    def gateway_port(self) -> Iterator[None]:
        """The settled public port, as nobody else's for the block; raises when another home was quicker.

        Each finds it free until one listens, which is the last thing that a platform does when it starts.
        """
        port = self._kept_ports()["gateway"]
        with ports.claimed(port) as ours:
            if not ours:
                raise self._in_use(port)
            yield

    def _in_use(self, port: int) -> SupervisorError:
        another = ports.draw(1, taken=self._kept_ports().values())[0]
        return SupervisorError(
            f"Port {port} of 127.0.0.1 is in use, or not allowed to you. Stop what listens there, or choose another, such as: "
            f"{self.command('up', '--port', str(another))}"
        )

    def _kept_ports(self) -> dict[str, int]:
        if not self._ports_file.exists():
            return {}
        return json_files.read(self._ports_file, "Remove it: ports are then drawn anew, the public one included.")

    def _layout(self) -> int | None:
        """Which one this home has; None while it says none that can be read."""
        try:
            return int((self.path / "version").read_text())
        except (FileNotFoundError, ValueError):
            return None


def _program() -> list[str]:
    own, found = Path(sys.executable).with_name("groundswell"), shutil.which("groundswell")
    if not own.exists():
        return [sys.executable, "-m", "groundswell"]
    if found and own.samefile(found):
        return ["groundswell"]
    return [str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)]


def bootstrap_keys(keys: dict[str, str]) -> str:
    """The first API keys, as identity reads them: `key=tenant`, separated by commas."""
    return f"{keys['platform_key']}={PLATFORM_TENANT},{keys['api_key']}={FIRST_TENANT}"


def _new_secrets() -> dict[str, str]:
    def api_key(id_: int) -> str:
        return f"gsk_{id_}_" + "".join(secrets.choice(SECRET_ALPHABET) for _ in range(SECRET_LENGTH))

    return {
        "internal_key": secrets.token_hex(32),
        "platform_key": api_key(PLATFORM_TENANT),
        "api_key": api_key(FIRST_TENANT),
    }
