"""The records of links in Valkey: `links:{domain}:{code}` → version and target, or the memory of an absence; `links:host/{host}` → domain.

Nothing here is the only copy: a wipe costs one read of PostgreSQL for each link that is asked for again. A record is only ever replaced
by one of the same or a higher version, so a slow reader can not put an old target over a new one; an absence has version 0. A server
that is full and does not evict keeps no new record, but does not go on with the old one either. While Valkey is away every method
raises `CacheAway`.
"""

import random
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.exceptions import RedisError

from groundswell.kernel import errors
from groundswell.kernel.clock import Clock
from groundswell.kernel.redis import Redis
from groundswell.links.model.links import Domain, Target

TTL_MS = 3_600_000
TTL_SPREAD = 0.1
"""Records of links that were read together do not end together."""
REFRESH_AT = 0.8
"""Share of its time after which a record that is still asked for is read anew. Later, and of millions of links that are asked for a few
times an hour so many would be missed that more than one visitor in a hundred waited for PostgreSQL."""
ABSENT_TTL_MS = 30_000
CREATED_TTL_MS = 60_000
"""A new link's record outlives every absence that a reader may be about to write, then makes room: most links are not read at once."""
HOST_TTL_MS = 24 * 3_600_000
"""As long as PostgreSQL may be away from a process that has just started; hosts never move, so it is true however old it is."""
LEASE_MS = 1_000
"""A reader that died over a fill holds the others up for so long; one that is slower shares the work with a second."""

_FENCED_SET = """
local stored = redis.call('GET', KEYS[1])
local known, version = stored and tonumber(string.match(stored, '^%d+')), tonumber(ARGV[1])
if known and known > version then return {0, 0} end
local older = known and known < version and 1 or 0
if redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]).err then
    if known ~= version then redis.call('DEL', KEYS[1]) end
    return {0, older}
end
return {1, older}
"""
"""Returns whether the record is in place now, and whether an older one was."""


class CacheAway(errors.Unavailable):
    def __init__(self) -> None:
        super().__init__("The cache does not answer.")


class _Record(msgspec.Struct, array_like=True, frozen=True):
    refresh_at_ms: int
    target: Target | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of a code; `target` None means that there is no such link. From `refresh_at_ms` on it is to be read anew."""

    target: Target | None
    refresh_at_ms: int


class TargetCache:
    """Targets in Valkey, by the host of their domain and their code."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._set = redis.script(_FENCED_SET)
        self._decoder = msgspec.json.Decoder(_Record)

    @property
    def up(self) -> bool:
        """Whether Valkey answered last time."""
        return self._redis.up

    async def look(self) -> None:
        """Finds out whether Valkey answers."""
        await self._execute("PING")

    async def read(self, domain: str, code: str) -> Entry | None:
        """What is remembered; None when nothing is."""
        stored = await self._execute("GET", _key(domain, code))
        if stored is None:
            return None
        record = self._decoder.decode(stored[stored.index(b"|") + 1 :])
        return Entry(record.target, record.refresh_at_ms)

    async def write(self, domain: str, code: str, target: Target | None) -> bool:
        """Remembers `target` (or its absence) unless a higher version is there; whether it is what is remembered now."""
        placed, _ = await self._place(domain, code, target, _ttl_ms() if target else ABSENT_TTL_MS)
        return placed

    async def correct(self, domain: str, code: str, target: Target) -> bool:
        """Sees to it that nothing older than `target` is remembered; whether something was, that may have been read until now."""
        _, older = await self._place(domain, code, target, CREATED_TTL_MS if target.version == 1 else _ttl_ms())
        return older

    async def _place(self, domain: str, code: str, target: Target | None, ttl_ms: int) -> tuple[bool, bool]:
        fresh_ms = int(ttl_ms * REFRESH_AT) if target else ttl_ms
        record, version = _Record(self._clock.now_ms() + fresh_ms, target), target.version if target else 0
        value = b"%d|" % version + msgspec.json.encode(record)
        try:
            placed, older = await self._set([_key(domain, code)], [version, value, ttl_ms])
        except (errors.Unavailable, RedisError) as error:
            raise CacheAway from error
        return bool(placed), bool(older)

    async def lease_fill(self, domain: str, code: str) -> bool:
        """Whether this caller, alone among all processes, is to read the link; for 1 s or until it gives up."""
        return await self._execute("SET", _lease(domain, code), "1", "NX", "PX", LEASE_MS) is not None

    async def release_fill(self, domain: str, code: str) -> None:
        """Gives up: lets the next reader fill at once."""
        await self._execute("DEL", _lease(domain, code))

    async def read_host(self, host: str) -> Domain | None:
        """The domain that `host` was last seen to lead to; None when that is not remembered."""
        stored = await self._execute("GET", _host(host))
        return None if stored is None else msgspec.json.decode(stored, type=Domain)

    async def write_host(self, host: str, domain: Domain) -> None:
        """Remembers where `host` leads, for processes that start while PostgreSQL is away."""
        await self._execute("SET", _host(host), msgspec.json.encode(domain), "PX", HOST_TTL_MS)

    async def _execute(self, *command: str | int | bytes) -> Any:
        try:
            return await self._redis.execute(*command)
        except (errors.Unavailable, RedisError) as error:
            raise CacheAway from error


def _ttl_ms() -> int:
    return int(TTL_MS * random.uniform(1 - TTL_SPREAD, 1 + TTL_SPREAD))


def _key(domain: str, code: str) -> str:
    return f"links:{domain}:{code}"


def _host(host: str) -> str:
    return f"links:host/{host}"


def _lease(domain: str, code: str) -> str:
    return f"links:fill:{domain}:{code}"
