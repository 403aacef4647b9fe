"""What an engine is: how to prepare it, start it, ask after its health, and which address it gives to the others.

An engine describes itself and never starts anything: the supervisor and the tests start it the same way, as a child process
that dies with its parent. Preparing is idempotent, so a start that was interrupted is simply tried again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from groundswell.engines.children import Launch
from groundswell.engines.errors import EngineError

Say = Callable[[str], None]
"""Takes one line of progress for the user."""


class Engine(Protocol):
    """A server of the platform, or a library with a folder (then `launch` is None)."""

    @property
    def name(self) -> str:
        """Its name in `ps`, `logs`, `restart`."""
        ...

    @property
    def variable(self) -> str:
        """The variable that carries its address; set by the user, it replaces the engine."""
        ...

    @property
    def address(self) -> str:
        """The value of `variable` while this engine runs."""
        ...

    def prepare(self, say: Say) -> None:
        """Makes its files and folders unless they are there; blocks; raises `EngineError` with a sentence that says what to do."""
        ...

    def launch(self) -> Launch | None:
        """How to start its process; None when it has none."""
        ...

    async def healthy(self) -> bool:
        """Whether it answers requests now."""
        ...


@dataclass(frozen=True, slots=True)
class Folders:
    """Where an engine keeps its data, and where its log goes."""

    data: Path
    log: Path

    @classmethod
    def under(cls, home: Path, name: str) -> "Folders":
        """The folders of the engine `name` in a home folder."""
        return cls(home / "engines" / name, home / "logs" / f"{name}.log")


_SHAPES = {
    "KAFKA_BOOTSTRAP_SERVERS": (
        r"[^\s,:/]+:[0-9]{1,5}(,[^\s,:/]+:[0-9]{1,5})*",
        "HOST:PORT, several of them separated by commas",
    ),
    "REDIS_URL": (r"(rediss?|unix)://.+", "redis://HOST:PORT"),
    "POSTGRES_DSN": (r"postgres(ql)?://.+", "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
    "CLICKHOUSE_DSN": (r"(https?|chdb)://.+", "http://USER:PASSWORD@HOST:PORT/DATABASE"),
    "OBJECT_STORE_URL": (r"(file|s3|gs|az)://.+", "file:///FOLDER or s3://BUCKET"),
}
"""What addresses of engines look like, by variable."""


def checked_address(variable: str, address: str) -> str:
    """`address` when it is one of its kind; raises `EngineError`, which does not tell it, since it may hold a password."""
    pattern, shape = _SHAPES.get(variable, (".*", ""))
    if not re.fullmatch(pattern, address):
        raise EngineError(f"{variable} in the environment is no address of that engine. Write {shape}, or unset it.")
    return address


def given(environment: Mapping[str, str], engine: Engine) -> bool:
    """Whether the user runs this engine elsewhere."""
    return bool(environment.get(engine.variable))
