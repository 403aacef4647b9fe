"""The one function that everything comes down to: what is to be done next, given what the API server holds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from groundswell_operator.policies import Mode, Policy
from groundswell_operator.saga import admitting, configuring, policies, spikes, targets
from groundswell_operator.saga.claims import Return
from groundswell_operator.saga.conditions import told, with_condition
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import LIVE, OVER, Phase, Progress, Spike
from groundswell_operator.saga.steps import Free, Hold, LetGo, Note, Record, Remove, Step
from groundswell_operator.saga.untaken import NOTHING, Untaken

GIVE_UP_S = 300.0
"""A deleted spike is kept no longer than this, or than its return is known not to succeed: a namespace can always be deleted."""
LESS_URGENT_MAX = 8
"""Writes of one kind to spikes that hold nothing, between two looks: a thousand at once must not stand before the next raise."""


def decide(state: Namespace, now_s: float, untaken: Untaken = NOTHING) -> Sequence[Step]:
    """The next steps, each possible whether or not the others succeed; nothing when all is as it is to be.

    Done, they may lead to more: what is written depends on what was recorded, and what is recorded on what was written. `untaken` are
    left out: the first stage that has another step is the next, so what is refused for ever keeps no later stage waiting.
    """
    records = _records(state, now_s, untaken)
    notes = functools.cache(lambda: _notes(state, now_s))
    stages: Sequence[Callable[[], Sequence[Step]]] = (
        lambda: records.binding,
        lambda: untaken.backed([*targets.writes(state, now_s), *configuring.writes(state)], state),
        lambda: [each for each in notes() if each.notes.dismissed != each.governing.notes.dismissed],
        lambda: _let_go(state, now_s, untaken),
        lambda: records.telling,
        notes,
        lambda: records.later[:LESS_URGENT_MAX],
        lambda: untaken.left(_needless(state))[:LESS_URGENT_MAX],
        lambda: untaken.left(_old(state, now_s))[:LESS_URGENT_MAX],
    )
    return next((left for stage in stages if (left := untaken.left(stage()))), ())


@dataclass(frozen=True, slots=True)
class _Records:
    """What is to be recorded, by how urgent it is."""

    binding: list[Step] = field(default_factory=list)
    """A raise or its return waits for it."""
    telling: list[Step] = field(default_factory=list)
    """How a raise goes: no write follows from it."""
    later: list[Step] = field(default_factory=list)
    """Of spikes that hold nothing."""


def _records(state: Namespace, now_s: float, untaken: Untaken) -> _Records:
    """Who could not be recorded keeps nobody from a place."""
    found = _Records()
    out = {each.name for each in state.spikes.values() if untaken.is_out(each)}
    places = {name: admitting.places(each, state, now_s, out) for name, each in state.policies.items()}
    for spike in state.spikes.values():
        if untaken.keeps_back(spike):
            continue
        progress = spikes.advanced(spike, state, places.get(spike.policy, ()), now_s)
        if progress == spike.progress:
            continue
        lived = spike.progress.phase in LIVE
        holds = (lived or progress.phase in LIVE) and not spike.held and progress.mode is not Mode.OBSERVE
        if not lived and not progress.has_place:
            steps = found.later
        elif lived and not holds and _binding(progress) == _binding(spike.progress):
            steps = found.telling
        else:
            steps = found.binding
        steps.append(Hold(spike) if holds else _record(spike, progress))
    return found


def _binding(progress: Progress) -> object:
    """What writes follow from: of claims all but what they only tell."""
    claims = [
        dataclasses.replace(each, ready=0, applied_s=None, ready_s=None, would_have=None) for each in progress.claims
    ]
    return progress.phase, progress.mode, claims, progress.patches


def _record(spike: Spike, progress: Progress) -> Record:
    return Record(spike, progress, told(spike.uid, spike.progress.conditions, progress.conditions))


def _let_go(state: Namespace, now_s: float, untaken: Untaken) -> list[Step]:
    found: list[Step] = []
    for spike in state.spikes.values():
        if spike.deleted_s is None or not spike.held or not _may_hold(spike):
            continue
        acts = spike.acts and spike.progress.phase not in OVER
        ends, message = spikes.ends(spike.progress, state) if acts else {}, "the spike was deleted"
        is_known = spike.unread is None or spike.acts
        given_up = now_s - spike.deleted_s >= GIVE_UP_S
        if acts and untaken.may_be_raised(spike) and not given_up:
            continue
        if Return.WAITS not in ends.values() and is_known:
            changed = spikes.changed(ends)
            restored, reason = not changed, "BaselineChanged" if changed else "Deleted"
            message = changed or message
        elif given_up and not untaken.may_return(spike):
            restored, reason = False, "GivenUp"
        else:
            continue
        after = with_condition(spike.progress.conditions, "Restored", restored, reason, message, now_s)
        found.append(LetGo(spike, told(spike.uid, spike.progress.conditions, after)))
    return found


def _notes(state: Namespace, now_s: float) -> list[Note]:
    found = []
    for governing in state.policies.values():
        notes = policies.noted(governing, state, now_s)
        if notes != governing.notes:
            found.append(Note(governing, notes, told(governing.uid, governing.notes.conditions, notes.conditions)))
    return found


def _may_hold(spike: Spike) -> bool:
    """Whether something may be there to give back; of one that cannot be read nobody knows."""
    return spike.unread is not None or (spike.acts and spike.progress.phase not in OVER)


def _needless(state: Namespace) -> Sequence[Free | LetGo]:
    """Finalizers of spikes that hold nothing, and will not: those that are deleted, or over, or have no policy that would raise them. They
    would keep the objects, and outlive the operator."""
    found: list[Free | LetGo] = []
    for spike in state.spikes.values():
        if not spike.held or _may_hold(spike):
            continue
        governing = state.policies.get(spike.policy)
        only_observed = governing is not None and governing.policy.mode is Mode.OBSERVE
        is_orphan = governing is None and spike.policy not in state.unread_policies
        if spike.deleted_s is not None:
            found.append(LetGo(spike))
        elif spike.progress.phase in OVER or only_observed or is_orphan:
            found.append(Free(spike))
    return found


def _old(state: Namespace, now_s: float) -> Sequence[Remove]:
    """Spikes that have been over for as long as their policy keeps them."""
    return [
        Remove(spike)
        for spike in state.spikes.values()
        if spike.progress.phase in OVER
        and spike.deleted_s is None
        and spike.policy in state.policies
        and now_s - _over_s(spike) >= _kept_s(spike, state.policies[spike.policy].policy)
    ]


def _kept_s(spike: Spike, policy: Policy) -> float:
    """One that was not said to be over is told of again, and would be made anew: it stays for as long as one may last."""
    return policy.kept_s if spike.over_s is not None else max(policy.kept_s, policy.budget.spike_duration_s_max)


def _over_s(spike: Spike) -> float:
    """When its saga ended."""
    if spike.progress.phase is Phase.RESTORED and spike.progress.restored_s is not None:
        return spike.progress.restored_s
    return max((each.since_s for each in spike.progress.conditions.values()), default=spike.created_s)
