"""A link, what its owner may choose, and the state in which a visitor finds it."""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from enum import Enum

import msgspec

from groundswell.links import errors
from groundswell.links.model import destinations
from groundswell.links.model.suspicion import is_suspicious

REDIRECTS = frozenset({301, 302, 307, 308})
REDIRECT_DEFAULT = 302
EDGE_SECONDS_MAX = 86_400
TITLE_LENGTH_MAX = 512
TAGS_MAX = 32
TAG_LENGTH_MAX = 64
VISITS_MAX = (1 << 53) - 1
TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999, where the API's timestamps end."""
BATCH_LINKS_MAX = 1_000
RESERVED_AFTER_DELETE_MS = 90 * 86_400_000
"""For how long the code of a deleted link is nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the owner chooses and may change. None means no such moment; `max_visits` 0 means no bound."""

    destination: str
    valid_since_ms: int | None = None
    expires_ms: int | None = None
    max_visits: int = 0
    active: bool = True
    redirect_status: int = REDIRECT_DEFAULT
    edge_seconds: int = 0
    title: str = ""
    tags: tuple[str, ...] = ()
    suspicious: bool = False
    """Visitors see where the link leads before they follow it: asked for by the owner, or because of the destination's host."""


_FOUND_BY = tuple(each.name for each in fields(Options) if each.name != "suspicious")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A link that somebody asks for; an empty code means a generated one, an empty domain the tenant's own."""

    options: Options
    code: str = ""
    code_length: int = 0
    domain: str = ""

    def is_met_by(self, link: "Link") -> bool:
        """Whether a link with the same digest is what is asked for: it has the code, and the page where one is asked for."""
        return self.code in ("", link.code) and self.options.suspicious <= link.options.suspicious


class State(Enum):
    """How a visitor finds a link at one moment."""

    LIVE = "live"
    ABSENT = "absent"
    """Deleted, or not yet valid: as if it were unknown."""
    ENDED = "ended"
    """Expired, disabled or used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a redirect needs of a link, and no more; the record that caches hold. Higher versions replace lower ones."""

    link: int
    tenant: int
    version: int
    destination: str
    redirect_status: int
    edge_seconds: int
    valid_since_ms: int | None
    expires_ms: int | None
    max_visits: int
    active: bool
    deleted: bool = False
    suspicious: bool = False

    def state(self, now_ms: int) -> State:
        """The state at `now_ms`, but for visits, which only the counter knows."""
        if self.deleted:
            return State.ABSENT
        if not self.active or (self.expires_ms is not None and now_ms >= self.expires_ms):
            return State.ENDED
        if self.valid_since_ms is not None and now_ms < self.valid_since_ms:
            return State.ABSENT
        return State.LIVE

    def lasts_ms(self, now_ms: int) -> int | None:
        """For how long a live link's answer holds if nobody changes the link: None without an end, 0 where every visit counts."""
        if self.max_visits:
            return 0
        return None if self.expires_ms is None else max(0, self.expires_ms - now_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A short link. `version` rises by one with every change, from above that of the link that had its code before; `clicks` includes
    `bots` and is a few seconds behind."""

    id: int
    tenant: int
    domain_id: int
    domain: str
    code: str
    owner: str
    options: Options
    created_ms: int
    updated_ms: int
    version: int = 1
    visits_used: int = 0
    clicks: int = 0
    bots: int = 0
    deleted: bool = False

    def target(self) -> Target:
        """The link as a redirect sees it."""
        chosen = self.options
        return Target(
            link=self.id,
            tenant=self.tenant,
            version=self.version,
            destination=chosen.destination,
            redirect_status=chosen.redirect_status,
            edge_seconds=chosen.edge_seconds,
            valid_since_ms=chosen.valid_since_ms,
            expires_ms=chosen.expires_ms,
            max_visits=chosen.max_visits,
            active=chosen.active,
            deleted=self.deleted,
            suspicious=chosen.suspicious,
        )

    def lasts(self, now_ms: int) -> bool:
        """Whether visitors can still be redirected, now or later: what `find_if_exists` may return."""
        chosen = self.options
        over = chosen.expires_ms is not None and chosen.expires_ms <= now_ms
        spent = bool(chosen.max_visits) and self.visits_used >= chosen.max_visits
        return chosen.active and not (self.deleted or over or spent)


@dataclass(frozen=True, slots=True)
class Domain:
    """A host that links live on, in which codes are unique. Nothing of it ever changes, so that whoever has seen it may remember it."""

    id: int
    tenant: int
    host: str
    is_default: bool
    created_ms: int


@dataclass(frozen=True, slots=True)
class ChosenDomain(Domain):
    """A domain with what its tenant chooses for it, as it is shown; that may change, so it is read where it counts."""

    schemes: tuple[str, ...] = ()
    """What its links may lead to beside http and https: lower case, in order."""


@dataclass(frozen=True, slots=True)
class ClickTotal:
    """Clicks of a link so far, bots included, and those of bots."""

    link: int
    clicks: int
    bots: int


def checked(options: Options) -> Options:
    """`options` as they are stored; raises `DestinationRefused`, `OptionInvalid` or `OptionsContradict`."""
    _require(0 <= options.max_visits <= VISITS_MAX, "max_visits", f"max_visits is 0 (no bound) to {VISITS_MAX}.")
    _require(options.redirect_status in REDIRECTS, "redirect_status", "redirect_status is 301, 302, 307 or 308.")
    _require(0 <= options.edge_seconds <= EDGE_SECONDS_MAX, "edge_seconds", f"edge_seconds is 0 to {EDGE_SECONDS_MAX}.")
    _require(len(options.title) <= TITLE_LENGTH_MAX, "title", f"A title has at most {TITLE_LENGTH_MAX} characters.")
    _require("\0" not in options.title, "title", "A title has no NUL character.")
    for field, moment in (("valid_since", options.valid_since_ms), ("expire_time", options.expires_ms)):
        _require(moment is None or 0 <= moment <= TIME_MS_MAX, field, "A moment lies in the years 1970 to 9999.")
    _check_tags(options.tags)
    if (
        options.valid_since_ms is not None
        and options.expires_ms is not None
        and options.valid_since_ms >= options.expires_ms
    ):
        raise errors.OptionsContradict("expire_time", "expire_time must lie after valid_since.")
    if options.max_visits and options.edge_seconds:
        raise errors.OptionsContradict(
            "edge_seconds", "A link with max_visits counts each visit, so edge_seconds must be 0."
        )
    url = destinations.checked(options.destination).url
    return options if url == options.destination else replace(options, destination=url)


def merged(present: Options, wanted: Options, named: Iterable[str]) -> Options:
    """`present` with the named fields of `wanted`."""
    return replace(present, **{field: getattr(wanted, field) for field in named})


def judged(options: Options) -> Options:
    """The checked `options` of a new link: suspicious where its host is, whatever they say, since nobody has been told so yet."""
    return replace(options, suspicious=True) if _leads_astray(options) else options


def judged_anew(before: Options, after: Options, named: Collection[str]) -> Options:
    """The checked options `after` a change of the `named` ones.

    Led to another suspicious host, a link is suspicious whatever the change says. Led away from one it is no more, unless it was by its
    owner's wish.
    """
    if _host(after) == _host(before):
        return after
    if _leads_astray(after):
        return replace(after, suspicious=True)
    if "suspicious" in named:
        return after
    return replace(after, suspicious=before.suspicious and not _leads_astray(before))


def find_digest(domain: int, options: Options) -> bytes:
    """What two links have in common that differ in their code alone, or in whether they are suspicious."""
    compared = {name: getattr(options, name) for name in _FOUND_BY}
    return hashlib.sha256(msgspec.json.encode([domain, compared])).digest()


def _leads_astray(options: Options) -> bool:
    return is_suspicious(_host(options))


def _host(options: Options) -> str:
    try:
        return destinations.checked(options.destination).host
    except errors.DestinationRefused:  # one that was still allowed when it was stored
        return ""


def _check_tags(tags: tuple[str, ...]) -> None:
    _require(len(tags) <= TAGS_MAX, "tags", f"A link has at most {TAGS_MAX} tags.")
    _require(len(set(tags)) == len(tags), "tags", "Each tag is named once.")
    good = all(0 < len(tag) <= TAG_LENGTH_MAX and tag == tag.strip() and tag.isprintable() for tag in tags)
    _require(good, "tags", f"A tag has 1 to {TAG_LENGTH_MAX} printable characters and no white space at its ends.")


def _require(holds: bool, field: str, rule: str) -> None:
    if not holds:
        raise errors.OptionInvalid(field, rule)
