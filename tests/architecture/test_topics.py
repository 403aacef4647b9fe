"""Each topic's file says what the code does: who publishes it under which keys, who reads it, what is in it, and where its failures go.

Method: the calls that publish and read are found in the sources, and what they are given as topic, key or group is taken from there. What
a file says of partitions is compared with what depends on it.
"""

import ast
import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from groundswell.engines import topics
from groundswell.kernel.bus.frames import FrameSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "protos" / "topics"
TOPICS: dict[str, dict[str, Any]] = {
    file.stem: yaml.safe_load(file.read_text()) for file in sorted(FOLDER.glob("*.yaml"))
}
FIELDS = [
    "topic",
    "owner",
    "meaning",
    "key",
    "events",
    "consumers",
    "partitions",
    "retention_hours",
    "compacted",
    "dlq",
]
API = ROOT / "services" / "groundswell" / "api"
SOURCES = {
    "groundswell": ROOT / "services" / "groundswell",
    "groundswell_operator": ROOT / "operators" / "groundswell_operator",
}
MACHINERY = ("groundswell.api", "groundswell.kernel.bus", "groundswell.engines.rehearsal")
"""Generated, or what all of them call: it knows no topic; and what speaks to a broker that nobody else sees."""

READING = {
    "bus.consume": 2,
    "bus.consume_batches": 2,
    "bus.follow": 1,
    "live_stream": 1,
    "Membership": 2,
    "AIOKafkaConsumer": 0,
}
"""What begins to read topics, and which of its arguments they are."""
BURYING = {"bus.consume": 2, "bus.consume_batches": 2, "bury": 0}
"""What sends to dead letters, and the argument that says of which topic."""
GROUPS = {"bus.consume": 1, "bus.consume_batches": 1, "Membership": 1}
PUBLISHING = {"bus.Outgoing": 0}
KEY = 1
"""The argument of an event that is its key."""
LOCALS = {"frames": FrameSettings(), "topic": FrameSettings().topic}
"""What functions that read frames have of the settings."""

UNPUBLISHED = {"spikes.events.v1"}
"""Nothing detects spikes yet: the operator reads what somebody else says of them."""


@dataclass(frozen=True)
class Call:
    """A call somewhere in the sources."""

    module: str
    function: str
    arguments: Sequence[ast.expr]
    keywords: dict[str | None, str]

    @property
    def part(self) -> str:
        """The part of the platform, as topics name it: a service, or a module where a service has several."""
        names = self.module.split(".")
        if names[0] == "groundswell_operator":
            return "operator"
        return names[3] if names[2:3] == ["module"] and len(names) > 3 else names[1]

    def value(self, index: int) -> Any:
        """What an argument is when the call is made."""
        return eval(ast.unparse(self.arguments[index]), vars(_imported(self.module)), LOCALS)

    def topics(self, index: int) -> set[str]:
        value = self.value(index)
        return {value} if isinstance(value, str) else set(value)


@cache
def _imported(module: str) -> ModuleType:
    return importlib.import_module(module)


@cache
def calls() -> list[Call]:
    """Every call of a function that the tables above name, also one that is only prepared (`partial`)."""
    return [
        call
        for package, folder in SOURCES.items()
        for file in folder.rglob("*.py")
        for call in _calls(package, folder, file)
    ]


def _calls(package: str, folder: Path, file: Path) -> Iterator[Call]:
    module = ".".join([package, *file.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
    if module.startswith(MACHINERY):
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name, arguments = ast.unparse(node.func), node.args
            if name == "partial":
                name, arguments = ast.unparse(arguments[0]), arguments[1:]
            if name in READING | BURYING | PUBLISHING:
                yield Call(module, name, arguments, {each.arg: ast.unparse(each.value) for each in node.keywords})


def with_topic(table: dict[str, int], topic: str) -> list[Call]:
    """The calls of that table that are given the topic."""
    return [
        call for call in calls()
        if call.function in table and len(call.arguments) > table[call.function] and topic in call.topics(table[call.function])
    ]  # fmt: skip


def template(key: ast.expr) -> str:
    """A key as the files write it: `{tenant}:{kind}:{item}`; an object stands for its id."""
    if isinstance(key, ast.Call) and ast.unparse(key.func) == "str":
        return "{" + ast.unparse(key.args[0]).removesuffix(".id") + "}"
    assert isinstance(key, ast.JoinedStr), f"a key that is read from {ast.unparse(key)} cannot be compared"
    parts = (
        "{" + ast.unparse(each.value) + "}" if isinstance(each, ast.FormattedValue) else str(ast.literal_eval(each))
        for each in key.values
    )
    return "".join(parts)


def messages() -> set[str]:
    """All messages that are events, by their full names."""
    found: set[str] = set()
    for file in API.rglob("*_events_pb2.py"):
        module = ".".join(["groundswell", "api", *file.relative_to(API).with_suffix("").parts])
        found |= {each.full_name for each in _imported(module).DESCRIPTOR.message_types_by_name.values()}
    return found


@pytest.mark.parametrize("name", TOPICS)
def test_a_topics_file_has_its_name_and_every_field_once(name: str) -> None:
    assert TOPICS[name]["topic"] == name
    assert list(TOPICS[name]) == FIELDS


def test_every_topic_that_the_code_publishes_or_reads_has_a_file() -> None:
    """The control of what is below: the calls are found."""
    found = {topic for call in calls() for index in _indices(call) for topic in call.topics(index)}
    assert found == set(TOPICS)


def _indices(call: Call) -> list[int]:
    tables = (READING, BURYING, PUBLISHING)
    return [
        table[call.function] for table in tables if len(call.arguments) > table.get(call.function, len(call.arguments))
    ]


@pytest.mark.parametrize("name", TOPICS)
def test_a_topics_consumers_are_who_reads_it(name: str) -> None:
    assert sorted(TOPICS[name]["consumers"]) == sorted({call.part for call in with_topic(READING, name)})


@pytest.mark.parametrize("name", TOPICS)
def test_a_topics_owner_alone_publishes_events_in_it_and_says_so(name: str) -> None:
    owner, publishers = TOPICS[name]["owner"], {call.part for call in with_topic(PUBLISHING, name)}
    if name in UNPUBLISHED:
        assert not publishers
        assert not (SOURCES["groundswell"] / owner).exists(), f"{owner} is here: take {name} out of UNPUBLISHED"
        return
    assert publishers == ({owner} if TOPICS[name]["events"] else set())
    published = re.search(r"Publishes\s(.*?)\.\s", str(_imported(f"groundswell.{owner}").__doc__), re.DOTALL)
    assert published is not None
    assert name in published[1]


@pytest.mark.parametrize("name", sorted(TOPICS.keys() - UNPUBLISHED))
def test_a_topics_keys_are_those_that_its_events_get(name: str) -> None:
    told = re.findall(r"[^\s,]*\{[^\s,]*", TOPICS[name]["key"])
    assert sorted(told) == sorted({template(call.arguments[KEY]) for call in with_topic(PUBLISHING, name)})


def test_every_event_is_in_one_topic_of_its_owner() -> None:
    told = [(event, topic["owner"]) for topic in TOPICS.values() for event in topic["events"]]
    assert sorted(event for event, _ in told) == sorted(messages())
    assert [event for event, owner in told if event.split(".")[2] != owner] == []


@pytest.mark.parametrize("name", sorted(TOPICS.keys() - UNPUBLISHED))
def test_a_topics_events_are_those_that_its_owner_makes(name: str) -> None:
    told, owner = TOPICS[name]["events"], TOPICS[name]["owner"]
    text = (SOURCES["groundswell"] / owner / "events.py").read_text()
    own = {event for event in messages() if event.split(".")[2] == owner}
    made = {event for event in own if re.search(rf"\.{event.rpartition('.')[2]}\b", text)}
    assert set(told) == (made if told else set())


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_has_dead_letters_if_somebody_sends_any(name: str) -> None:
    assert TOPICS[name]["dlq"] == bool(with_topic(BURYING, name))


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_that_is_read_whole_at_each_start_keeps_the_last_of_each_key_for_ever_and_any_other_is_bounded(
    name: str,
) -> None:
    """Keys are made for as long as the platform runs, so what nobody reads to its beginning would only fill the disk."""
    whole = [call for call in with_topic(READING, name) if call.keywords.get("from_start") == "True"]
    kept = topics.described(FOLDER)
    (settings,) = (each.topic_configs for each in kept if each.name == name)
    assert settings["cleanup.policy"].split(",")[-1] == ("compact" if whole else "delete")
    assert whole or int(settings["retention.ms"]) > 0


def test_frames_have_as_many_partitions_as_their_writers_take_them_to_have() -> None:
    config = FrameSettings()
    assert TOPICS[config.topic]["partitions"] == config.partitions


def test_no_two_readers_of_a_topic_share_a_group_and_each_is_named_after_its_part() -> None:
    """Else one of them would miss what the other has read. A reader that only keeps the group's clock is a group of its own as well."""
    groups = [
        (call.value(GROUPS[call.function]), call.module.split(".")[1]) for call in calls() if call.function in GROUPS
    ]
    assert len({group for group, _ in groups}) == len(groups)
    assert [group for group, package in groups if not group.startswith(f"{package}.")] == []
