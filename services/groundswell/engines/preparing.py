"""Brings engines of one's own to this version: every service's database migrated, every topic there.

For a cluster, before its processes start or are replaced. Processes migrate their own database as well, but only this creates topics,
and a migration that fails here fails before anything is replaced. Safe to repeat, to interrupt, and to run twice at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import asyncpg
from aiokafka.errors import KafkaError

from groundswell.engines import topics
from groundswell.engines.engine import Say
from groundswell.engines.errors import EngineError
from groundswell.engines.topology import Topology
from groundswell.kernel import postgres
from groundswell.kernel.resources import Resources

RETRY_S = 1.0

T = TypeVar("T")


async def prepare(topology: Topology, environment: Mapping[str, str], wait_s: float, say: Say) -> None:
    """Prepares the engines that `environment` names, waiting for them for `wait_s` together.

    Raises `EngineError` when one stays away or refuses, `SettingError` on a wrong variable.
    """
    until_s = time.monotonic() + wait_s
    async with Resources.open(environment) as resources:
        for service in topology.databases:
            await _answered("PostgreSQL", partial(resources.migrate, service), until_s, say)
            say(f"The database of {service} is of this version.")
        if topology.topics is not None:
            create = partial(topics.create, resources.kafka, topology.topics)
            made = await _answered("Kafka", create, until_s, say)
            say(f"New topics: {', '.join(made)}." if made else "All topics are there.")


def proxy_users(topology: Topology, internal_key: bytes) -> list[str]:
    """The roles of all services as lines of PgBouncer's `auth_file`: a proxy before PostgreSQL has to know whom it lets in."""
    return [postgres.proxy_user(service, internal_key) for service in topology.databases]


async def _answered(engine: str, work: Callable[[], Awaitable[T]], until_s: float, say: Say) -> T:
    """What `work` gives once the engine answers; it is tried again while the engine is away."""
    told = False
    while True:
        try:
            return await work()
        except (KafkaError, *postgres.GONE) as error:
            if time.monotonic() > until_s:
                raise EngineError(
                    f"{engine} does not do what it is asked ({_words(error)}). Look after it, then try again."
                ) from error
            if not told:
                say(f"Waiting for {engine} ({_words(error)}).")
                told = True
        except (postgres.MigrationFailed, asyncpg.PostgresError) as error:
            raise EngineError(f"{engine} refuses: {error}") from error
        await asyncio.sleep(RETRY_S)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
