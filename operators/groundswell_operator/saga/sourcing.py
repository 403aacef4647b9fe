"""Whether spikes are heard of. While they are not, a spike may go on without our knowing: what is raised is held, and not taken back.

The bridge says in a Lease when it last looked, and in each policy's status whether the log answered. Who has no bridge has nothing to
lose: spikes may be made by hand. A policy's longest duration, or a day's budget that is spent, begins the return whatever is heard.
"""

from __future__ import annotations

from groundswell_operator.saga.conditions import Conditions, with_condition
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Governing

CONDITION = "SourceConnected"
SILENT_S = 30.0
"""A bridge that has not said for so long that it looks is gone; it says so every ten, or twelve while records keep coming, and may fail to
once."""


def is_lost(governing: Governing, state: Namespace, now_s: float) -> bool:
    """Whether the log or the bridge is away."""
    said = governing.notes.conditions.get(CONDITION)
    return said is not None and (not said.status or _is_silent(state, now_s))


def with_silence(found: Conditions, governing: Governing, state: Namespace, now_s: float) -> Conditions:
    """The conditions with what the bridge cannot say itself."""
    if CONDITION not in found or not _is_silent(state, now_s):
        return found
    message = f"the bridge has not been heard of for {SILENT_S:.0f} s or more: what is raised stays raised"
    return with_condition(found, CONDITION, False, "BridgeSilent", message, now_s, governing.generation)


def _is_silent(state: Namespace, now_s: float) -> bool:
    return state.heard_s is not None and now_s - state.heard_s >= SILENT_S
