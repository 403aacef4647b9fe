"""Leaves out of a look what the look cannot take, so that one object that nobody foresaw keeps no other waiting.

An object may be as its schema says and still make no sense, such as a phase that a person has written into a status. A live spike keeps
what it holds then, and nothing more is done about it until it is deleted; where that makes no sense either, what it may hold is left as it
is. The spikes of such a policy stay as they are.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from groundswell_operator.applying.errors import ODD
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import LIVE, Progress, Spike, Unread

log = logging.getLogger(__name__)

T = TypeVar("T")
Look = Callable[[Namespace], T]


def readable(state: Namespace, look: Look[T]) -> tuple[Namespace, T]:
    """What a look at the state finds, and the state without what the look could not take; raises what that is where it is no object's."""
    while True:
        try:
            return state, look(state)
        except ODD as error:
            policies, spikes = _odd(state, look)
            left = _without(state, policies, spikes, repr(error))
            if left == state:
                raise
            log.warning("%s cannot be read: %r", ", ".join(sorted({*policies, *spikes})), error)
            state = left


def _odd(state: Namespace, look: Look[T]) -> tuple[Collection[str], Collection[str]]:
    """The policies, or else the spikes, that a look cannot take by themselves; or else those that were left out but for what they hold; or
    else the first that it cannot take with those before it."""
    if policies := _by_halves(list(state.policies), lambda names: _takes(look, _of_policies(state, names))):
        return policies, ()
    spikes = _by_halves(list(state.spikes), lambda names: _takes(look, _of_spikes(state, names)))
    spikes = spikes or [name for name in state.spikes if not _takes(look, _of_spikes(state, [name]))]
    holding = [name for name, each in state.spikes.items() if each.unread is not None and each.progress != Progress()]
    return (), spikes or holding or _first(state, look)


def _by_halves(names: Sequence[str], takes: Callable[[Sequence[str]], bool]) -> list[str]:
    """Those that are not taken, not even alone. There are few, so most are looked at together: this is done at every pass. One may be
    missed, where what is to be done for those beside it comes first."""
    if not names or takes(names):
        return []
    half = len(names) // 2
    return [*_by_halves(names[:half], takes), *_by_halves(names[half:], takes)] if half else list(names)


def _of_policies(state: Namespace, names: Sequence[str]) -> Namespace:
    return dataclasses.replace(state, spikes={}, policies={name: state.policies[name] for name in names})


def _of_spikes(state: Namespace, names: Sequence[str]) -> Namespace:
    spikes = {name: state.spikes[name] for name in names}
    governing = {each.policy for each in spikes.values()}
    policies = {name: each for name, each in state.policies.items() if name in governing}
    return dataclasses.replace(state, spikes=spikes, policies=policies)


def _first(state: Namespace, look: Look[T]) -> Collection[str]:
    spikes = list(state.spikes.items())
    fits, breaks = 0, len(spikes)
    while breaks - fits > 1:
        half = (fits + breaks) // 2
        if _takes(look, dataclasses.replace(state, spikes=dict(spikes[:half]))):
            fits = half
        else:
            breaks = half
    return [name for name, _ in spikes[fits:breaks]]


def _takes(look: Look[T], state: Namespace) -> bool:
    try:
        look(state)
    except ODD:
        return False
    return True


def _without(state: Namespace, policies: Collection[str], spikes: Collection[str], why: str) -> Namespace:
    left = {name: each for name, each in state.policies.items() if name not in policies}
    aside = {name: _aside(each, why) if name in spikes else each for name, each in state.spikes.items()}
    unread = state.unread_policies | frozenset(policies)
    return dataclasses.replace(state, policies=left, spikes=aside, unread_policies=unread)


def _aside(spike: Spike, why: str) -> Spike:
    """The spike with what it holds; where it is not live, or was left out so before, with no more than the names of that."""
    progress = spike.progress
    if spike.unread is None and progress.phase in LIVE:
        return dataclasses.replace(spike, unread=Unread(why))
    if progress == Progress():
        return dataclasses.replace(spike, policy="", unread=spike.unread or Unread(why))
    targets, config_maps = {each.target for each in progress.claims}, {each.config_map for each in progress.patches}
    unread = Unread(why, frozenset(targets), frozenset(config_maps))
    return dataclasses.replace(spike, policy="", progress=Progress(), unread=unread)
