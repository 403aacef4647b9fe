"""Pods that targets are to have and cannot get: they are not let in, by a quota or a policy, or no node has room for them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

from groundswell_operator.policies import Object, Target
from groundswell_operator.saga.state import Scaled, Shortfall

UNPLACED = "spec.nodeName=,status.phase=Pending"
"""Selects pods that are on no node."""
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


def denied(value: Object) -> Shortfall | None:
    """What is not let in of the pods of a Deployment."""
    status = value.get("status", {})
    failures = [each for each in status.get("conditions", ()) if each["type"] == "ReplicaFailure"]
    missing = value["spec"].get("replicas", 1) - status.get("replicas", 0)
    if missing <= 0 or not failures or failures[0]["status"] != "True":
        return None
    return Shortfall("PodsDenied", missing, str(failures[0].get("message", ""))[:MESSAGE_MAX])


def with_shortfall(scaled: Scaled, found: Shortfall | None) -> Scaled:
    """A target with one more that it is short of."""
    return scaled if found is None else dataclasses.replace(scaled, shortfalls=[*scaled.shortfalls, found])


def _target(pod: Object) -> Target | None:
    """Whose pod it is. A ReplicaSet's name is its Deployment's and the hash that its pods are labelled with."""
    owner: Object = next((each for each in pod.get("ownerReferences", ()) if each.get("controller")), {})
    template = (pod.get("labels") or {}).get("pod-template-hash")
    if owner.get("kind") == "ReplicaSet" and template:
        return Target("apps/v1", "Deployment", owner["name"].removesuffix(f"-{template}"))
    return None


def _unschedulable(pod: Object) -> str | None:
    """Why no node takes it; None while that is not known."""
    for each in pod.get("status", {}).get("conditions") or ():
        if (each["type"], each["status"], each.get("reason")) == ("PodScheduled", "False", "Unschedulable"):
            return str(each.get("message", ""))
    return None
