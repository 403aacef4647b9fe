"""Creates the topics that protos/topics describes, each with its dead letters where it has them.

What is there already stays as it is: partitions and retention of a topic with data are changed by people, not by a restart.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

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
    """Creates what is missing; returns the names of the new topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        present = set(await admin.list_topics())
        missing = [topic for topic in described(folder) if topic.name not in present]
        if missing:
            await admin.create_topics(missing)
        return [topic.name for topic in missing]
    finally:
        await admin.close()
