"""A ViralSpikePolicy in the words that planning uses.

Reads objects as the API server gives them: it has refused what is out of bounds and filled in what was left out, so nothing is checked
again here but names, which requests are made of.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
"""An object of Kubernetes, as its manifest says."""

APPS, DEPLOYMENT, STATEFUL_SET = "apps/v1", "Deployment", "StatefulSet"
"""The group and kinds of what is scaled."""
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_PART = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"{_PART}([.]{_PART})*")
_NAME_LENGTH_MAX = 253


class Level(enum.IntEnum):
    """How far a spike has come; it only rises."""

    RISING = 1
    VIRAL = 2
    HOT = 3


class Mode(enum.Enum):
    """What the operator may do by itself."""

    OBSERVE = "Observe"
    """Record what it would do."""
    APPROVE = "Approve"
    """Act upon spikes that a person has approved."""
    ENFORCE = "Enforce"


class Via(enum.Enum):
    """How replicas are asked for."""

    HPA_FLOOR = "HPAFloor"
    SCALE_SUBRESOURCE = "ScaleSubresource"


class OnExhausted(enum.Enum):
    """What happens to a spike that the budget does not cover."""

    CLAMP = "Clamp"
    REJECT = "Reject"
    NOTIFY_ONLY = "NotifyOnly"


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled, in the policy's own namespace."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Scale:
    """One action that scales."""

    name: str
    order: int
    target: Target
    multiplier: float
    """How many times the baseline is wanted."""
    max: int
    """Never more replicas than that."""
    via: Via
    elsewhere: str = ""
    """The namespace that it names, where that is not the policy's own."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One action that sets keys of a ConfigMap while a spike lives."""

    name: str
    order: int
    config_map: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Notice:
    """One action that tells somebody of a spike."""

    name: str
    order: int
    secret: str
    """The Secret that holds the address."""
    key: str
    dedupe_s: int
    """An item is told of once within so long."""


@dataclass(frozen=True, slots=True)
class Match:
    """Which spikes a policy is for; an empty set stands for all."""

    tenants: frozenset[str]
    kinds: frozenset[str]
    min_level: Level
    min_projected_views_hour: int
    min_confidence: float
    min_distinct_users: int


@dataclass(frozen=True, slots=True)
class Cooldown:
    """How a raise is taken back."""

    quiet_period_s: int
    step_factor: float
    """The part of the extra replicas that goes in one step."""
    step_interval_s: int
    min_hold_s: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The bounds of everything that a policy raises at once and in a day."""

    concurrent_spikes_max: int
    extra_replicas_max: int
    replica_minutes_day_max: int
    spike_duration_s_max: int
    on_exhausted: OnExhausted


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, its actions of each kind by order, then by name."""

    name: str
    mode: Mode
    match: Match
    record_age_s_max: int
    scales: Sequence[Scale]
    cooldown: Cooldown
    budget: Budget
    restores: bool
    """Whether the baseline is given back in the end."""
    kept_s: int = 604_800
    """How long the object of a spike is kept after its end."""
    patches: Sequence[Patch] = ()
    notices: Sequence[Notice] = ()

    @classmethod
    def of(cls, value: Object) -> Policy:
        """The policy in an object of the API server."""
        spec = value["spec"]
        own, actions = value["metadata"]["namespace"], sorted(spec["actions"], key=_rank)
        return cls(
            name=value["metadata"]["name"],
            mode=Mode(spec["mode"]),
            match=_match(spec["match"]),
            record_age_s_max=seconds(spec["maxRecordAge"]),
            scales=[_scale(each, own) for each in actions if "scale" in each],
            cooldown=_cooldown(spec["cooldown"]),
            budget=_budget(spec["budget"]),
            restores=spec["restore"] == "Baseline",
            kept_s=spec["ttlSecondsAfterFinished"],
            patches=[_patch(each) for each in actions if "configMapPatch" in each],
            notices=[_notice(each) for each in actions if "notify" in each],
        )


def is_name(text: str) -> bool:
    """Whether an object may be called so (RFC 1123). What may not must come into no path of a request: `../pods` would lead it elsewhere.

    The schema refuses it too, but keeps what was stored before it did.
    """
    return len(text) <= _NAME_LENGTH_MAX and _NAME.fullmatch(text) is not None


def seconds(duration: str) -> int:
    """90 of 90s, 900 of 15m, 21,600 of 6h."""
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()  # type: ignore[union-attr]  # the schema lets nothing else in
    return int(number) * _SECONDS[unit]


def _rank(action: Object) -> tuple[int, str]:
    return action["order"], action["name"]


def _patch(action: Object) -> Patch:
    patch = action["configMapPatch"]
    return Patch(action["name"], action["order"], patch["name"], patch["data"])


def _notice(action: Object) -> Notice:
    secret = action["notify"]["webhookSecretRef"]
    window_s = seconds(action["notify"]["dedupeWindow"])
    return Notice(action["name"], action["order"], secret["name"], secret["key"], window_s)


def _scale(action: Object, own: str) -> Scale:
    scale = action["scale"]
    target = scale["targetRef"]
    namespace = target.get("namespace", own)
    return Scale(
        name=action["name"],
        order=action["order"],
        target=Target(target["apiVersion"], target["kind"], target["name"]),
        multiplier=float(scale["multiplier"]),
        max=scale["max"],
        via=Via(scale["via"]),
        elsewhere=namespace if namespace != own else "",
    )


def _match(match: Object) -> Match:
    return Match(
        tenants=frozenset(match.get("tenants", ())),
        kinds=frozenset(match.get("kinds", ())),
        min_level=Level[match["minLevel"]],
        min_projected_views_hour=match["minProjectedViewsHour"],
        min_confidence=float(match["minConfidence"]),
        min_distinct_users=match["minDistinctUsers"],
    )


def _cooldown(cooldown: Object) -> Cooldown:
    return Cooldown(
        quiet_period_s=seconds(cooldown["quietPeriod"]),
        step_factor=float(cooldown["stepFactor"]),
        step_interval_s=seconds(cooldown["stepInterval"]),
        min_hold_s=seconds(cooldown["minHold"]),
    )


def _budget(budget: Object) -> Budget:
    return Budget(
        concurrent_spikes_max=budget["maxConcurrentSpikes"],
        extra_replicas_max=budget["maxExtraReplicas"],
        replica_minutes_day_max=budget["maxReplicaMinutesPerDay"],
        spike_duration_s_max=seconds(budget["maxSpikeDuration"]),
        on_exhausted=OnExhausted(budget["onExhausted"]),
    )
