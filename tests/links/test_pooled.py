"""The links service behind a proxy that pools transactions, set up as `docs/deploy.md` says."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundswell.engines import ports, running, topics
from groundswell.engines.engine import Folders
from groundswell.kernel import errors
from groundswell.kernel.bus.events import incoming
from tests.links.test_list_reads import listed
from tests.links.test_module import TOPICS, serving
from tests.pooler import Pooler

KEY = "6b" * 32


@pytest.mark.promise("TENANCY-2")
async def test_links_of_tenants_who_share_one_connection_of_the_server_are_made_changed_listed_and_told_of(
    kafka_address: str, postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    """And through the proxy alone: when it has gone, nothing can be made."""
    await topics.create(kafka_address, TOPICS)
    engine = Pooler(Folders.under(tmp_path, "pgbouncer"), ports.draw(1)[0], postgres_dsn, proxy_users())
    engine.prepare(print)
    child = await running.start(engine)
    assert child is not None
    try:
        async with serving(
            kafka_address, postgres_dsn, redis_url, tmp_path, POSTGRES_POOL_DSN=engine.address
        ) as module:
            tenants = [await module.tenant() for _ in range(4)]
            for _ in range(3):
                links = await asyncio.gather(*(module.create(each) for each in tenants))
            for caller, link in zip(tenants, links, strict=True):
                link.title = "changed"
                await module.update(caller, link, "title")
                assert len(await listed(module, caller)) == 3
                with pytest.raises(errors.NotFound):
                    await module.update(tenants[tenants.index(caller) - 1], link, "title")
            untold = {(link.name.partition("/")[2], kind) for link in links for kind in ("LinkCreated", "LinkUpdated")}
            async with asyncio.timeout(20):
                while untold:
                    event = incoming(await module.events.getone())
                    untold.discard((event.key, event.type.rpartition(".")[2]))
            await child.stop()
            with pytest.raises(errors.Unavailable):
                await module.create(tenants[0])
    finally:
        await child.stop()


def proxy_users() -> list[str]:
    """Whom the proxy lets in, as an operator learns it."""
    done = subprocess.run(
        [sys.executable, "-m", "groundswell", "proxy-users"],
        env=os.environ | {"GROUNDSWELL_INTERNAL_KEY": KEY},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()
