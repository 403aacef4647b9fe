"""Whatever a question holds, it is a value and no part of a statement, and no row of another tenant is in its answer."""

import json
import subprocess
import sys
from typing import Any

import pytest

from groundswell.analytics.model.questions import FILTERS
from tests.analytics.asked_with_forged_values import FORGED, TOO_LONG

GOOD = {
    "kind": {*FORGED},
    "item": {*FORGED},
    "country": {""},
    "device": set(),
    "bot": set(),
    "network": {"0", "7", "8"},
}
"""Which of the values are values of a filter at all; the others are refused."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of all questions."""
    folder = tmp_path_factory.mktemp("forged") / "clickhouse"
    told = subprocess.run(
        [sys.executable, "-m", "tests.analytics.asked_with_forged_values", str(folder)],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    answers: dict[str, Any] = json.loads(told)
    return answers


@pytest.mark.promise("ANALYTICS-14")
@pytest.mark.parametrize("name", FILTERS)
def test_a_forged_value_finds_what_has_that_value_in_the_own_tenant_or_is_refused(
    name: str, found: dict[str, Any]
) -> None:
    assert found[name]["wrong"] == []
    assert set(found[name]["refused"]) == {*FORGED, TOO_LONG} - GOOD[name]
    assert bool(found[name]["answered"]) == bool(GOOD[name])


@pytest.mark.promise("ANALYTICS-14")
def test_forged_names_of_measures_dimensions_filters_intervals_and_orders_are_refused(found: dict[str, Any]) -> None:
    assert found["names"] == []
