"""Creates the topics that protos/topics describes (in an installed package the folder `topics`), each with its dead letters where it
has them.

What is there already stays as it is: partitions and retention of a topic with data are changed by people, not by a restart.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

DEAD_LETTER_SUFFIX = ".dlq"
HOUR_MS = 3_600_000


def described(folder: Path) -> Iterator[NewTopic]:
    """The topics of the files in `folder`, and the topics of their dead letters."""
    for file in sorted(folder.glob("*.yaml")):
        topic: Mapping[str, Any] = yaml.safe_load(file.read_text())
        policy = "compact" if topic["compacted"] else "delete"
        settings = {"retention.ms": str(topic["retention_hours"] * HOUR_MS), "cleanup.policy": policy}
        yield _topic(topic["topic"], topic["partitions"], settings)
        if topic["dlq"]:
            yield _topic(topic["topic"] + DEAD_LETTER_SUFFIX, 1, {"retention.ms": "-1"})


def _topic(name: str, partitions: int, settings: Mapping[str, str]) -> NewTopic:
    """A topic with the broker's own replication factor (-1), which the client takes only together with empty assignments."""
    return NewTopic(name, partitions, replication_factor=-1, replica_assignments={}, topic_configs=dict(settings))


async def create(bootstrap: str, folder: Path) -> list[str]:
    """Creates what is missing; returns the names of the new topics. Raises `KafkaError` when the broker is away or refuses one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        present = set(await admin.list_topics())
        missing = [topic for topic in described(folder) if topic.name not in present]
        answer = await admin.create_topics(missing) if missing else None
        return [name for name, code, *said in answer.topic_errors if _made(name, code, said)] if answer else []
    finally:
        await admin.close()


def _made(topic: str, code: int, said: Sequence[str]) -> bool:
    """Whether the broker has made the topic: not when somebody else did meanwhile; raises what it refused with."""
    if code == TopicAlreadyExistsError.errno:
        return False
    if code:
        raise for_code(code)(f"{topic}: {' '.join(filter(None, said))}")
    return True
