"""Pods that targets are to have and cannot get: they are not let in, by a quota or a policy, or no node has room for them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

from groundswell_operator.applying import statuses
from groundswell_operator.policies import APPS, DEPLOYMENT, STATEFUL_SET, Object, Target
from groundswell_operator.saga.state import Scaled, Shortfall

UNPLACED = "spec.nodeName=,status.phase=Pending"
"""Selects pods that are on no node."""
NOT_MADE = "reason=FailedCreate,involvedObject.kind=StatefulSet"
"""Selects Events of pods that were not let in."""
MESSAGE_MAX = 300
"""Characters of what the cluster says of one target."""


def unschedulable(pods: Sequence[Object]) -> Mapping[Target, Shortfall]:
    """What no node has room for, of pods that are on no node."""
    messages: defaultdict[Target, list[str]] = defaultdict(list)
    for pod in pods:
        target, message = _target(pod["metadata"]), _unschedulable(pod)
        if target is not None and message is not None and "deletionTimestamp" not in pod["metadata"]:
            messages[target].append(message)
    return {
        target: Shortfall("Unschedulable", len(found), min(found)[:MESSAGE_MAX]) for target, found in messages.items()
    }


def missing(value: Object) -> int:
    """The pods of a Deployment or StatefulSet that are not there."""
    return int(value["spec"].get("replicas", 1)) - int(value.get("status", {}).get("replicas", 0))


def denied(value: Object) -> Shortfall | None:
    """What is not let in of the pods of a Deployment, as its conditions say; a StatefulSet has none."""
    conditions = value.get("status", {}).get("conditions") or ()
    failed = [each for each in conditions if (each["type"], each["status"]) == ("ReplicaFailure", "True")]
    if missing(value) <= 0 or not failed:
        return None
    return Shortfall("PodsDenied", missing(value), str(failed[0].get("message", ""))[:MESSAGE_MAX])


def told_of(events: Sequence[Object], lacking: Mapping[str, Object], since_s: float) -> dict[Target, Shortfall]:
    """What is not let in of StatefulSets that lack pods, by name, as the last Event on each says, if that is not older than a moment."""
    found = {}
    for each in sorted(events, key=_moment_s):
        about = each["involvedObject"]
        value = lacking.get(about["name"])
        if value is not None and value["metadata"]["uid"] == about.get("uid") and _moment_s(each) >= since_s - 1:
            message = str(each.get("message", ""))[:MESSAGE_MAX]
            found[Target(APPS, STATEFUL_SET, about["name"])] = Shortfall("PodsDenied", missing(value), message)
    return found


def with_shortfalls(scaled: Scaled, *found: Shortfall | None) -> Scaled:
    """A target with more that it is short of."""
    return dataclasses.replace(scaled, shortfalls=[*scaled.shortfalls, *(each for each in found if each is not None)])


def _moment_s(event: Object) -> float:
    """When it last happened, in whole seconds."""
    said = event.get("lastTimestamp") or event.get("eventTime")
    return statuses.seconds_of(said) if said else 0.0


def _target(pod: Object) -> Target | None:
    """Whose pod it is; a ReplicaSet's name is its Deployment's and the hash that its pods are labelled with."""
    owner: Object = next((each for each in pod.get("ownerReferences", ()) if each.get("controller")), {})
    template = (pod.get("labels") or {}).get("pod-template-hash")
    if owner.get("kind") == "ReplicaSet" and template:
        return Target(APPS, DEPLOYMENT, owner["name"].removesuffix(f"-{template}"))
    return Target(APPS, STATEFUL_SET, owner["name"]) if owner.get("kind") == STATEFUL_SET else None


def _unschedulable(pod: Object) -> str | None:
    """Why no node takes it; None while that is not known."""
    for each in pod.get("status", {}).get("conditions") or ():
        if (each["type"], each["status"], each.get("reason")) == ("PodScheduled", "False", "Unschedulable"):
            return str(each.get("message", ""))
    return None
