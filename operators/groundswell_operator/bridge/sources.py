"""What a policy's status says of its source: whether it is heard of, how far behind it is, and what came too late."""

from __future__ import annotations

from dataclasses import dataclass

from groundswell_operator.applying.reading import GROUP, Paths
from groundswell_operator.applying.requests import Asking
from groundswell_operator.applying.statuses import moment, seconds_of
from groundswell_operator.policies import Object

MANAGER = "groundswell-bridge"
CONDITION = "SourceConnected"
HEARD_S = 10.0
"""How often it says that it looks, while nothing changes: often enough that the operator does not take it for gone."""


@dataclass(frozen=True, slots=True)
class Source:
    """The state of the topic, as far as one policy is concerned."""

    answers: bool
    """Whether Kafka does."""
    lag: int | None
    """Records that were not read yet when it last did; None where it never has."""
    last_record_s: float | None
    too_old: int
    """Records that were passed over for their age since the process began."""


class Sources:
    """Writes it, where it has changed, and now and then that nothing has."""

    def __init__(self, requests: Asking, namespace: str) -> None:
        self._requests, self._paths = requests, Paths(namespace)

    async def tell(self, policy: Object, source: Source, now_s: float) -> None:
        """Applies what this process owns of the status; raises what `Requests` does."""
        status = _status(policy, source, now_s)
        before = policy.get("status", {})
        known = [each for each in before.get("conditions", ()) if each["type"] == CONDITION]
        heard = before.get("source", {}).get("heardTime")
        same = known == status["conditions"] and before.get("source", {}) == {**status["source"], "heardTime": heard}
        if same and heard is not None and now_s - seconds_of(heard) < HEARD_S:
            return
        name = policy["metadata"]["name"]
        value = {"apiVersion": GROUP, "kind": "ViralSpikePolicy", "metadata": {"name": name}, "status": status}
        await self._requests.apply(f"{self._paths.policies}/{name}/status", value, MANAGER)


def _status(policy: Object, source: Source, now_s: float) -> Object:
    heard = source.answers
    if not heard:
        reason, message = "KafkaAway", "what is raised stays raised"
    elif source.too_old:
        reason, message = "OldRecordsSkipped", f"{source.too_old} records were older than maxRecordAge"
    else:
        reason, message = "Connected", ""
    before = [each for each in policy.get("status", {}).get("conditions", ()) if each["type"] == CONDITION]
    same = before and before[0]["status"] == str(heard)
    condition = {
        "type": CONDITION,
        "status": str(heard),
        "reason": reason,
        "message": message,
        "lastTransitionTime": before[0]["lastTransitionTime"] if same else moment(now_s),
        "observedGeneration": policy["metadata"]["generation"],
    }
    told = dict(policy.get("status", {}).get("source", {})) | {"heardTime": moment(now_s)}
    if source.lag is not None:
        told["lag"] = source.lag
    if source.last_record_s is not None:
        told["lastRecordTime"] = moment(source.last_record_s)
    return {"source": told, "conditions": [condition]}
