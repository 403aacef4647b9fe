"""The policy that docs/spike-policy.md shows."""

from __future__ import annotations

import re

import yaml

from tests.cluster.control_plane.handle import ROOT
from tests.cluster.operating import Operated

PAGE = ROOT / "docs" / "spike-policy.md"


async def test_the_policy_that_the_page_shows_is_taken_as_it_stands(place: Operated) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    policy = yaml.safe_load(shown)
    made = await place.admin.create(place.policies, policy)
    assert made["spec"]["actions"][1]["scale"]["via"] == "HPAFloor"
    assert [each["name"] for each in made["spec"]["actions"]] == ["readers", "web"]
