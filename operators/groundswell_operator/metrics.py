"""What is measured, in one list."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.steps import Notify, Record, SetKeys, Step, Write

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Of the process that acts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._outcomes = Counter(
            "groundswell_operator_passes_total",
            "Passes, and steps that were refused or not answered, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._writes = Counter(
            "groundswell_operator_foreign_writes_total", "Writes to what is not our own.", ["kind"], registry=registry
        )
        self._notices = Counter("groundswell_operator_notices_total", "Attempts to send a notice.", registry=registry)
        self._to_write = Histogram(
            "groundswell_operator_time_to_write_seconds",
            "From a spike's decision to its first write.",
            buckets=SECONDS,
            registry=registry,
        )
        self._to_ready = Histogram(
            "groundswell_operator_time_to_ready_seconds",
            "From a spike's decision to its last ready pod.",
            buckets=SECONDS,
            registry=registry,
        )
        self._leads = Gauge("groundswell_operator_leader", "1 while this process leads.", registry=registry)
        self._wanted = Gauge("groundswell_operator_replicas_wanted", "Of live spikes.", ["policy"], registry=registry)
        self._ready = Gauge("groundswell_operator_replicas_ready", "Of live spikes.", ["policy"], registry=registry)
        self._used = Gauge(
            "groundswell_operator_budget_replica_minutes_used", "Of the UTC day.", ["policy"], registry=registry
        )
        self._most = Gauge(
            "groundswell_operator_budget_replica_minutes_max", "That a UTC day has.", ["policy"], registry=registry
        )
        self._policies: set[str] = set()
        self._heard = Gauge(
            "groundswell_operator_watch_heard_timestamp_seconds",
            "When a watch last told of an object of the kind.",
            ["kind"],
            registry=registry,
        )
        self._unread = Gauge(
            "groundswell_operator_unreadable_objects",
            "Objects that are not as their schema says, and so are left as they are.",
            ["kind"],
            registry=registry,
        )

    def outcome(self, name: str) -> None:
        """A pass was done, met a conflict or an API server that is away, or a step was refused or not answered."""
        self._outcomes.labels(name).inc()

    def leads(self, does: bool) -> None:
        """Whether this process leads."""
        self._leads.set(does)

    def heard(self, kind: str) -> None:
        """A watch told of an object of a kind."""
        self._heard.labels(kind).set_to_current_time()

    def step(self, step: Step) -> None:
        """A step was carried out."""
        if isinstance(step, Write):
            self._writes.labels(type(step.change).__name__).inc()
        if isinstance(step, SetKeys):
            self._writes.labels(type(step).__name__).inc()
        if isinstance(step, Notify):
            self._notices.inc()
        if isinstance(step, Record):
            before, after = step.spike.progress, step.progress
            if after.decided_s is not None and after.first_write_s is not None and before.first_write_s is None:
                self._to_write.observe(after.first_write_s - after.decided_s)
            if after.decided_s is not None and after.ready_s is not None and before.ready_s is None:
                self._to_ready.observe(after.ready_s - after.decided_s)

    def state(self, state: Namespace) -> None:
        """What a pass ended with."""
        self._unread.labels("ViralSpikePolicy").set(len(state.unread_policies))
        self._unread.labels("ViralSpike").set(sum(each.unread is not None for each in state.spikes.values()))
        for name, governing in state.policies.items():
            live = [each.progress for each in state.of_policy.get(name, ()) if each.lives and each.acts]
            self._wanted.labels(name).set(sum(claim.desired for each in live for claim in each.claims))
            self._ready.labels(name).set(sum(claim.ready for each in live for claim in each.claims))
            self._used.labels(name).set(governing.notes.budget.replica_seconds / 60)
            self._most.labels(name).set(governing.policy.budget.replica_minutes_day_max)
        for gone in self._policies - state.policies.keys():
            for gauge in (self._wanted, self._ready, self._used, self._most):
                gauge.remove(gone)
        self._policies = set(state.policies)

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return bytes(generate_latest(self._registry))
