"""Plans: the right number of arrivals at the right moments, and the same again from the same seed."""

import numpy as np
import pytest

from loadtests.arrivals import Stream, Visitors, constant, draw, ramp, shapes, step
from loadtests.arrivals.plan import ADDRESSES, address_of

SHAPE = (*step(20, 1000, 5, 10), *ramp(1000, 20, 10))


def test_the_same_seed_gives_the_same_plan_byte_for_byte_and_another_seed_another() -> None:
    """DRILLS-4. Goal: a failing run can be repeated exactly."""
    streams = [Stream(SHAPE, 0, 1), Stream(constant(10, 25), 1, 4, skew=1.0)]
    first, again, other = (draw(streams, Visitors(), seed) for seed in (7, 7, 8))
    assert first.arrivals.tobytes() == again.arrivals.tobytes()
    assert first.digest == again.digest != other.digest


@pytest.mark.parametrize("second", [2, 7, 12, 20])
def test_arrivals_come_at_the_ordered_rate_at_every_second(second: int) -> None:
    """DRILLS-2. Method: count a second's arrivals and compare with the shape's rate in its middle."""
    times = shapes.arrival_times_us(SHAPE)
    inside = int(((times >= second * 1_000_000) & (times < (second + 1) * 1_000_000)).sum())
    assert inside == pytest.approx(shapes.rate_at(SHAPE, second + 0.5), abs=1.01)


def test_a_rate_below_one_per_second_is_kept_as_well() -> None:
    """DRILLS-2."""
    assert len(shapes.arrival_times_us(constant(0.2, 50))) == 10


def test_visitors_come_again_and_programs_name_themselves_in_the_ordered_shares() -> None:
    """Goal: repeat visitors and bots are among the visitors, each with one agent."""
    plan = draw([Stream(constant(2000, 20), 0, 1)], Visitors(repeat_share=0.3, bot_share=0.05), 3)
    people = len(np.unique(plan.arrivals["visitor"]))
    assert people / len(plan) == pytest.approx(0.7, abs=0.02)
    assert plan.is_bot().mean() == pytest.approx(0.05, abs=0.01)
    pairs = np.unique(np.stack([plan.arrivals["visitor"], plan.arrivals["agent"]]), axis=1)
    assert pairs.shape[1] == people


def test_no_two_visitors_share_an_address() -> None:
    """Goal: distinct visitors are distinct to the platform. Method: the spread is a permutation; check a sample for collisions."""
    sample = range(0, ADDRESSES, 499)
    assert len({address_of(visitor, 11) for visitor in sample}) == len(sample)


def test_a_rate_out_of_bounds_is_refused() -> None:
    """Goal: a slip of a zero does not flood a machine."""
    with pytest.raises(ValueError, match="arrivals per second"):
        constant(1_000_000, 1)
