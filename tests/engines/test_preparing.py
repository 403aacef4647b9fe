"""`groundswell prepare` as a cluster runs it: a process of its own, on engines that are there, come late, or never."""

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import CreateAclsRequest

from groundswell.engines import ports, running, topics, topology
from groundswell.engines.engine import Folders
from groundswell.engines.home import Home
from groundswell.engines.kafka import Kafka
from groundswell.engines.postgres import Postgres
from groundswell.kernel.bus.committed import connected

PLACEMENT = topology.load("all")
RULES = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""
TOPIC, LITERAL = 2, 3
ALL, DESCRIBE_CONFIGS, ALTER_CONFIGS = 2, 10, 11
DENY, ALLOW = 2, 3
"""In CreateAcls: a kind of thing, of its name, what is done with it, and whether that may be."""


def environment(postgres: str, kafka: str) -> dict[str, str]:
    return os.environ | {
        "POSTGRES_DSN": postgres,
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "GROUNDSWELL_INTERNAL_KEY": "6b" * 32,
    }


def prepare(settings: dict[str, str], *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "groundswell", "prepare", *options]
    return subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def fresh_postgres(tmp_path: Path) -> Postgres:
    """A server of one's own that does not run yet."""
    engine = Postgres(Folders.under(tmp_path, "postgres"), *ports.draw(1))
    engine.prepare(print)
    return engine


async def test_databases_and_topics_are_there_afterwards_and_a_second_time_changes_nothing(
    fresh_postgres: Postgres, kafka_address: str
) -> None:
    """Goal: it may come before its engines, twice at once, and again. Method: two of it wait for a server that starts late."""
    settings = environment(fresh_postgres.address, kafka_address)
    both = [prepare(settings) for _ in range(2)]
    for each in both:
        assert each.stdout is not None
        assert "Waiting for PostgreSQL" in await asyncio.to_thread(each.stdout.readline)
    child = await running.start(fresh_postgres)
    assert child is not None
    try:
        for each in both:
            said, wrong = await asyncio.to_thread(each.communicate, timeout=60)
            assert each.returncode == 0, said + wrong
        before = await migrations(fresh_postgres.address)
        assert set(before) == {"tenancy", "identity", "links", "analytics"}
        assert all(before.values())
        again = prepare(settings)
        said, wrong = await asyncio.to_thread(again.communicate, timeout=60)
        assert (again.returncode, "All topics are there." in said) == (0, True), said + wrong
        assert await migrations(fresh_postgres.address) == before
        assert {each.name for each in described()} <= await present(kafka_address)
    finally:
        await child.stop()


@pytest.mark.parametrize("away", ["postgres", "kafka"])
def test_an_engine_that_stays_away_fails_it_with_one_sentence(postgres_dsn: str, kafka_address: str, away: str) -> None:
    nobody = f"127.0.0.1:{ports.draw(1)[0]}"
    settings = environment(
        f"postgresql://postgres@{nobody}/postgres" if away == "postgres" else postgres_dsn,
        nobody if away == "kafka" else kafka_address,
    )
    done = prepare(settings, "--wait", "1")
    _, wrong = done.communicate(timeout=60)
    assert done.returncode == 1
    (sentence,) = wrong.strip().splitlines()
    assert "Look after it, then try again." in sentence
    assert {"postgres": "PostgreSQL", "kafka": "Kafka"}[away] in sentence


def test_a_database_of_another_key_fails_it_with_one_sentence(postgres_dsn: str, kafka_address: str) -> None:
    """A wrong password is no outage: nobody should wait five minutes to hear of it."""
    user, _, where = postgres_dsn.partition("@")
    settings = environment(f"{user}{secrets.token_hex(4)}@{where}", kafka_address)
    done = prepare(settings)
    _, wrong = done.communicate(timeout=60)
    assert (done.returncode, len(wrong.strip().splitlines())) == (1, 1), wrong
    assert "PostgreSQL refuses" in wrong


async def test_a_topic_that_the_broker_refuses_is_not_called_made(kafka_address: str, tmp_path: Path) -> None:
    described = "topic: no/such/name\npartitions: 1\ncompacted: false\nretention_hours: 1\ndlq: false\n"
    (tmp_path / "topic.yaml").write_text(described)
    with pytest.raises(KafkaError, match="no/such/name"):
        await topics.create(kafka_address, tmp_path)


async def test_a_topic_that_an_earlier_version_kept_for_ever_gets_its_bound_and_keeps_what_people_set(
    kafka_address: str, tmp_path: Path
) -> None:
    """Method: topics as they may be there, one of each kind, under descriptions of today."""
    tag = secrets.token_hex(4)
    there = {
        "for-ever": {"cleanup.policy": "compact", "retention.ms": "1", "min.insync.replicas": "1"},
        "theirs": {"cleanup.policy": "delete", "retention.ms": "1"},
        "whole": {"cleanup.policy": "compact"},
    }
    hours = {"for-ever": "2", "theirs": "2", "whole": "null"}
    for name in there:
        described = f"topic: {name}-{tag}\npartitions: 1\ncompacted: true\nretention_hours: {hours[name]}\ndlq: true\n"
        (tmp_path / f"{name}.yaml").write_text(described)
    async with admin_of(kafka_address) as admin:
        await admin.create_topics([NewTopic(f"{name}-{tag}", 1, 1, topic_configs=held) for name, held in there.items()])
        assert await told_of(admin, tag, there) == there
        for _ in range(2):
            await topics.create(kafka_address, tmp_path)
            bounded = there | {
                "for-ever": {**there["for-ever"], "cleanup.policy": "compact,delete", "retention.ms": "7200000"}
            }
            assert await told_of(admin, tag, bounded) == bounded


@pytest.mark.parametrize("refused", [DESCRIBE_CONFIGS, ALTER_CONFIGS])
async def test_a_broker_that_does_not_let_a_topic_be_bounded_is_warned_of_and_what_is_missing_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, refused: int
) -> None:
    """Goal: rights that a first start did without do not keep an upgrade from its topics. Method: a broker with such rules."""
    for name in ("for-ever", "missing"):
        described = f"topic: {name}\npartitions: 1\ncompacted: true\nretention_hours: 2\ndlq: false\n"
        (tmp_path / f"{name}.yaml").write_text(described)
    engine = Kafka(Folders.under(tmp_path, "kafka"), *ports.draw(2))
    engine.prepare(print)
    with (Folders.under(tmp_path, "kafka").data / "server.properties").open("a") as properties:
        properties.write(RULES)
    child = await running.start(engine)
    assert child is not None
    try:
        async with admin_of(engine.address) as admin:
            await admin.create_topics([NewTopic("for-ever", 1, 1, topic_configs={"cleanup.policy": "compact"})])
        async with connected(engine.address) as client:
            for operation, permission in ((ALL, ALLOW), (refused, DENY)):
                rule = CreateAclsRequest(TOPIC, "for-ever", LITERAL, "User:*", "*", operation, permission)
                answer = await client.send(client.get_random_node(), rule)
                assert not any(code for code, _ in answer.creation_responses)
        assert await topics.create(engine.address, tmp_path) == ["missing"]
        what = {DESCRIBE_CONFIGS: "describe", ALTER_CONFIGS: "alter"}[refused]
        (warned,) = [each.getMessage() for each in caplog.records if each.name == topics.log.name]
        assert warned.startswith(f"The broker does not let us {what} the settings of for-ever (")
        assert warned.endswith("has: cleanup.policy=compact,delete, retention.ms=7200000.")
    finally:
        await child.stop()


async def told_of(
    admin: AIOKafkaAdminClient, tag: str, awaited: dict[str, dict[str, str]]
) -> dict[str, dict[str, str]]:
    """What the broker tells of the topics' own settings: its controller answers first, and the broker follows some moments later."""
    until_s = time.monotonic() + 15
    while True:
        held = {name: await own_settings(admin, f"{name}-{tag}") for name in awaited}
        if held == awaited or time.monotonic() > until_s:
            return held
        await asyncio.sleep(0.05)


async def own_settings(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((_, _, _, _, entries),) = answer.resources
    return {setting: value for setting, value, _, source, *_ in entries if source == topics.OF_THE_TOPIC}


@asynccontextmanager
async def admin_of(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def described() -> list[NewTopic]:
    assert PLACEMENT.topics is not None
    return list(topics.described(PLACEMENT.topics))


async def present(kafka: str) -> set[str]:
    async with admin_of(kafka) as admin:
        return set(await admin.list_topics())


async def migrations(dsn: str) -> dict[str, list[tuple[str, str]]]:
    """What was applied and when, by service."""
    found = {}
    for service in PLACEMENT.databases:
        connection = await asyncpg.connect(dsn, database=f"gs_{service}")
        rows = await connection.fetch("SELECT name, applied::text FROM migrations ORDER BY name")
        found[service] = [(row["name"], row["applied"]) for row in rows]
        await connection.close()
    return found


def test_roles_for_a_proxy_are_shown_under_the_key_of_a_home_or_of_the_environment(tmp_path: Path) -> None:
    def shown(home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "groundswell", "proxy-users", "--home", str(home)]
        own = {name: value for name, value in os.environ.items() if name != "GROUNDSWELL_INTERNAL_KEY"}
        return subprocess.run(command, env=own | settings, capture_output=True, text=True, check=False)

    home = Home(tmp_path / "home")
    home.open()
    under_home = shown(home.path, GROUNDSWELL_INTERNAL_KEY=home.secrets()["internal_key"]).stdout
    assert shown(home.path).stdout == under_home
    assert [line.split('"')[1] for line in under_home.splitlines()] == [
        f"gs_{each}_app" for each in PLACEMENT.databases
    ]
    absent = shown(tmp_path / "absent")
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1)
    assert "Name one with --home, or set GROUNDSWELL_INTERNAL_KEY" in absent.stderr
