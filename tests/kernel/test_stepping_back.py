"""What may halt or crowd out answers inside one process: full collections, and the embedded store's many threads."""

import asyncio
import gc
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from groundswell.kernel import clickhouse, modules
from groundswell.kernel.resources import ProcessSettings, Resources


async def test_what_the_start_made_is_out_of_the_collectors_sight(tmp_path: Path) -> None:
    """A collection under load walks what the load made, not the hundred thousands of objects of the start."""

    @asynccontextmanager
    async def idle(_: Resources) -> AsyncIterator[modules.Module]:
        yield modules.Module("idle")

    environment = {"GROUNDSWELL_DATA": str(tmp_path), "GROUNDSWELL_INTERNAL_KEY": "5e" * 32}
    try:
        async with (
            Resources.open(environment) as resources,
            modules.started({"idle": idle}, resources, resources.settings(ProcessSettings)),
        ):
            assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
async def test_the_embedded_stores_threads_step_back_and_those_that_answer_do_not(tmp_path: Path) -> None:
    """Those that run statements, and what the engine starts for them; it may put its own watch over memory first."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kernel.store_threads", str(tmp_path / "clickhouse"), stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await child.communicate()
    found = json.loads(answer)
    assert found["theirs"].count(clickhouse.ClickHouseSettings().niceness) > 1
    assert found["own"] not in found["theirs"]
    assert found["own"] == os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
