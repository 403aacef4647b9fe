"""The policy that docs/spike-policy.md shows: the file beside it, for targets that the chart makes."""

from __future__ import annotations

import re

import yaml

from tests.cluster.chart import render
from tests.cluster.control_plane.handle import ROOT
from tests.cluster.operating import Operated

PAGE = ROOT / "docs" / "spike-policy.md"
FILE = ROOT / "docs" / "policy.yaml"


def shown() -> str:
    (found,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def test_the_page_shows_the_file_that_it_applies_and_names_what_the_chart_makes() -> None:
    assert shown() == FILE.read_text()
    assert f"`kubectl -n groundswell apply -f {FILE.relative_to(ROOT)}`" in PAGE.read_text()
    asked = {tuple(each["scale"]["targetRef"].values()) for each in yaml.safe_load(shown())["spec"]["actions"]}
    made = {(each["kind"], each["metadata"]["name"]) for each in render({}).of("Deployment", "StatefulSet")}
    assert asked <= made


async def test_the_policy_that_the_page_shows_is_taken_as_it_stands(place: Operated) -> None:
    made = await place.admin.create(place.policies, yaml.safe_load(shown()))
    assert made["spec"]["actions"][2]["scale"]["via"] == "HPAFloor"
    assert [each["name"] for each in made["spec"]["actions"]] == ["links", "analytics", "web"]
