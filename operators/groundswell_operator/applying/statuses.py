"""The status of the two kinds, to and fro. What is written is read back as the same values, times to the millisecond."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from groundswell_operator.planning.raising import Baseline
from groundswell_operator.policies import Mode, Object, Target
from groundswell_operator.saga.state import (
    SPIKE_GENERATION,
    Budget,
    Claim,
    Condition,
    Delivery,
    Governing,
    Notes,
    Patched,
    Phase,
    Progress,
    Spike,
    WouldHave,
)

FAILURE_MAX = 256
"""Characters of why a notice was not sent."""


def moment(value_s: float) -> str:
    """As RFC 3339, to the millisecond."""
    return datetime.fromtimestamp(value_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(value: str) -> float:
    """Seconds since 1970, to the millisecond. An API server takes `t` and `z` for `T` and `Z`, as RFC 3339 has it."""
    return round(datetime.fromisoformat(value.upper()).timestamp(), 3)


def _maybe_s(value: Object, name: str) -> float | None:
    return seconds_of(value[name]) if value.get(name) else None


def progress(status: Object) -> Progress:
    """What was recorded of a spike."""
    timeline = status.get("timeline", {})
    return Progress(
        phase=Phase(status.get("phase", Phase.PENDING.value)),
        mode=Mode(status["mode"]) if "mode" in status else None,
        claims=[_claim(each) for each in status.get("targets", ())],
        patches=[_patched(each) for each in status.get("patches", ())],
        conditions=_conditions(status),
        decided_s=_maybe_s(timeline, "decided"),
        first_write_s=_maybe_s(timeline, "firstWrite"),
        ready_s=_maybe_s(timeline, "ready"),
        restored_s=_maybe_s(timeline, "restored"),
    )


def _claim(value: Object) -> Claim:
    target, baseline = value["targetRef"], value["baseline"]
    return Claim(
        action=value["name"],
        order=value["order"],
        target=Target(target["apiVersion"], target["kind"], target["name"]),
        baseline=_baseline(baseline),
        version=baseline["resourceVersion"],
        max=value["max"],
        desired=value["desired"],
        ready=value["ready"],
        applied_s=_maybe_s(value, "appliedAt"),
        ready_s=_maybe_s(value, "readyAt"),
        stepped_s=_maybe_s(value, "steppedAt"),
        would_have=_would_have(value["wouldHave"]) if "wouldHave" in value else None,
    )


def _baseline(value: Object) -> Baseline:
    unset = value.get("unset", ())
    floor_set, ceiling_set = (name not in unset for name in ("hpaMin", "hpaMax"))
    return Baseline(value["replicas"], value.get("hpaMin"), value.get("hpaMax"), floor_set, ceiling_set)


def _would_have(value: Object) -> WouldHave:
    return WouldHave(
        replicas=value["podsNow"],
        replicas_max=value["podsAlone"],
        replica_s=float(value["replicaSecondsAlone"]),
        planned_replica_s=float(value["replicaSeconds"]),
        counted_s=seconds_of(value["countedAt"]),
        reached_s=_maybe_s(value, "reachedAt"),
    )


def _would_have_status(claim: Claim, found: WouldHave, decided_s: float | None) -> Object:
    status: dict[str, object] = {
        "pods": claim.desired,
        "podsAlone": found.replicas_max,
        "podsNow": found.replicas,
        "replicaSeconds": found.planned_replica_s,
        "replicaSecondsAlone": found.replica_s,
        "replicaMinutes": round(found.planned_replica_s / 60),
        "replicaMinutesAlone": round(found.replica_s / 60),
        **_present(countedAt=found.counted_s, reachedAt=found.reached_s),
    }
    if found.reached_s is not None and decided_s is not None:
        status["secondsEarlier"] = round(found.reached_s - decided_s, 3)
    return status


def _patched(value: Object) -> Patched:
    return Patched(value["name"], value["configMap"], value["data"], value.get("before", {}))


def deliveries(status: Object) -> dict[str, Delivery]:
    """How far the notices of a spike have come."""
    return {
        name: Delivery(
            attempts=each.get("attempts", 0),
            tried_s=_maybe_s(each, "triedAt"),
            sent_s=_maybe_s(each, "sentAt"),
            repeats=each.get("repeats", ""),
            failure=each.get("failure", ""),
        )
        for name, each in status.get("notices", {}).items()
    }


def delivery_status(found: Delivery) -> Object:
    """Of one notice, for a merge patch."""
    told: dict[str, object] = {
        "attempts": found.attempts,
        "failure": found.failure or None,
        "repeats": found.repeats or None,
    }
    return told | _present(triedAt=found.tried_s, sentAt=found.sent_s)


def _conditions(status: Object) -> dict[str, Condition]:
    return {
        each["type"]: Condition(
            type=each["type"],
            status=each["status"] == "True",
            reason=each["reason"],
            message=each["message"],
            since_s=seconds_of(each["lastTransitionTime"]),
            generation=each.get("observedGeneration", 0),
        )
        for each in status.get("conditions", ())
    }


def progress_status(spike: Spike, found: Progress) -> Object:
    """A spike's status for a merge patch: all but what the bridge writes, and how far its notices have come."""
    status: dict[str, object] = {
        "observedGeneration": SPIKE_GENERATION,
        "phase": found.phase.value,
        "targets": [_claim_status(each, found.decided_s) for each in found.claims],
        "patches": [
            {"name": each.action, "configMap": each.config_map, "data": each.values, "before": each.before}
            for each in found.patches
        ],
        "timeline": _timeline(spike, found),
        "conditions": _conditions_status(found.conditions),
        "desired": sum(each.desired for each in found.claims),
        "ready": sum(each.ready for each in found.claims),
    }
    return status | ({"mode": found.mode.value} if found.mode else {})


def _present(**moments_s: float | None) -> dict[str, str]:
    return {name: moment(value) for name, value in moments_s.items() if value is not None}


def _timeline(spike: Spike, found: Progress) -> Object:
    detected_s = spike.evidence.detected_s
    times = _present(
        detected=detected_s,
        decided=found.decided_s,
        firstWrite=found.first_write_s,
        ready=found.ready_s,
        restored=found.restored_s,
    )
    if found.decided_s is not None:
        times["timeToDecide"] = f"{found.decided_s - detected_s:.2f}s"
    if found.ready_s is not None:
        times["timeToReady"] = f"{found.ready_s - detected_s:.2f}s"
    return times


def _baseline_status(found: Baseline, version: str) -> Object:
    unset = [name for name, is_set in (("hpaMin", found.floor_set), ("hpaMax", found.ceiling_set)) if not is_set]
    status = {"replicas": found.replicas, "hpaMin": found.floor, "hpaMax": found.ceiling, "unset": unset or None}
    return {name: value for name, value in {**status, "resourceVersion": version}.items() if value is not None}


def _claim_status(claim: Claim, decided_s: float | None) -> Object:
    observed = claim.would_have
    return {
        "name": claim.action,
        "targetRef": {
            "apiVersion": claim.target.api_version,
            "kind": claim.target.kind,
            "name": claim.target.name,
        },
        "order": claim.order,
        "max": claim.max,
        "baseline": _baseline_status(claim.baseline, claim.version),
        "desired": claim.desired,
        "ready": claim.ready,
        **_present(appliedAt=claim.applied_s, readyAt=claim.ready_s, steppedAt=claim.stepped_s),
        **({"wouldHave": _would_have_status(claim, observed, decided_s)} if observed else {}),
    }


def _conditions_status(found: Mapping[str, Condition]) -> list[Object]:
    return [
        {
            "type": each.type,
            "status": str(each.status),
            "reason": each.reason,
            "message": each.message,
            "lastTransitionTime": moment(each.since_s),
            "observedGeneration": each.generation,
        }
        for each in found.values()
    ]


def notes(status: Object) -> Notes:
    """What was recorded of a policy."""
    budget = status.get("budget", {})
    return Notes(
        phase=status.get("phase", ""),
        active=status.get("activeSpikes", 0),
        budget=Budget(
            day=budget.get("day", ""),
            extra_replicas=budget.get("extraReplicas", 0),
            replica_seconds=float(budget.get("replicaSecondsUsed", 0)),
            accounted_s=_maybe_s(budget, "accountedAt") or 0,
        ),
        conditions=_conditions(status),
        dismissed={each["name"]: seconds_of(each["at"]) for each in status.get("dismissed", ())},
    )


def notes_status(governing: Governing, found: Notes) -> Object:
    """A policy's status for a merge patch: all but what the bridge writes."""
    used, most = int(found.budget.replica_seconds // 60), governing.policy.budget.replica_minutes_day_max
    budget: dict[str, object] = {
        "extraReplicas": found.budget.extra_replicas,
        "replicaSecondsUsed": found.budget.replica_seconds,
        "replicaMinutesUsed": used,
        "replicaMinutesLeft": max(0, most - used),
    }
    if found.budget.accounted_s:
        budget |= {"day": found.budget.day, "accountedAt": moment(found.budget.accounted_s)}
    return {
        "observedGeneration": governing.generation,
        "phase": found.phase,
        "activeSpikes": found.active,
        "budget": budget,
        "dismissed": [{"name": name, "at": moment(at_s)} for name, at_s in found.dismissed.items()],
        "conditions": _conditions_status(found.conditions),
    }
