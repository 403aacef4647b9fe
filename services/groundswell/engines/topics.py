"""Creates the topics that protos/topics describes (in an installed package the folder `topics`), each with its dead letters where it
has them.

A topic keeps its records for `retention_hours`; one that is compacted as well drops those that a later one of their key has replaced. Only
one without such hours (null) keeps the last record of each key for ever, for who reads it whole at each start.

What is there already stays as it is: partitions and retention of a topic with data are changed by people, not by a restart. The exception
is a topic that an earlier version made to be kept for ever: it gets the bound that it lacks.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

log = logging.getLogger(__name__)

DEAD_LETTER_SUFFIX = ".dlq"
HOUR_MS = 3_600_000
POLICY, FOR_EVER = "cleanup.policy", "compact"
OF_THE_TOPIC = 1
"""In DescribeConfigs, where a value comes from: it was set of the topic itself (DYNAMIC_TOPIC_CONFIG)."""


def described(folder: Path) -> Iterator[NewTopic]:
    """The topics of the files in `folder`, and the topics of their dead letters."""
    for file in sorted(folder.glob("*.yaml")):
        topic: Mapping[str, Any] = yaml.safe_load(file.read_text())
        yield _topic(topic["topic"], topic["partitions"], _kept(topic["compacted"], topic["retention_hours"]))
        if topic["dlq"]:
            yield _topic(topic["topic"] + DEAD_LETTER_SUFFIX, 1, {"retention.ms": "-1"})


def _kept(compacted: bool, hours: int | None) -> Mapping[str, str]:
    if hours is None:
        return {POLICY: FOR_EVER}
    return {"retention.ms": str(hours * HOUR_MS), POLICY: "compact,delete" if compacted else "delete"}


def _topic(name: str, partitions: int, settings: Mapping[str, str]) -> NewTopic:
    """A topic with the broker's own replication factor (-1), which the client takes only together with empty assignments."""
    return NewTopic(name, partitions, replication_factor=-1, replica_assignments={}, topic_configs=dict(settings))


async def create(bootstrap: str, folder: Path) -> list[str]:
    """Creates what is missing, and bounds what lacks its bound; returns the names of the new topics.

    Raises `KafkaError` when the broker is away or refuses to make one. That it refuses to bound one is only warned of.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        present = set(await admin.list_topics())
        missing = [topic for topic in described(folder) if topic.name not in present]
        answer = await admin.create_topics(missing) if missing else None
        made = [name for name, code, *said in answer.topic_errors if _made(name, code, said)] if answer else []
        await _bound(admin, [topic for topic in described(folder) if topic.name in present])
        return made
    finally:
        await admin.close()


async def _bound(admin: AIOKafkaAdminClient, topics: Sequence[NewTopic]) -> None:
    """Gives topics that are kept for ever the bound that they are described with; whatever else people have set stays."""
    bounded = [topic for topic in topics if topic.topic_configs.get(POLICY, FOR_EVER) != FOR_EVER]
    held = await _own_settings(admin, bounded)
    changed = {
        topic.name: held[topic.name] | topic.topic_configs
        for topic in bounded
        if held.get(topic.name, {}).get(POLICY) == FOR_EVER
    }
    if changed:
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, settings) for name, settings in changed.items()]
        for answer in await admin.alter_configs(asked):
            for code, said, _, name in answer.resources:
                if code:
                    _warn("alter", name, changed[name], code, said)


async def _own_settings(admin: AIOKafkaAdminClient, topics: Sequence[NewTopic]) -> dict[str, dict[str, str]]:
    """What was set of each topic itself, of those that the broker describes."""
    wanted = {topic.name: topic.topic_configs for topic in topics}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    held = {}
    for answer in await admin.describe_configs(asked) if asked else []:
        for code, said, _, name, entries in answer.resources:
            if code:
                _warn("describe", name, wanted[name], code, said)
            else:
                held[name] = {setting: value for setting, value, _, source, *_ in entries if source == OF_THE_TOPIC}
    return held


def _warn(what: str, topic: str, wanted: Mapping[str, str], code: int, said: str | None) -> None:
    """Tells of a refusal, after which a topic may be kept for ever; raises what may pass."""
    refused: type[KafkaError] = for_code(code)
    if refused.retriable:
        raise refused(f"{topic}: {said}")
    log.warning(
        "The broker does not let us %s the settings of %s (%s), which may keep its records for ever. Allow it, or see to it "
        "yourself that the topic has: %s.",
        what,
        topic,
        said or refused.__name__,
        ", ".join(f"{setting}={value}" for setting, value in sorted(wanted.items())),
    )


def _made(topic: str, code: int, said: Sequence[str]) -> bool:
    """Whether the broker has made the topic: not when somebody else did meanwhile; raises what it refused with."""
    if code == TopicAlreadyExistsError.errno:
        return False
    if code:
        raise for_code(code)(f"{topic}: {' '.join(filter(None, said))}")
    return True
