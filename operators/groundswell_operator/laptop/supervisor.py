"""The supervisor of a home, as its control socket lets anybody see it: processes, and how many replicas of each are wanted."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from groundswell_operator.applying.errors import Away, Conflict, Refused

KAFKA = "KAFKA_BOOTSTRAP_SERVERS"
ANSWER_S_MAX = 5.0
RETRY_S = 1.0
SOCKET_PATH_MAX = 100
"""The system allows 108 bytes; a longer path is reached through the folder's descriptor."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process: what is wanted of it, and what there is."""

    name: str
    desired: int
    ready: int
    most: int
    """Replicas that the supervisor lets it have."""
    version: int
    by: str
    """Who set `desired` last."""


class NothingRuns(Exception):
    """No platform runs in the home, or it does not say where its log is; the message says what to do."""


def kafka_of(home: Path) -> str:
    """Where the home's platform has its log; raises `NothingRuns`."""
    try:
        state = json.loads((home / "state.json").read_text())
        told = [state.get("given", {}), *(each["addresses"] for each in state["processes"])]
    except (OSError, ValueError, KeyError) as error:
        raise NothingRuns(f"Nothing runs in {home}. Start it with: groundswell up --home {home}") from error
    found = [each[KAFKA] for each in told if each.get(KAFKA)]
    if not found:
        raise NothingRuns(f"The platform in {home} has no {KAFKA}.")
    return str(found[0])


class Supervisor:
    """Asks the socket. Every method raises `Away`, `Conflict` or `Refused`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def of(cls, home: Path) -> AsyncIterator[Supervisor]:
        """The supervisor of a home; it need not run yet, and may be another one later."""
        folder = os.open(home, os.O_RDONLY)
        try:
            path = home / "supervisor.sock"
            short = path if len(os.fsencode(path)) <= SOCKET_PATH_MAX else f"/proc/self/fd/{folder}/{path.name}"
            connector = aiohttp.UnixConnector(path=str(short), force_close=True)
            timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX)
            async with aiohttp.ClientSession("http://localhost", connector=connector, timeout=timeout) as session:
                yield cls(session)
        finally:
            os.close(folder)

    async def processes(self) -> Sequence[Process]:
        """All that may be scaled, and those that may not."""
        return [Process(**each) for each in (await self._ask("GET", "/processes"))["processes"]]

    async def scale(self, name: str, replicas: int, by: str, version: int) -> None:
        """Sets how many are wanted, if that is still as it was at `version`."""
        await self._ask("PUT", f"/processes/{name}", {"replicas": replicas, "by": by, "version": version})

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        try:
            async with self._session.request(method, path, json=body) as answer:
                status, said = answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Away(f"the supervisor does not answer ({type(error).__name__})", RETRY_S) from error
        if status == 200:
            return said
        if status == 409:
            raise Conflict(said["error"])
        if status >= 500:
            raise Away(said["error"], RETRY_S)
        raise Refused(status, said["error"])
