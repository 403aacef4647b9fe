"""How a process ends: at once while it starts, and otherwise with its tasks running until the last call is answered."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from groundswell.api.identity.v1 import identity_pb2, identity_pb2_grpc
from groundswell.engines import ports
from groundswell.kernel import context, rpc
from groundswell.kernel.rpc.client import Signer
from tests.kernel.stopping_process import CANCELLED, FAILS, HANGS
from tests.kernel.test_resources import INTERNAL_KEY, environment

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def process(settings: dict[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, ended with the block at the latest."""
    path = os.pathsep.join([str(ROOT / "services"), str(ROOT)])
    made = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.kernel.stopping_process",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings, "PYTHONPATH": path},
        cwd=ROOT,
    )
    try:
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


async def said(made: asyncio.subprocess.Process, word: str) -> list[str]:
    """What the process says, up to this word."""
    assert made.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(60):
        while word not in lines:
            line = await made.stdout.readline()
            assert line, f"it ended after it had said {lines}"
            lines.append(line.decode().strip())
    return lines


async def test_a_start_that_hangs_is_ended_by_a_signal(tmp_path: Path) -> None:
    """Goal: nobody has to wait for the end of the grace, and for SIGKILL. What the start has begun is taken down."""
    async with process(environment(f"127.0.0.1:{ports.draw(1)[0]}", tmp_path), HANGS) as made:
        await said(made, "starting")
        made.terminate()
        await said(made, "taken down")
        assert await asyncio.wait_for(made.wait(), 60) == 0


async def test_tasks_run_until_the_last_call_is_answered(tmp_path: Path) -> None:
    """Goal: what a call changes while the process leaves is sent by its own relay, and does not wait for a successor."""
    kafka, here = (f"127.0.0.1:{port}" for port in ports.draw(2))
    async with process(environment(kafka, tmp_path) | {"GROUNDSWELL_RPC_ADDRESS": here}) as made:
        await said(made, "starting")
        Signer.key = INTERNAL_KEY
        channel = rpc.channel(here)
        try:
            await asyncio.wait_for(channel.channel_ready(), 60)
            stub = identity_pb2_grpc.ApiKeyServiceStub(channel)
            request = identity_pb2.VerifyApiKeyRequest(secret="gsk_5_good")
            calling = asyncio.create_task(
                rpc.call(stub.VerifyApiKey, request, context.service("kernel"), timeout_s=30.0)
            )
            await said(made, "called")
            made.terminate()
            assert await said(made, "taken down") == ["draining", "answered", "cancelled", "taken down"]
            assert (await calling).key_id == 5
        finally:
            await channel.close()
        assert await asyncio.wait_for(made.wait(), 60) == 0


@pytest.mark.parametrize("how", [FAILS, CANCELLED])
async def test_a_process_whose_task_dies_drains_and_says_that_it_failed(how: str, tmp_path: Path) -> None:
    """Also where the task ends as if it had been told to, by a cancellation out of some library."""
    async with process(environment(f"127.0.0.1:{ports.draw(1)[0]}", tmp_path), how) as made:
        assert "draining" in await said(made, "taken down")
        assert await asyncio.wait_for(made.wait(), 60) == 1
