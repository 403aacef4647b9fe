"""How fast the operator is, by the measure of `make bench NAME=scale`: on a control plane of its own with every rate as delivered.

Only in the full form: it takes a quarter of an hour, and its bounds hold for a machine that does nothing else.
"""

from __future__ import annotations

import pytest

from benchmarks import scale
from tests.cluster.forms import slow
from tests.cluster.tools.families import Shelf

pytestmark = pytest.mark.alone


@pytest.mark.promise("OPERATOR-2")
@slow
async def test_the_first_write_follows_a_record_within_a_tenth_of_a_second_and_ten_times_the_pods_in_seconds(
    programs: Shelf,
) -> None:
    bounds = scale.bounds_of(await scale.raises_at_the_default_rate())
    assert not {name: held for name, held in bounds.items() if held[0] > held[1]}
