"""What is said of the source: whether the bridge looks, and in each policy's status whether the log answers, how far it is ahead, and
what came too late."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from groundswell_operator.applying.errors import Conflict, Refused
from groundswell_operator.applying.owning import Owner
from groundswell_operator.applying.reading import GROUP, Paths
from groundswell_operator.applying.requests import Asking
from groundswell_operator.applying.statuses import moment
from groundswell_operator.bridge.records import TOPIC
from groundswell_operator.policies import Object

MANAGER = "groundswell-bridge"
CONDITION = "SourceConnected"
HEARD_S = 10.0
"""How often the bridge says that it looks: often enough that the operator does not take it for gone."""
JUST_NOW_S = 5.0
"""What was said so recently is not said again, however many policies there are; less than `HEARD_S` by more than one look may be late."""
CALM_S, CALM_S_MAX = 1.0, 2.0
"""For so long after a record nothing is said: the operator raises then, and the API server has enough to do. The longer one is how late it
may become while records keep coming."""


@dataclass(frozen=True, slots=True)
class Source:
    """The state of the topic, as far as one policy is concerned."""

    answers: bool
    """Whether Kafka does, and has the topic."""
    lag: int | None
    """Records that were not read yet when it last did; None where it never has."""
    last_record_s: float | None
    too_old: int
    """Records that were passed over for their age since the process began."""
    is_missing: bool = False
    """Whether Kafka is there and the topic is not."""


def due_s(said_s: float, record_s: float) -> float:
    """When something is to be said again, after it was last said and a record last came (all monotonic)."""
    return max(said_s + HEARD_S, min(record_s + CALM_S, said_s + HEARD_S + CALM_S_MAX))


class Sources:
    """Writes it into each policy where it has changed, and into one Lease for all of them that the bridge looks."""

    def __init__(self, requests: Asking, namespace: str, identity: str, deployment: str = "") -> None:
        """`requests` have a pace of their own. The Lease goes with the `deployment` of the bridge, where that is named."""
        self._requests, self._paths, self._identity = requests, Paths(namespace), identity
        self._owner = Owner(requests, namespace, deployment)
        self._beaten_s = float("-inf")

    async def beat(self) -> None:
        """Says that the bridge looks, if that was not said just now; raises what `Requests` does.

        The moment is the API server's: by a clock of its own that is behind, the bridge would be gone for whoever reads it, and by one that
        is ahead it would never be. Before the first time something is asked, since an answer says what time it is, whatever else it says.
        """
        began_s = time.monotonic()
        if began_s - self._beaten_s < JUST_NOW_S:
            return
        if math.isinf(self._beaten_s):
            with suppress(Refused, Conflict):
                await self._requests.get(self._paths.policies, resourceVersion="0")
        spec = {"holderIdentity": self._identity, "renewTime": _micro_time(self._requests.now_s())}
        owners = await self._owner.references()
        owned = {"ownerReferences": owners} if owners else {}  # to apply none would be to take away what there is
        metadata = {"name": self._paths.heartbeat.rpartition("/")[2], **owned}
        value = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        await self._requests.apply(self._paths.heartbeat, value, MANAGER)
        self._beaten_s = began_s

    async def tell(self, policy: Object, source: Source, now_s: float) -> None:
        """Applies what this process owns of a policy's status; raises what `Requests` does."""
        status, before = _status(policy, source, now_s), policy.get("status", {})
        known = [each for each in before.get("conditions", ()) if each["type"] == CONDITION]
        if known == status["conditions"] and before.get("source", {}) == status["source"]:
            return
        name = policy["metadata"]["name"]
        value = {"apiVersion": GROUP, "kind": "ViralSpikePolicy", "metadata": {"name": name}, "status": status}
        await self._requests.apply(f"{self._paths.policies}/{name}/status", value, MANAGER)


def _micro_time(value_s: float) -> str:
    """As a Lease has it."""
    return datetime.fromtimestamp(value_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _status(policy: Object, source: Source, now_s: float) -> Object:
    heard = source.answers
    if source.is_missing:
        reason, message = "TopicMissing", f"there is no {TOPIC}: what is raised stays raised"
    elif not heard:
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
    told = dict(policy.get("status", {}).get("source", {}))
    if source.lag is not None:
        told["lag"] = source.lag
    if source.last_record_s is not None:
        told["lastRecordTime"] = moment(source.last_record_s)
    return {"source": told, "conditions": [condition]}
