"""What is known of each policy, each spike and what they scale. Times are seconds since 1970."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from groundswell_operator.planning.admission import Spike as Evidence
from groundswell_operator.planning.raising import Baseline
from groundswell_operator.policies import Mode, Policy, Target


class Phase(enum.Enum):
    """How far a spike's saga has come."""

    PENDING = "Pending"
    AWAITING_APPROVAL = "AwaitingApproval"
    RAISING = "Raising"
    HOLDING = "Holding"
    COOLING_DOWN = "CoolingDown"
    RESTORED = "Restored"
    REJECTED = "Rejected"


LIVE = (Phase.RAISING, Phase.HOLDING, Phase.COOLING_DOWN)
"""A spike in these has a place in its policy's budget, unless it is only told of, or was only observed by one that acts by now."""
OVER = (Phase.RESTORED, Phase.REJECTED)
NOTIFY_ONLY = "NotifyOnly"
"""Why a spike is admitted that the budget does not cover: for all that its policy does but scale."""
KEPT = "Kept"
"""Why a spike is over whose policy gives nothing back."""
SPIKE_GENERATION = 1
"""A spike's spec cannot be changed, so what is said of it is said of its first generation."""


@dataclass(frozen=True, slots=True)
class Condition:
    """As metav1.Condition."""

    type: str
    status: bool
    reason: str
    message: str
    since_s: float
    generation: int = SPIKE_GENERATION


@dataclass(frozen=True, slots=True)
class WouldHave:
    """What a target did by itself while its spike was only observed."""

    replicas: int
    """At the last look."""
    replicas_max: int
    replica_s: float = 0
    """Replica-seconds beyond the baseline."""
    planned_replica_s: float = 0
    """Those that the plan would have cost."""
    counted_s: float = 0
    """The moment up to which they are counted."""
    reached_s: float | None = None
    """When it had as many replicas as the plan would have ordered at the decision."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one spike asks of one target. It is in the spike's status before anything is written."""

    action: str
    order: int
    target: Target
    baseline: Baseline
    version: str
    """Of the object that the baseline was read from."""
    max: int
    desired: int
    """Falls to the baseline while it cools down."""
    ready: int = 0
    applied_s: float | None = None
    ready_s: float | None = None
    stepped_s: float | None = None
    would_have: WouldHave | None = None
    """Of a spike that is only observed."""

    @property
    def asks(self) -> bool:
        """Whether it asks for more than was there."""
        return self.desired > self.baseline.replicas


@dataclass(frozen=True, slots=True)
class Patched:
    """What one spike sets in a ConfigMap. It is in the spike's status before anything is written."""

    action: str
    config_map: str
    values: Mapping[str, str]
    before: Mapping[str, str]
    """What was there; a key that is missing was not there."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far one notice of a spike has come."""

    attempts: int = 0
    tried_s: float | None = None
    sent_s: float | None = None
    repeats: str = ""
    """The spike whose notice was about the same item: another was not needed."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the operator writes into a spike's status."""

    phase: Phase = Phase.PENDING
    mode: Mode | None = None
    """The policy's mode when the spike was admitted: what was only observed then is never written later."""
    claims: Sequence[Claim] = ()
    patches: Sequence[Patched] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    decided_s: float | None = None
    first_write_s: float | None = None
    ready_s: float | None = None
    restored_s: float | None = None

    @property
    def has_place(self) -> bool:
        """Whether it takes one of the places in its policy's budget. A spike that is only told of keeps none from another."""
        admitted = self.conditions.get("Admitted")
        return self.phase in LIVE and (admitted is None or admitted.reason != NOTIFY_ONLY)

    @property
    def is_kept(self) -> bool:
        """Whether it is over, and what it raised was left as it was."""
        restored = self.conditions.get("Restored")
        return self.phase is Phase.RESTORED and restored is not None and restored.reason == KEPT


@dataclass(frozen=True, slots=True)
class Unread:
    """What is known of a spike whose object is not as its schema says: it is neither acted upon nor written over."""

    why: str
    targets: frozenset[Target] = frozenset()
    """It may hold these: they are left as they are."""
    config_maps: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Spike:
    """A ViralSpike."""

    name: str
    uid: str
    version: str
    policy: str
    """The name of its owner; empty without one."""
    evidence: Evidence
    created_s: float
    over_s: float | None = None
    """When it was said to be over."""
    deleted_s: float | None = None
    held: bool = False
    """Whether our finalizer keeps the object until what it raised is given back."""
    other_finalizers: Sequence[str] = ()
    progress: Progress = Progress()
    item: str = ""
    """What is viral."""
    notices: Mapping[str, Delivery] = field(default_factory=dict)
    """By action."""
    unread: Unread | None = None

    @property
    def acts(self) -> bool:
        """Whether writes follow from its claims."""
        return self.progress.mode not in (None, Mode.OBSERVE)

    @property
    def is_let_go(self) -> bool:
        """Whether it is there only because somebody else's finalizer keeps it: nothing is held for it any more."""
        return self.deleted_s is not None and not self.held

    @property
    def lives(self) -> bool:
        """Whether something may be held for it."""
        return self.progress.phase in LIVE and not self.is_let_go

    @property
    def unawareness(self) -> float:
        """The lower, the more recent is what it knows of what was there before: one that is deleted is not kept up to date."""
        return -math.inf if self.deleted_s is None else -self.deleted_s


@dataclass(frozen=True, slots=True)
class Budget:
    """What of a policy's budget is used, up to `accounted_s`."""

    day: str = ""
    """The UTC day that the figures are for."""
    extra_replicas: int = 0
    """Held since `accounted_s`."""
    replica_seconds: float = 0
    accounted_s: float = 0


@dataclass(frozen=True, slots=True)
class Pauses:
    """What annotations forbid."""

    scale_in: bool = False
    scale_out: bool = False


@dataclass(frozen=True, slots=True)
class Notes:
    """What the operator writes into a policy's status."""

    phase: str = ""
    active: int = 0
    budget: Budget = Budget()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    dismissed: Mapping[str, float] = field(default_factory=dict)
    """The spikes that were deleted while something was held for them, and when: the bridge makes none of them anew."""


@dataclass(frozen=True, slots=True)
class Governing:
    """A ViralSpikePolicy."""

    policy: Policy
    uid: str
    version: str
    generation: int
    approved: frozenset[str] = frozenset()
    """The names of the spikes that a person has approved."""
    pauses: Pauses = Pauses()
    notes: Notes = Notes()


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """What governs the replicas of a target, of whichever kind."""

    name: str
    version: str
    floor: int
    ceiling: int
    kind: str = "HorizontalPodAutoscaler"
    floor_set: bool = True
    """Whether somebody has said so; otherwise the floor is what stands for a missing one."""
    ceiling_set: bool = True
    floor_ours: bool = False
    """Whether we wrote the floor last."""
    ceiling_ours: bool = False
    ceiling_shared: bool = False
    floor_shared: bool = False
    """Whether somebody else has set our floor's value too."""
    wants: int | None = None
    """The replicas that its metrics call for; None when that is not known."""
    pauses: Pauses = Pauses()
    unusable: str = ""
    """Why a floor of it would not be held."""
    hidden: bool = False
    """Whether it follows something that cannot be read: whose the floor is, is not known then."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Pods that a target is to have and cannot get."""

    reason: str
    """PodsDenied: they are not let in; Unschedulable: no node has room for them."""
    pods: int
    message: str
    """As the cluster says it."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A Deployment or StatefulSet."""

    target: Target
    version: str
    replicas: int
    ready: int
    replicas_ours: bool = False
    replicas_by_autoscaler: bool = False
    """Whether an autoscaler wrote them last."""
    partitions: int | None = None
    """Of the topics that its pods read, where it says so; 0 where what it says is no number."""
    shortfalls: Sequence[Shortfall] = ()
    """Looked for only while a spike lives."""
    pauses: Pauses = Pauses()
    autoscaler: Autoscaler | None = None
    written_s: float | None = None
    """When this process last wrote it in this pass."""


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """One that a policy or a live spike names."""

    name: str
    version: str
    data: Mapping[str, str]
    ours: frozenset[str] = frozenset()
    """The keys that we wrote last."""
    shared: frozenset[str] = frozenset()
    """Those of them that somebody else has set to the same value too."""
    is_immutable: bool = False
