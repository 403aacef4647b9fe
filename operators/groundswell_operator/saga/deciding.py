"""The one function that everything comes down to: what is to be done next, given what the API server holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

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
    binding, telling, later = _records(state, now_s, untaken)
    notes = functools.cache(lambda: _notes(state, now_s))
    stages: Sequence[Callable[[], Sequence[Step]]] = (
        lambda: binding,
        lambda: untaken.backed([*targets.writes(state, now_s), *configuring.writes(state)], state),
        lambda: [each for each in notes() if each.notes.dismissed != each.governing.notes.dismissed],
        lambda: _let_go(state, now_s, untaken),
        lambda: telling,
        notes,
        lambda: later[:LESS_URGENT_MAX],
        lambda: untaken.left(_over(state))[:LESS_URGENT_MAX],
        lambda: untaken.left(_old(state, now_s))[:LESS_URGENT_MAX],
    )
    return next((left for stage in stages if (left := untaken.left(stage()))), ())


def _records(state: Namespace, now_s: float, untaken: Untaken) -> tuple[list[Step], list[Step], list[Step]]:
    """Those that a raise or its return waits for, those that only tell how it goes, and those of spikes that hold nothing. Who could not be
    recorded keeps nobody from a place."""
    binding: list[Step] = []
    telling: list[Step] = []
    later: list[Step] = []
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
            found = later
        else:
            only_tells = lived and not holds and _binds(progress) == _binds(spike.progress)
            found = telling if only_tells else binding
        found.append(Hold(spike) if holds else _record(spike, progress))
    return binding, telling, later


def _binds(progress: Progress) -> object:
    """What writes follow from."""
    claims = [(each.action, each.target, each.order, each.baseline, each.max, each.desired) for each in progress.claims]
    return progress.phase, progress.mode, claims, progress.patches


def _record(spike: Spike, progress: Progress) -> Record:
    return Record(spike, progress, told(spike.uid, spike.progress.conditions, progress.conditions))


def _let_go(state: Namespace, now_s: float, untaken: Untaken) -> list[Step]:
    found: list[Step] = []
    for spike in state.spikes.values():
        if spike.deleted_s is None or not spike.held:
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


def _over(state: Namespace) -> Sequence[Free]:
    """Spikes whose saga is over have nothing to give back: their finalizer would only outlive the operator."""
    return [
        Free(spike)
        for spike in state.spikes.values()
        if spike.progress.phase in OVER and spike.held and spike.deleted_s is None
    ]


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
