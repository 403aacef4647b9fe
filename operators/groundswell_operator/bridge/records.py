"""What a record says of a spike, and the object that stands for it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from groundswell.api.spikes.v1 import spikes_events_pb2 as events
from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell_operator.applying.reading import FINALIZER, GROUP
from groundswell_operator.applying.statuses import moment
from groundswell_operator.planning import admission
from groundswell_operator.policies import Level, Object

TOPIC = "spikes.events.v1"
TYPE = "ce_type"
"""The header that names the event's message."""
STARTED = events.SpikeStarted
STARTING = {
    each.DESCRIPTOR.full_name: each for each in (events.SpikeStarted, events.SpikeEscalated, events.SpikeUpdated)
}
ENDING = {events.SpikeEnded.DESCRIPTOR.full_name: events.SpikeEnded}
_ID = re.compile(r"spikes/([0-9a-f]{16})")
_LENGTHS = {"tenant": 128, "kind": 64, "item": 256}
_LEVELS = {Spike.RISING: Level.RISING, Spike.VIRAL: Level.VIRAL, Spike.HOT: Level.HOT}


class Malformed(Exception):
    """A record that says nothing of a spike: it is counted and passed over."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one record says."""

    id: str
    spike: Spike
    level: Level | None
    """None once it is over, or when it is none that is acted upon."""
    over: bool
    partition: int
    offset: int
    recorded_s: float
    detected_s: float

    def evidence(self) -> admission.Spike:
        """What of it decides whether a policy is for it."""
        spike = self.spike
        return admission.Spike(
            id=self.id,
            tenant=spike.tenant,
            kind=spike.kind,
            level=self.level or Level.RISING,
            projected_views_hour=spike.projected_views_hour,
            confidence=spike.evidence.confidence,
            distinct_users=spike.evidence.distinct_users,
            detected_s=self.detected_s,
        )


def sighting(
    headers: Mapping[str, bytes], body: bytes, partition: int, offset: int, recorded_s: float
) -> Sighting | None:
    """What a record says; None when it is of another kind. Raises `Malformed`."""
    kind = (headers.get(TYPE) or b"").decode(errors="replace")
    message = STARTING.get(kind) or ENDING.get(kind)
    if message is None:
        return None
    try:
        spike = message.FromString(body).spike
    except DecodeError as error:
        raise Malformed(f"the body is not a {kind}") from error
    found = _ID.fullmatch(spike.name)
    if found is None:
        raise Malformed("its name is not that of a spike")
    for name, length in _LENGTHS.items():
        if not 0 < len(getattr(spike, name)) <= length:
            raise Malformed(f"its {name} is missing or longer than {length} characters")
    level, detected_s = _LEVELS.get(spike.level), _detected_s(spike)
    return Sighting(found[1], spike, level, kind in ENDING, partition, offset, recorded_s, detected_s)


def _detected_s(spike: Spike) -> float:
    try:
        return float(spike.detected_time.ToMilliseconds() / 1000)
    except ValueError as error:
        raise Malformed("its detected_time is none between the years 1 and 9999") from error


def object_name(policy: str, spike_id: str) -> str:
    """Of the one object that stands for a spike under a policy."""
    return "vs-" + hashlib.sha256(f"{policy}\n{spike_id}".encode()).hexdigest()[:16]


def manifest(
    name: str, policy: Object, seen: Sighting, level: Level, over_s: float | None = None, *, held: bool = False
) -> Object:
    """The object, owned by its policy. What is known at its making is in its spec, so that nothing is decided before all of it is there:
    a spike whose end came first, `over_s`, would be raised. One that is `held` has the operator's finalizer, which it would have to set
    before its first write."""
    spike, evidence, metadata = seen.spike, seen.spike.evidence, policy["metadata"]
    owner = {"apiVersion": GROUP, "kind": "ViralSpikePolicy", "name": metadata["name"], "uid": metadata["uid"]}
    finalizers = {"finalizers": [FINALIZER]} if held else {}
    return {
        "apiVersion": GROUP,
        "kind": "ViralSpike",
        "metadata": {"name": name, "ownerReferences": [owner], **finalizers},
        "spec": {
            "spikeId": seen.id,
            "tenant": spike.tenant,
            "kind": spike.kind,
            "item": spike.item,
            "level": level.name,
            "detectedAt": moment(seen.detected_s),
            **({} if over_s is None else {"over": moment(over_s)}),
            "evidence": {
                "windowSeconds": max(1, evidence.window_seconds),
                "observed": evidence.observed,
                "expected": evidence.expected,
                "score": evidence.score,
                "lift": evidence.lift,
                "distinctUsers": evidence.distinct_users,
                "distinctRatio": evidence.distinct_ratio,
                "networks": evidence.networks,
                "countries": evidence.countries,
                "confidence": evidence.confidence,
                "projectedViewsHour": spike.projected_views_hour,
                "projectedViewsHourLow": spike.projected_views_hour_low,
            },
            "kafka": {"partition": seen.partition, "offset": seen.offset},
        },
    }
