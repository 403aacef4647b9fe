"""What is written into the status of the kinds, and what is read from it."""

from __future__ import annotations

from groundswell_operator.applying import reading, statuses
from groundswell_operator.saga.conditions import with_condition
from groundswell_operator.saga.state import Phase, Progress
from tests.operators.test_odd_objects import SPIKE, made

NOW_S = 1_764_000_000.0


async def test_conditions_of_a_spike_are_said_of_the_generation_that_it_has_and_are_read_as_they_were_decided() -> None:
    """Goal: `kubectl wait --for=condition=…` takes one of an earlier generation for not met."""
    spike = reading.spike(made("vs-a", spec=SPIKE))
    conditions = with_condition({}, "Admitted", True, "Admitted", "web 3 → 30", NOW_S)
    progress = Progress(phase=Phase.RAISING, claims=[], patches=[], conditions=conditions)
    status = statuses.progress_status(spike, progress)
    (written,) = status["conditions"]
    assert written["observedGeneration"] == made("vs-a")["metadata"]["generation"]
    assert statuses.progress(status) == progress
    again = with_condition(statuses.progress(status).conditions, "Admitted", True, "Admitted", "web 3 → 30", NOW_S + 9)
    assert again == conditions  # nothing is left to be written
