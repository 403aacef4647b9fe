"""Lists of links from a replica, as a client meets them: its own links are there, whatever the replica has replayed."""

from dataclasses import replace
from pathlib import Path

import pytest

from groundswell.api.links.v1 import links_pb2 as pb
from groundswell.engines import topics
from groundswell.kernel import rpc
from groundswell.kernel.context import Context, Reached
from tests.links.test_module import TOPICS, Running, serving
from tests.replica import paused


async def listed(running: Running, caller: Context) -> list[str]:
    answer = await rpc.call(running.stub.ListLinks, pb.ListLinksRequest(), caller)
    return [link.name for link in answer.links]


@pytest.mark.promise("LINKS-10")
async def test_a_list_holds_what_its_caller_has_seen_even_while_the_replica_stands_still(
    kafka_address: str, postgres_dsn: str, postgres_replica_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    """The position goes out behind the answer to the change and comes back in the context of the list."""
    await topics.create(kafka_address, TOPICS)
    async with serving(
        kafka_address, postgres_dsn, redis_url, tmp_path, POSTGRES_REPLICA_DSN=postgres_replica_dsn
    ) as running:
        alice = await running.tenant()
        told = replace(alice, reached=Reached())
        async with paused(postgres_replica_dsn):
            made = await running.create(told)
            assert told.reached is not None
            seen = replace(alice, consistency=told.reached.position)
            assert await listed(running, seen) == [made.name]
            made.title = "changed"
            await running.update(told, made, "title")
            assert told.reached.position > seen.consistency
        assert await listed(running, replace(alice, consistency=told.reached.position)) == [made.name]
