"""Kept answers: rendered bytes with the moments at which they stop being good, in bounded memory.

Eviction is second chance (CLOCK): a hit sets one flag, and the oldest answer whose flag is unset goes first. A frequency sketch
such as W-TinyLFU keeps slightly more hits on skewed traffic but costs a microsecond a hit, a tenth of what a whole hit may cost
here; with lifetimes of seconds the difference in hits is lost in the refills.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

Headers = tuple[tuple[bytes, bytes], ...]

OVERHEAD_BYTES = 1_200
"""What an answer costs besides its bytes: objects, index entries, aliases."""
ALIASES_MAX = 8
PURGES_KEPT_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Counted:
    """The row of telemetry that each reading of an answer makes."""

    kind: str
    tenant: int
    item: int
    wait_for_ack: bool


@dataclass(slots=True, eq=False)
class Answer:
    """One rendered answer. Times are seconds on a clock that goes on while the machine sleeps (`Clock.lasting_s`)."""

    status: int
    headers: Headers
    body: bytes = b""
    zipped: bytes = b""
    """The body as gzip, where that is worth it and the answer is kept."""
    etag: bytes = b""
    counted: Counted | None = None
    tags: tuple[str, ...] = ()
    stored_s: float = 0.0
    fresh_until_s: float = 0.0
    """Up to here it is served without asking; 0 means that it is not kept at all."""
    stale_until_s: float = 0.0
    """Up to here it may be served while its upstream is down."""
    retry_s: float = 0.0
    """While stale: the upstream is not asked again before this moment."""
    visited: bool = False
    aliases: list["Alias"] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether it may be kept."""
        return self.fresh_until_s > 0.0

    def weight(self) -> int:
        """Its bytes in memory, roughly."""
        pairs = (*self.headers, *self.aliases)
        return (
            OVERHEAD_BYTES
            + len(self.body)
            + len(self.zipped)
            + sum(len(first) + len(second) for first, second in pairs)
        )


Key = tuple[int, str, bytes]
"""Tenant (0 for anonymous calls), method, and the request's canonical bytes."""
Alias = tuple[bytes, bytes]
"""Host header and path exactly as they came: finds an answer before anything is parsed."""


class NearCache:
    """Answers by key, by tag and by alias; never more than `bytes_max`."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._answers: dict[Key, Answer] = {}
        self._by_tag: dict[str, set[Key]] = {}
        self._purged: dict[str, int] = {}
        self._purged_floor = 0
        self.by_alias: dict[Alias, Answer] = {}
        """Read directly on the hot path; every answer in it is one that `find` would return, fresh or not."""
        self.size_bytes = 0
        self.purges = 0
        """Purges so far: a fill compares it with the count at its start."""

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: Key) -> Answer | None:
        """The answer under `key`, whether or not it is still fresh."""
        answer = self._answers.get(key)
        if answer is not None:
            answer.visited = True
        return answer

    def keep(self, key: Key, answer: Answer) -> None:
        """Keeps `answer`, unless it is larger than the whole cache; evicts others as needed."""
        self.drop(key)
        weight = answer.weight()
        if weight > self._bytes_max:
            return
        while self.size_bytes + weight > self._bytes_max:
            self._evict()
        self._answers[key] = answer
        self.size_bytes += weight
        for tag in answer.tags:
            self._by_tag.setdefault(tag, set()).add(key)

    def alias(self, alias: Alias, key: Key, answer: Answer) -> None:
        """Lets `alias` find `answer` while it is kept under `key`, if there is room for it."""
        size_bytes = self.size_bytes + len(alias[0]) + len(alias[1])
        if size_bytes > self._bytes_max or len(answer.aliases) == ALIASES_MAX:
            return
        if self._answers.get(key) is answer and alias not in self.by_alias:
            answer.aliases.append(alias)
            self.by_alias[alias] = answer
            self.size_bytes = size_bytes

    def drop(self, key: Key) -> None:
        """Forgets the answer under `key`, if any."""
        answer = self._answers.pop(key, None)
        if answer is None:
            return
        self.size_bytes -= answer.weight()
        for alias in answer.aliases:
            del self.by_alias[alias]
        answer.aliases.clear()
        for tag in answer.tags:
            keys = self._by_tag[tag]
            keys.discard(key)
            if not keys:
                del self._by_tag[tag]

    def purge(self, tag: str) -> int:
        """Forgets every answer that carries `tag`, and voids fills of such answers that began before; returns how many it forgot."""
        self.purges += 1
        self._purged.pop(tag, None)
        self._purged[tag] = self.purges
        if len(self._purged) > PURGES_KEPT_MAX:
            oldest = next(iter(self._purged))
            self._purged_floor = self._purged.pop(oldest)
        keys = list(self._by_tag.get(tag, ()))
        for key in keys:
            self.drop(key)
        return len(keys)

    def clear(self) -> None:
        """Forgets every answer, and voids every fill that began before."""
        self.purges += 1
        self._purged_floor = self.purges
        for kept in (self._answers, self._by_tag, self._purged, self.by_alias):
            kept.clear()
        self.size_bytes = 0

    def purged_since(self, tags: Iterable[str], purges: int) -> bool:
        """Whether one of `tags` was purged after the count was `purges`; when that is too long ago to know, yes."""
        return purges < self._purged_floor or any(self._purged.get(tag, 0) > purges for tag in tags)

    def sweep(self, now_s: float) -> int:
        """Forgets all that may not even be served stale any more; returns how many."""
        dead = [
            key for key, answer in self._answers.items() if max(answer.stale_until_s, answer.fresh_until_s) <= now_s
        ]
        for key in dead:
            self.drop(key)
        return len(dead)

    def _evict(self) -> None:
        while True:
            key, answer = next(iter(self._answers.items()))
            if not answer.visited:
                self.drop(key)
                return
            answer.visited = False
            del self._answers[key]
            self._answers[key] = answer
