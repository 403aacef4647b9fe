"""What is known of a namespace at one moment, all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from groundswell_operator.policies import Mode, Target
from groundswell_operator.saga.state import OVER, Claim, ConfigMap, Governing, Patched, Scaled, Spike


@dataclass(frozen=True)
class Held:
    """What live spikes ask of one target together."""

    claims: Sequence[tuple[Spike, Claim]] = ()
    """The best informed first."""

    @cached_property
    def asking(self) -> Sequence[tuple[Spike, Claim]]:
        """Those that still ask for more than was there."""
        return [(spike, claim) for spike, claim in self.claims if claim.asks and spike.deleted_s is None]

    @cached_property
    def figure(self) -> int:
        """The replicas that the target is to have: the largest of all claims. Each keeps the maximum that it was admitted under."""
        return max((each for _, claim in self.asking for each in (claim.desired, claim.baseline.replicas)), default=0)


@dataclass(frozen=True)
class Namespace:
    """Everything that decides."""

    policies: Mapping[str, Governing]
    spikes: Mapping[str, Spike]
    targets: Mapping[Target, Scaled]
    config_maps: Mapping[str, ConfigMap] = field(default_factory=dict)
    heard_s: float | None = None
    """When the bridge last said that it looks for spikes; None where it never has."""
    unread_policies: frozenset[str] = frozenset()
    """Those whose objects are not as their schema says: their spikes stay as they are."""

    @cached_property
    def frozen(self) -> Mapping[Target | str, str]:
        """The targets and ConfigMaps that a spike may hold which cannot be read, with its name: they are left as they are."""
        found: dict[Target | str, str] = {}
        for each in self.spikes.values():
            if each.unread is not None:
                found |= dict.fromkeys(each.unread.targets, each.name) | dict.fromkeys(
                    each.unread.config_maps, each.name
                )
        return found

    @cached_property
    def of_policy(self) -> Mapping[str, Sequence[Spike]]:
        """The spikes of each policy that has any, by its name."""
        found: dict[str, list[Spike]] = {}
        for each in self.spikes.values():
            found.setdefault(each.policy, []).append(each)
        return found

    @cached_property
    def maxima(self) -> Mapping[Target, Mapping[str, int]]:
        """The most that each policy that acts lets a target have, by its name."""
        found: dict[Target, dict[str, int]] = {}
        for name, each in self.policies.items():
            for scale in each.policy.scales if each.policy.mode is not Mode.OBSERVE else ():
                found.setdefault(scale.target, {})[name] = scale.max
        return found

    @cached_property
    def acting(self) -> Sequence[Spike]:
        """The spikes that writes follow from: those that act and are not over, deleted ones too until they are let go. The best informed
        first."""
        found = [
            each
            for each in self.spikes.values()
            if each.acts and each.progress.phase not in OVER and not each.is_let_go
        ]
        return sorted(found, key=lambda each: each.unawareness)

    @cached_property
    def held(self) -> Mapping[Target, Held]:
        """What they ask of each target."""
        found: dict[Target, list[tuple[Spike, Claim]]] = {}
        for spike in self.acting:
            for claim in spike.progress.claims:
                found.setdefault(claim.target, []).append((spike, claim))
        return {target: Held(each) for target, each in found.items()}

    @cached_property
    def patches(self) -> Mapping[str, Sequence[tuple[Spike, Patched]]]:
        """What they set in each ConfigMap, the first decided first."""
        found: dict[str, list[tuple[Spike, Patched]]] = {}
        for spike in sorted(self.acting, key=lambda each: (each.progress.decided_s or 0.0, each.name)):
            for patched in spike.progress.patches:
                found.setdefault(patched.config_map, []).append((spike, patched))
        return found
