"""Goal: who waits for a child's end is told of it, and does not look for it many times a second: a platform keeps a dozen of them, and a
laptop at rest should rest. Method: real children; the looks at them are counted."""

import asyncio
import os
import signal
from pathlib import Path
from unittest import mock

import pytest

from groundswell.engines.children import Child, Launch

WAITED_S = 0.5
LOOKS_MAX = 3


@pytest.fixture
def sleeper(tmp_path: Path) -> Child:
    return Child(Launch(["sleep", "60"], tmp_path / "sleep.log", tmp_path))


async def test_nobody_looks_at_a_child_while_it_is_waited_for(sleeper: Child) -> None:
    assert await looks_in_a_wait(sleeper) <= LOOKS_MAX


async def test_where_the_system_does_not_tell_it_is_looked_for(sleeper: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the control of the test above: so many looks it would see."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert await looks_in_a_wait(sleeper) > LOOKS_MAX


async def test_all_who_wait_are_told_and_leave_no_descriptor(sleeper: Child) -> None:
    before = len(os.listdir("/dev/fd"))
    given_up = asyncio.create_task(sleeper.wait())
    waiting = [asyncio.create_task(sleeper.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    given_up.cancel()
    sleeper.kill()
    assert await asyncio.gather(*waiting) == [-signal.SIGKILL] * 3
    assert await sleeper.wait() == -signal.SIGKILL, "long after its end"
    assert len(os.listdir("/dev/fd")) == before


async def looks_in_a_wait(child: Child) -> int:
    """How often it was looked at in half a second and at its end."""
    exit_code = vars(Child)["exit_code"].fget
    with mock.patch.object(
        Child, "exit_code", new_callable=mock.PropertyMock, side_effect=lambda: exit_code(child)
    ) as looked:
        waiting = asyncio.create_task(child.wait())
        await asyncio.sleep(WAITED_S)
        child.kill()
        assert await waiting == -signal.SIGKILL
    return looked.call_count
