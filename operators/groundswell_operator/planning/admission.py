"""Which spikes a policy acts upon: those that match it, the biggest first, as many as its budget has places for.

A spike that has a place keeps it: a bigger one that comes later waits for the next free place, since what was raised would otherwise go
up and down with every arrival.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from groundswell_operator.policies import Level, Match


@dataclass(frozen=True, slots=True)
class Spike:
    """What of a spike decides about it."""

    id: str
    tenant: str
    kind: str
    level: Level
    projected_views_hour: int
    confidence: float
    distinct_users: int
    detected_s: float
    """Seconds since 1970."""
    has_place: bool = False
    """Whether it was admitted before and is not over yet."""


def matches(match: Match, spike: Spike) -> bool:
    """Whether the policy is for this spike."""
    return (
        (not match.tenants or spike.tenant in match.tenants)
        and (not match.kinds or spike.kind in match.kinds)
        and spike.level >= match.min_level
        and spike.projected_views_hour >= match.min_projected_views_hour
        and spike.confidence >= match.min_confidence
        and spike.distinct_users >= match.min_distinct_users
    )


def admitted(spikes: Iterable[Spike], places: int) -> list[str]:
    """The ids that get or keep a place; the same however the spikes are ordered."""

    def rank(spike: Spike) -> tuple[bool, int, float, str]:
        return not spike.has_place, -spike.projected_views_hour, spike.detected_s, spike.id

    ranked = sorted(spikes, key=rank)
    held = sum(each.has_place for each in ranked)
    return [each.id for each in ranked[: max(places, held)]]
