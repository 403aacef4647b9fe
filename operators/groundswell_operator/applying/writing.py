"""Carries out one step, and gives back what is known then.

Each write names the version of the object that it was decided on, so nothing that has changed since is overwritten: not by a process
that was stopped in between, either.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Coroutine, Hashable, Sequence
from contextlib import suppress
from typing import TypeVar, cast

from groundswell_operator.applying import reading, scalers, statuses, webhooks
from groundswell_operator.applying.errors import Away, Conflict, Refused, RequestFailed
from groundswell_operator.applying.listing import Listing
from groundswell_operator.applying.ownership import MANAGER
from groundswell_operator.applying.reading import FINALIZER, GROUP, Paths
from groundswell_operator.applying.requests import Asking
from groundswell_operator.applying.scaled_objects import ScaledObjects
from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.policies import Object
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import OVER, Autoscaler, Delivery, Governing, Scaled, Spike
from groundswell_operator.saga.steps import (
    Foreign,
    Free,
    GiveUpFloor,
    Hold,
    LetGo,
    Note,
    Notify,
    Record,
    Remove,
    SetKeys,
    Step,
    Told,
    Write,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
REPORTER = "groundswell-operator"
WARNINGS = {("Degraded", True), ("Restored", False), ("Configured", False), ("Notified", False)}
"""The conditions whose Events are warnings."""
UNRECORDED_MAX = 100
"""Notices that are remembered as sent while that cannot be recorded: the last ones."""


class Cluster:
    """A namespace that steps are carried out in. Every method raises what `Requests` does."""

    def __init__(self, requests: Asking, namespace: str) -> None:
        self._requests, self._namespace = requests, namespace
        self._paths = Paths(namespace)
        self._scaled_objects = ScaledObjects(requests, self._paths.scaled_objects)
        self._listing = Listing(requests, self._paths.spikes)
        self._unrecorded: dict[Hashable, Delivery] = {}

    async def read(self) -> Namespace:
        """Everything that decides."""
        return await reading.read(self._requests, self._paths, self._scaled_objects, self._listing.listed)

    async def perform(self, step: Step, state: Namespace, now_s: float) -> Namespace:
        """The state after a step."""
        try:
            return await self._performed(step, state, now_s)
        finally:
            if not isinstance(step, Foreign | Note) and step.spike.progress.phase in OVER:
                self._listing.forget()

    async def _performed(self, step: Step, state: Namespace, now_s: float) -> Namespace:
        if isinstance(step, Write):
            return await self._write(step, state, now_s)
        if isinstance(step, Record):
            status = {"status": statuses.progress_status(step.spike, step.progress)}
            telling = self._tell("ViralSpike", step.spike, step.told, now_s)
            return await _beside(telling, self._patched(step.spike, status, state, "/status"))
        if isinstance(step, Hold):
            return await self._finalized(step.spike, [*step.spike.other_finalizers, FINALIZER], state)
        if isinstance(step, Free):
            return await self._finalized(step.spike, step.spike.other_finalizers, state)
        if isinstance(step, LetGo):
            telling = self._tell("ViralSpike", step.spike, step.told, now_s)
            return await _beside(telling, self._gone(step.spike, state))
        if isinstance(step, Remove):
            return await self._removed(step.spike, state)
        if isinstance(step, SetKeys):
            return await self._set(step, state)
        if isinstance(step, Notify):
            await self._notify(step, now_s)
            return state
        return await self._noted(step, state, now_s)

    async def _patched(self, spike: Spike, change: Object, state: Namespace, part: str = "") -> Namespace:
        metadata = {"resourceVersion": spike.version, **change.get("metadata", {})}
        path = f"{self._paths.spikes}/{spike.name}{part}"
        answer = await self._requests.merge(path, {**change, "metadata": metadata}, MANAGER)
        return dataclasses.replace(state, spikes={**state.spikes, spike.name: reading.spike(answer)})

    async def _finalized(self, spike: Spike, finalizers: Sequence[str], state: Namespace) -> Namespace:
        return await self._patched(spike, {"metadata": {"finalizers": list(finalizers)}}, state)

    async def _gone(self, spike: Spike, state: Namespace) -> Namespace:
        value = {"metadata": {"resourceVersion": spike.version, "finalizers": list(spike.other_finalizers)}}
        await self._requests.merge(f"{self._paths.spikes}/{spike.name}", value, MANAGER)
        return _without(state, spike)

    async def _removed(self, spike: Spike, state: Namespace) -> Namespace:
        await self._requests.delete(f"{self._paths.spikes}/{spike.name}", spike.version)
        return _without(state, spike)

    async def _noted(self, step: Note, state: Namespace, now_s: float) -> Namespace:
        governing = step.governing
        value = {
            "metadata": {"resourceVersion": governing.version},
            "status": statuses.notes_status(governing, step.notes),
        }
        name = governing.policy.name
        telling = self._tell("ViralSpikePolicy", governing, step.told, now_s)
        written = self._requests.merge(f"{self._paths.policies}/{name}/status", value, MANAGER)
        answer = await _beside(telling, written)
        return dataclasses.replace(state, policies={**state.policies, name: reading.governing(answer)})

    async def _write(self, step: Write, state: Namespace, now_s: float) -> Namespace:
        scaled, change = state.targets[step.scaled.target], step.change
        if isinstance(change, SetScale):
            found = await self._scale(scaled, change.replicas)
        else:
            assert scaled.autoscaler is not None
            spec = (
                _bounds(scaled.autoscaler, change) if isinstance(change, SetFloor) else _kept(scaled.autoscaler, change)
            )
            found = dataclasses.replace(scaled, autoscaler=await self._apply(scaled.autoscaler, spec))
        found = dataclasses.replace(found, written_s=now_s)
        return dataclasses.replace(state, targets={**state.targets, scaled.target: found})

    async def _apply(self, scaler: Autoscaler, spec: Object) -> Autoscaler:
        kind = scalers.KINDS[scaler.kind]
        value = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": scaler.name, "resourceVersion": scaler.version},
            **({"spec": spec} if spec else {}),
        }
        answer = await self._requests.apply(self._paths.scaler(scaler), value, MANAGER)
        return scalers.following(scaler, answer)

    async def _scale(self, scaled: Scaled, replicas: int) -> Scaled:
        """Its version is another with each pod that gets ready: where nothing else has changed, the next one will do."""
        try:
            await self._scaled_to(scaled, replicas)
        except Conflict:
            found = await self._looked_at(scaled)
            if dataclasses.replace(found, version=scaled.version, ready=scaled.ready) != scaled:
                raise
            await self._scaled_to(found, replicas)
        return await self._looked_at(scaled)

    async def _scaled_to(self, scaled: Scaled, replicas: int) -> None:
        value = {"metadata": {"resourceVersion": scaled.version}, "spec": {"replicas": replicas}}
        await self._requests.merge(f"{self._paths.scaled(scaled.target)}/scale", value, MANAGER)

    async def _looked_at(self, scaled: Scaled) -> Scaled:
        """As it is now; what governs it, and what it cannot get, as known."""
        value = await self._requests.get(self._paths.scaled(scaled.target))
        found = reading.scaled(value, scaled.target.kind, scaled.autoscaler)
        return dataclasses.replace(found, shortfalls=scaled.shortfalls, written_s=scaled.written_s)

    async def _set(self, step: SetKeys, state: Namespace) -> Namespace:
        found = step.config_map
        value = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": found.name, "resourceVersion": found.version},
            **({"data": dict(step.values)} if step.values else {}),
        }
        answer = await self._requests.apply(f"{self._paths.config_maps}/{found.name}", value, MANAGER)
        return dataclasses.replace(state, config_maps={**state.config_maps, found.name: reading.config_map(answer)})

    async def _notify(self, step: Notify, now_s: float) -> None:
        """Sent first, recorded afterwards: a crash in between sends it again, with the same key. A record that is not taken does not: what
        is repeated then is the record."""
        about = step.spike.uid, step.notice.name
        delivery = self._unrecorded.pop(about, None) or await self._delivered(step, now_s)
        status = {"status": {"notices": {step.notice.name: statuses.delivery_status(delivery)}}}
        try:
            await self._requests.merge(f"{self._paths.spikes}/{step.spike.name}/status", status, MANAGER)
        except RequestFailed:
            self._unrecorded[about] = delivery
            if len(self._unrecorded) > UNRECORDED_MAX:
                del self._unrecorded[next(iter(self._unrecorded))]
            raise

    async def _delivered(self, step: Notify, now_s: float) -> Delivery:
        attempts = step.spike.notices.get(step.notice.name, Delivery()).attempts
        if step.repeats:
            return Delivery(attempts, repeats=step.repeats)
        tried = Delivery(attempts + 1, now_s)
        try:
            await webhooks.send(self._requests, self._paths, self._namespace, step.spike, step.notice)
        except webhooks.NotSent as error:
            log.warning("the notice %s of %s was not sent: %s", step.notice.name, step.spike.name, error)
            return dataclasses.replace(tried, failure=str(error)[: statuses.FAILURE_MAX])
        return dataclasses.replace(tried, sent_s=now_s)

    async def _tell(self, kind: str, about: Spike | Governing, told: Sequence[Told], now_s: float) -> None:
        """One Event each. That it is there already, that its namespace is going, or that Events are throttled holds nothing up."""
        name = about.name if isinstance(about, Spike) else about.policy.name
        try:
            for each in told:
                with suppress(Conflict, Refused):
                    await self._requests.create(self._paths.events, self._event(kind, name, about.uid, each, now_s))
        except Away as away:
            log.warning("Events of %s are left out: %s", name, away)

    def _event(self, kind: str, name: str, uid: str, told: Told, now_s: float) -> Object:
        condition, time = told.condition, statuses.moment(now_s).partition(".")[0] + "Z"
        bad = (condition.type, condition.status) in WARNINGS
        return {
            "metadata": {"name": f"{name}.{told.key}", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": GROUP,
                "kind": kind,
                "name": name,
                "namespace": self._namespace,
                "uid": uid,
            },
            "type": "Warning" if bad else "Normal",
            "reason": condition.reason,
            "message": f"{condition.type}={condition.status}: {condition.message}"[:1000],
            "source": {"component": REPORTER},
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }


async def _beside(telling: Coroutine[object, object, None], writing: Coroutine[object, object, T]) -> T:
    """What a write answers. Its Events go at the same time, since a raise waits for both; an Event that lands without its write comes
    again under its name."""
    told, answer = await asyncio.gather(telling, writing, return_exceptions=True)
    for failed in (answer, told):
        if isinstance(failed, BaseException):
            raise failed
    return cast(T, answer)


def _bounds(scaler: Autoscaler, change: SetFloor) -> Object:
    """The ceiling is applied only where it must change or is ours already: leaving it out would take it away then.

    What is to be unset is left out for just that.
    """
    kind = scalers.KINDS[scaler.kind]
    floor = {kind.floor: change.floor} if change.floor_set else {}
    kept = change.ceiling == scaler.ceiling and not scaler.ceiling_ours
    return floor if kept or not change.ceiling_set else {**floor, kind.ceiling: change.ceiling}


def _kept(scaler: Autoscaler, change: GiveUpFloor) -> Object:
    """What stays ours when the floor is left to others: a ceiling that nobody else has set, which may not be missing."""
    only_ours = scaler.ceiling_ours and not scaler.ceiling_shared and change.ceiling_set
    return {scalers.KINDS[scaler.kind].ceiling: change.ceiling} if only_ours else {}


def _without(state: Namespace, spike: Spike) -> Namespace:
    return dataclasses.replace(state, spikes={name: each for name, each in state.spikes.items() if name != spike.name})
