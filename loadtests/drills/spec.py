"""A drill's file, read and checked: what is wrong is told with its line before anything starts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import yaml

from loadtests import scenario
from loadtests.oracles.books import FINDINGS

T = TypeVar("T")

FOLDER = Path(__file__).parent


class SpecInvalid(Exception):
    """The drill cannot be run as it is written; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How much of a drill is run."""

    clicks: int
    seconds: float
    kills: int


@dataclass(frozen=True, slots=True)
class Control:
    """One protection switched off, and the finding that must then fail: by what was lost, or doubled."""

    name: str
    meaning: str
    process: str
    settings: Mapping[str, str]
    fails: str
    by: str


@dataclass(frozen=True, slots=True)
class Drill:
    """One file."""

    name: str
    promises: Sequence[str]
    hypothesis: str
    topology: str
    links: int
    skew: float
    profiles: Mapping[str, Profile]
    kills: Mapping[str, Sequence[str]]
    controls: Mapping[str, Control]
    digest: str
    """SHA-256 of the file."""

    def profile(self, name: str) -> Profile:
        """Raises `SpecInvalid`."""
        return _named(name, self.profiles, f"profile of {self.name}")

    def control(self, name: str) -> Control:
        """Raises `SpecInvalid`."""
        return _named(name, self.controls, f"control of {self.name}")


def names() -> list[str]:
    """All drills there are."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load(name: str) -> Drill:
    """The drill of that name; raises `SpecInvalid`."""
    files = {each: FOLDER / f"{each}.yaml" for each in names()}
    return read(_named(name, files, "drill"))


def read(file: Path) -> Drill:
    """The drill in a file; raises `SpecInvalid` with the line of the first fault."""
    text = file.read_text()
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecInvalid(f"{file.name} is no YAML: {error}") from error
    schema = json.loads((FOLDER / "schema.json").read_text())
    fault = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(told))
    if fault is not None:
        raise SpecInvalid(f"{file.name}, line {_line(text, list(fault.absolute_path))}: {fault.message}")
    controls = {name: Control(name, **each) for name, each in told["controls"].items()}
    for control in controls.values():
        if control.fails not in FINDINGS:
            line = _line(text, ["controls", control.name, "fails"])
            raise SpecInvalid(f"{file.name}, line {line}: {_unknown(control.fails, FINDINGS, 'finding')}")
    profiles = {name: Profile(**each) for name, each in told["profiles"].items()}
    for name, profile in profiles.items():
        if profile.kills < len(told["kills"]):
            line = _line(text, ["profiles", name, "kills"])
            raise SpecInvalid(f"{file.name}, line {line}: {profile.kills} kills do not reach every victim.")
        if profile.seconds > scenario.LOAD_S_MAX:
            line = _line(text, ["profiles", name, "seconds"])
            raise SpecInvalid(
                f"{file.name}, line {line}: a load lasts {scenario.LOAD_S_MAX:.0f} s at most; the live page, which is judged, holds "
                f"{scenario.LIVE_WINDOW_S:.0f} s."
            )
    return Drill(
        told["drill"],
        told["promises"],
        " ".join(told["hypothesis"].split()),
        told["topology"],
        told["links"],
        told.get("skew", 0.0),
        profiles,
        told["kills"],
        controls,
        hashlib.sha256(text.encode()).hexdigest(),
    )


def _named(name: str, known: Mapping[str, T], what: str) -> T:
    if name not in known:
        raise SpecInvalid(_unknown(name, list(known), what))
    return known[name]


def _unknown(name: str, known: Sequence[str], what: str) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"There is no {what} called {name!r}.{hint} There are: {', '.join(known)}."


def _line(text: str, path: Sequence[str | int]) -> int:
    """The line of a place in a YAML text, or of its nearest parent."""
    node, line = yaml.compose(text), 1
    for step in path:
        children: list[tuple[Any, Any]] = []
        if isinstance(node, yaml.MappingNode):
            children = [(key.value, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            children = list(enumerate(node.value))
        node = next((value for key, value in children if key == step), None)
        if node is None:
            break
        line = node.start_mark.line + 1
    return line
