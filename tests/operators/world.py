"""A namespace in memory, for walking the saga through interleavings by the thousand.

It keeps versions and says who wrote a floor last, as far as the saga asks. It proves nothing about an API server: that is for the tests in
`tests/cluster`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping

from groundswell_operator.applying.errors import Away, Conflict, NotLeading, RequestFailed
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
from groundswell_operator.saga import imagining
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Autoscaler, ConfigMap, Delivery, Governing, Scaled, Spike
from groundswell_operator.saga.steps import Note, Notify, Remove, SetKeys, Step, Write

WEB, READERS, WORKERS = (Target("apps/v1", "Deployment", name) for name in ("web", "readers", "workers"))
COOLDOWN = Cooldown(quiet_period_s=60, step_factor=0.5, step_interval_s=10, min_hold_s=30)
BUDGET = Budget(3, 500, 60_000, 3_600, OnExhausted.CLAMP)
EVERYTHING = Match(frozenset(), frozenset(), Level.RISING, 0, 0, 0)
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


def governed_by_keda(replicas: int = 3, floor: int | None = None) -> World:
    """A namespace whose web has a ScaledObject instead, which says no ceiling and no floor unless one is given."""
    world = World(governing())
    scaler = Autoscaler(
        "web", "1", floor or 0, 100, "ScaledObject", floor is not None, ceiling_set=False, wants=replicas
    )
    world.show(Scaled(WEB, "1", replicas, replicas, autoscaler=scaler))
    return world


def spike(
    name: str, now_s: float, policy: str = "default", views: int = 1_000_000, item: str = "", held: bool = False
) -> Spike:
    """A viral one, of an item of its own unless one is named; the bridge makes some `held`."""
    evidence = Evidence(name, "acme", "link", Level.VIRAL, views, 0.9, 5_000, now_s)
    return Spike(name, f"uid-{name}", "1", policy, evidence, created_s=now_s, item=item or name, held=held)


class World:
    """Takes steps as an API server would; `fault` may raise before a step takes effect, and after."""

    def __init__(self, *policies: Governing) -> None:
        self.now_s = START_S
        flags = ConfigMap(FLAGS, "1", dict(VALUES))
        self.state = Namespace({each.policy.name: each for each in policies}, {}, targets(), {FLAGS: flags})
        self.fault: Callable[[], None] = lambda: None
        self.fails: Callable[[Step], RequestFailed | None] = lambda _: None
        """What becomes of a step instead of being taken, such as a refusal by an admission webhook."""
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
        if (failure := self.fails(step)) is not None:
            raise failure
        self._take(step)
        self.done.append(step)
        self.fault()
        return self.state

    def _take(self, step: Step) -> None:
        if isinstance(step, Notify):
            return self._notify(step)
        if self._version(step) != _decided_on(step):
            raise Conflict("it has changed")
        if isinstance(step, Write) and isinstance(step.change, SetFloor):
            assert step.change.floor <= step.change.ceiling
        self.state = imagining.taken(self.state, step, self.clock())
        return None

    def _version(self, step: Step) -> str:
        """Of what a step changes; empty where that is not there."""
        state = self.state
        if isinstance(step, Write):
            scaled = state.targets[step.scaled.target]
            scaler = scaled.autoscaler
            return scaled.version if isinstance(step.change, SetScale) else scaler.version if scaler else ""
        if isinstance(step, SetKeys):
            return state.config_maps[step.config_map.name].version if step.config_map.name in state.config_maps else ""
        if isinstance(step, Note):
            name = step.governing.policy.name
            return state.policies[name].version if name in state.policies else ""
        return state.spikes[step.spike.name].version if step.spike.name in state.spikes else ""

    def _notify(self, step: Notify) -> None:
        if not step.repeats and not self.receiver:
            self.notices.append((step.spike.name, step.notice.name))
        self.fault()
        held = self.state.spikes.get(step.spike.name)
        if held is None:
            return
        if step.repeats or not self.receiver:
            self.state = imagining.taken(self.state, step, self.clock())
            return
        attempts = step.spike.notices.get(step.notice.name, Delivery()).attempts
        failed = Delivery(attempts + 1, self.clock(), failure=self.receiver)
        self.put(dataclasses.replace(held, notices={**held.notices, step.notice.name: failed}))

    def put(self, value: Spike) -> None:
        """Stores a spike under its next version."""
        self.state = imagining.with_spike(self.state, value)

    def remove(self, name: str) -> None:
        self.state = imagining.without_spike(self.state, Remove(self.state.spikes[name]))

    def govern(self, value: Governing) -> None:
        self.state = imagining.with_policy(self.state, value)

    def configure(self, value: ConfigMap) -> None:
        """Stores a ConfigMap under its next version."""
        self.state = imagining.with_config_map(self.state, value)

    def sets(self, **values: str) -> None:
        """What `kubectl patch` does to the ConfigMap."""
        held = self.state.config_maps[FLAGS]
        self.set_by_others |= values
        shared = {key for key in held.ours & values.keys() if held.data[key] == values[key]}
        ours, data = held.ours - values.keys() | shared, {**held.data, **values}
        self.configure(dataclasses.replace(held, data=data, ours=frozenset(ours), shared=held.shared | shared))

    def show(self, value: Scaled) -> None:
        """Stores a target under its next version."""
        self.state = imagining.with_target(self.state, imagining.following(value))

    def scale(self, value: Scaled, **changes: object) -> None:
        """Stores an autoscaler under its next version."""
        assert value.autoscaler is not None
        changed = dataclasses.replace(value.autoscaler, **changes)  # type: ignore[arg-type]  # of its fields
        scaler = imagining.following(changed)
        self.state = imagining.with_target(self.state, dataclasses.replace(value, autoscaler=scaler))

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


def _decided_on(step: Step) -> str:
    """The version of what a step was decided on."""
    if isinstance(step, Write):
        scaler = step.scaled.autoscaler
        return step.scaled.version if isinstance(step.change, SetScale) else scaler.version if scaler else ""
    if isinstance(step, SetKeys):
        return step.config_map.version
    return step.governing.version if isinstance(step, Note) else step.spike.version


def faults(chance: random.Random, rate: float) -> Callable[[], None]:
    """Raises now and then what can befall a process between any two steps."""
    kinds = [Crash(), Conflict("injected"), Away("429", 1.0), Away("500", 1.0), NotLeading("injected")]

    def fault() -> None:
        if chance.random() < rate:
            raise chance.choice(kinds)

    return fault
