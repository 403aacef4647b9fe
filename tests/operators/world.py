"""A namespace in memory, for walking the saga through interleavings by the thousand.

It keeps versions and says who wrote a floor last, as far as the saga asks. It proves nothing about an API server: that is for the tests in
`tests/cluster`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from typing import TypeVar

from groundswell_operator.applying.errors import Away, Conflict, NotLeading
from groundswell_operator.planning.admission import Spike as Evidence
from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.policies import (
    Budget,
    Cooldown,
    Level,
    Match,
    Mode,
    Notice,
    OnExhausted,
    Patch,
    Policy,
    Scale,
    Target,
    Via,
)
from groundswell_operator.saga.state import Autoscaler, ConfigMap, Delivery, Governing, Namespace, Scaled, Spike
from groundswell_operator.saga.steps import GiveUpFloor, Hold, LetGo, Note, Notify, Record, Remove, SetKeys, Step, Write

WEB, READERS, WORKERS = (Target("apps/v1", "Deployment", name) for name in ("web", "readers", "workers"))
COOLDOWN = Cooldown(quiet_period_s=60, step_factor=0.5, step_interval_s=10, min_hold_s=30)
BUDGET = Budget(3, 500, 60_000, 3_600, OnExhausted.CLAMP)
EVERYTHING = Match(frozenset(), frozenset(), Level.RISING, 0, 0, 0)
T = TypeVar("T", Spike, Governing, Scaled, Autoscaler, ConfigMap)
FLAGS = "flags"
VALUES = {"ttl": "5", "title": "ours"}
"""Of the ConfigMap, before any spike."""
START_S = 1_764_000_000.0


class Crash(Exception):
    """The process is gone."""


def governing(name: str = "default", mode: Mode = Mode.ENFORCE, budget: Budget = BUDGET) -> Governing:
    """Readers five times, then web and workers ten times."""
    scales = [
        Scale("readers", 0, READERS, 5, 300, Via.HPA_FLOOR),
        Scale("web", 1, WEB, 10, 300, Via.HPA_FLOOR),
        Scale("workers", 1, WORKERS, 10, 300, Via.HPA_FLOOR),
    ]
    policy = Policy(name, mode, EVERYTHING, 120, scales, COOLDOWN, budget, True)
    return Governing(policy, f"uid-{name}", "1", 1)


def telling(name: str = "default", mode: Mode = Mode.ENFORCE) -> Governing:
    """The same, which sets two keys of a ConfigMap too, one of which is not there before, and tells somebody."""
    found = governing(name, mode)
    patches = [Patch("cache", 0, FLAGS, {"ttl": "60", "stale": "yes"})]
    notices = [Notice("chat", 0, "hook", "url", 900)]
    return dataclasses.replace(found, policy=dataclasses.replace(found.policy, patches=patches, notices=notices))


def targets() -> dict[Target, Scaled]:
    """Web and readers with an autoscaler, workers without one."""
    scaler = Autoscaler("", "1", floor=3, ceiling=20, wants=3)
    return {
        WEB: Scaled(WEB, "1", 3, 3, autoscaler=dataclasses.replace(scaler, name="web")),
        READERS: Scaled(READERS, "1", 4, 4, autoscaler=dataclasses.replace(scaler, name="readers", floor=4, wants=4)),
        WORKERS: Scaled(WORKERS, "1", 2, 2),
    }


def spike(name: str, now_s: float, policy: str = "default", views: int = 1_000_000, item: str = "") -> Spike:
    """A viral one, of an item of its own unless one is named."""
    evidence = Evidence(name, "acme", "link", Level.VIRAL, views, 0.9, 5_000, now_s)
    return Spike(name, f"uid-{name}", "1", policy, evidence, created_s=now_s, item=item or name)


class World:
    """Takes steps as an API server would; `fault` may raise before a step takes effect, and after."""

    def __init__(self, *policies: Governing) -> None:
        self.now_s = START_S
        flags = ConfigMap(FLAGS, "1", dict(VALUES))
        self.state = Namespace({each.policy.name: each for each in policies}, {}, targets(), {FLAGS: flags})
        self.fault: Callable[[], None] = lambda: None
        self.done: list[Step] = []
        self.keeps_down: Mapping[Target, int] = {}
        """The most pods of a target that get ready."""
        self.notices: list[tuple[str, str]] = []
        """What arrived, as the names of spike and action."""
        self.set_by_others: dict[str, str] = {}
        self.receiver = ""
        """Why a receiver takes nothing; empty while it does."""

    def clock(self) -> float:
        return round(self.now_s, 3)

    async def read(self) -> Namespace:
        self.fault()
        return self.state

    async def perform(self, step: Step, state: Namespace, now_s: float) -> Namespace:
        self.fault()
        self._take(step)
        self.done.append(step)
        self.fault()
        return self.state

    def _take(self, step: Step) -> None:
        if isinstance(step, Write):
            self._write(step)
        elif isinstance(step, Notify):
            self._notify(step)
        elif isinstance(step, SetKeys):
            self._set(step)
        elif isinstance(step, Note):
            held = self.state.policies.get(step.governing.policy.name)
            if held is None or held.version != step.governing.version:
                raise Conflict("the policy has changed")
            self.govern(dataclasses.replace(held, notes=step.notes))
        else:
            self._own(step)

    def _notify(self, step: Notify) -> None:
        held = self.state.spikes.get(step.spike.name)
        attempts = step.spike.notices.get(step.notice.name, Delivery()).attempts
        delivery = Delivery(attempts, repeats=step.repeats)
        if not step.repeats:
            sent_s = None if self.receiver else self.clock()
            delivery = Delivery(attempts + 1, self.clock(), sent_s, failure=self.receiver)
        if delivery.sent_s is not None:
            self.notices.append((step.spike.name, step.notice.name))
        self.fault()
        if held is not None:
            self.put(dataclasses.replace(held, notices={**held.notices, step.notice.name: delivery}))

    def _set(self, step: SetKeys) -> None:
        held = self.state.config_maps.get(step.config_map.name)
        if held is None or held.version != step.config_map.version:
            raise Conflict("the ConfigMap has changed")
        dropped = held.ours - step.values.keys() - held.shared
        data = {key: value for key, value in held.data.items() if key not in dropped} | dict(step.values)
        self.configure(dataclasses.replace(held, data=data, ours=frozenset(step.values), shared=frozenset()))

    def _own(self, step: Record | Hold | LetGo | Remove) -> None:
        held = self.state.spikes.get(step.spike.name)
        if held is None or held.version != step.spike.version:
            raise Conflict("the spike has changed")
        if isinstance(step, Record):
            self.put(dataclasses.replace(held, progress=step.progress))
        elif isinstance(step, Hold):
            self.put(dataclasses.replace(held, held=True))
        else:
            self.remove(held.name)

    def _write(self, step: Write) -> None:
        held, seen, change = self.state.targets[step.scaled.target], step.scaled, step.change
        if isinstance(change, SetScale):
            if held.version != seen.version:
                raise Conflict("the Deployment has changed")
            return self.show(dataclasses.replace(held, replicas=change.replicas, replicas_ours=True))
        assert held.autoscaler is not None
        assert seen.autoscaler is not None
        if held.autoscaler.version != seen.autoscaler.version:
            raise Conflict("the autoscaler has changed")
        if isinstance(change, GiveUpFloor):
            return self.scale(held, floor_ours=False, floor_shared=False)
        assert isinstance(change, SetFloor)
        assert change.floor <= change.ceiling
        ceiling_ours = held.autoscaler.ceiling_ours or change.ceiling != held.autoscaler.ceiling
        bounds = {"floor": change.floor, "ceiling": change.ceiling}
        return self.scale(held, **bounds, floor_ours=True, ceiling_ours=ceiling_ours, floor_shared=False)

    def put(self, value: Spike) -> None:
        """Stores a spike under its next version."""
        self.state = dataclasses.replace(self.state, spikes={**self.state.spikes, value.name: _next(value)})

    def remove(self, name: str) -> None:
        kept = {other: each for other, each in self.state.spikes.items() if other != name}
        self.state = dataclasses.replace(self.state, spikes=kept)

    def govern(self, value: Governing) -> None:
        policies = {**self.state.policies, value.policy.name: _next(value)}
        self.state = dataclasses.replace(self.state, policies=policies)

    def configure(self, value: ConfigMap) -> None:
        """Stores a ConfigMap under its next version."""
        self.state = dataclasses.replace(self.state, config_maps={**self.state.config_maps, value.name: _next(value)})

    def sets(self, **values: str) -> None:
        """What `kubectl patch` does to the ConfigMap."""
        held = self.state.config_maps[FLAGS]
        self.set_by_others |= values
        shared = {key for key in held.ours & values.keys() if held.data[key] == values[key]}
        ours, data = held.ours - values.keys() | shared, {**held.data, **values}
        self.configure(dataclasses.replace(held, data=data, ours=frozenset(ours), shared=held.shared | shared))

    def show(self, value: Scaled) -> None:
        """Stores a Deployment under its next version."""
        self.state = dataclasses.replace(self.state, targets={**self.state.targets, value.target: _next(value)})

    def scale(self, value: Scaled, **changes: object) -> None:
        """Stores an autoscaler under its next version."""
        assert value.autoscaler is not None
        scaler = _next(dataclasses.replace(value.autoscaler, **changes))  # type: ignore[arg-type]  # of its fields
        self.state = dataclasses.replace(
            self.state, targets={**self.state.targets, value.target: dataclasses.replace(value, autoscaler=scaler)}
        )

    def delete(self, name: str) -> None:
        """What `kubectl delete` does."""
        held = self.state.spikes.get(name)
        if held is not None and held.held:
            self.put(dataclasses.replace(held, deleted_s=held.deleted_s or self.clock()))
        elif held is not None:
            self.remove(name)

    def over(self, name: str) -> None:
        """What the bridge does when a spike has ended."""
        held = self.state.spikes.get(name)
        if held is not None and held.over_s is None:
            self.put(dataclasses.replace(held, over_s=self.clock()))

    def turn(self) -> None:
        """What the cluster does by itself: autoscalers look, pods start and end."""
        for scaled in list(self.state.targets.values()):
            replicas, scaler = scaled.replicas, scaled.autoscaler
            if scaler is not None:
                replicas = min(max(scaler.floor, scaler.wants or 0), scaler.ceiling)
            ready = min(replicas, self.keeps_down.get(scaled.target, replicas))
            if (replicas, ready) != (scaled.replicas, scaled.ready):
                self.show(dataclasses.replace(scaled, replicas=replicas, ready=ready))


def _next(value: T) -> T:
    return dataclasses.replace(value, version=str(int(value.version) + 1))


def faults(chance: random.Random, rate: float) -> Callable[[], None]:
    """Raises now and then what can befall a process between any two steps."""
    kinds = [Crash(), Conflict("injected"), Away("429", 1.0), Away("500", 1.0), NotLeading("injected")]

    def fault() -> None:
        if chance.random() < rate:
            raise chance.choice(kinds)

    return fault
