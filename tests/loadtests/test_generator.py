"""The generator against a door of the tests' own: open loop, honest about the unknown, nothing sent twice."""

import asyncio
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from loadtests.arrivals import Plan, Stream, Visitors, constant, draw
from loadtests.generator import histogram, log
from loadtests.generator.child import Load, Loaded
from loadtests.generator.log import Outcome
from loadtests.generator.order import Order, Target
from tests.loadtests.conftest import Door

pytestmark = pytest.mark.alone

TARGETS = tuple(Target("shop.localhost", f"/code{number}") for number in range(3))


def planned(rate: float, seconds: float) -> Plan:
    return draw([Stream(constant(rate, seconds), 0, len(TARGETS))], Visitors(), 5)


def order_to(door: Door, **bounds: float) -> Order:
    return Order("127.0.0.1", door.port, 5, TARGETS, **bounds)  # type: ignore[arg-type]  # bounds are the order's own numbers


async def ended(load: Load) -> Loaded:
    async with load:
        return await load.finished()


def outcomes(loaded: Loaded) -> dict[Outcome, int]:
    return {
        Outcome(value): int(count)
        for value, count in zip(*np.unique(loaded.records["outcome"], return_counts=True), strict=True)
    }


async def test_every_answer_is_in_the_log_and_equals_what_the_door_stored(door: Door, tmp_path: Path) -> None:
    """DRILLS-5. Goal: the generator's own books are right when nothing goes wrong."""
    loaded = await ended(Load(tmp_path, planned(500, 2), order_to(door)))
    assert outcomes(loaded) == {Outcome.SPOOLED: 1000}
    assert door.stored.total() == 1000
    assert loaded.is_as_ordered
    for number, target in enumerate(TARGETS):
        assert door.stored[target.path] == int((loaded.plan.arrivals["target"] == number).sum())


async def test_visitors_have_addresses_of_their_own(door: Door, tmp_path: Path) -> None:
    """Goal: the platform sees as many visitors as were planned."""
    loaded = await ended(Load(tmp_path, planned(500, 1), order_to(door)))
    assert len(door.addresses) == len(np.unique(loaded.plan.arrivals["visitor"]))


async def test_arrivals_wait_for_nobody_and_a_stall_shows_in_the_latencies(door: Door, tmp_path: Path) -> None:
    """DRILLS-2. Goal: a stall of the server of about 1 s is seen at its full length by those who came in it. Method: a closed
    loop would show one slow answer; theory gives latencies spread evenly over the stall for the arrivals in it, so the p99 of
    a 4 s load is what the 17th of 1,600 arrivals waits: 40 ms less than the stall took.
    """
    async with Load(tmp_path, planned(400, 4), order_to(door)) as load:
        while load.progress.elapsed_s < 1:
            await asyncio.sleep(0.01)
        door.open_now.clear()
        began_s = time.monotonic()
        await asyncio.sleep(1)
        door.open_now.set()
        stall_s = time.monotonic() - began_s
        loaded = await load.finished()
    assert outcomes(loaded) == {Outcome.SPOOLED: 1600}
    assert loaded.is_as_ordered
    p99_s = histogram.of(loaded.records["latency_us"].astype(np.int64)).percentile_us(0.99) / 1e6
    assert p99_s == pytest.approx(stall_s - 0.04, rel=0.1)


async def test_a_request_without_an_answer_is_unknown_and_never_sent_again(door: Door, tmp_path: Path) -> None:
    """DRILLS-5. Goal: what may or may not have been stored is not called a failure, nor doubled."""
    door.silent_every = 50
    loaded = await ended(Load(tmp_path, planned(500, 2), order_to(door)))
    assert outcomes(loaded) == {Outcome.SPOOLED: 980, Outcome.UNKNOWN: 20}
    assert door.stored.total() == 1000


async def test_arrivals_at_a_closed_door_are_tried_again_and_none_is_lost(door: Door, tmp_path: Path) -> None:
    """Goal: a restart of the door makes no unknowns beyond the requests it held.

    Method: the door goes away for a second, then comes back at the same port.
    """
    async with Load(tmp_path, planned(500, 4), order_to(door)) as load:
        while load.progress.elapsed_s < 1:
            await asyncio.sleep(0.01)
        await door.stop()
        await asyncio.sleep(1)
        await door.start()
        loaded = await load.finished()
    ended_as = outcomes(loaded)
    assert ended_as.get(Outcome.UNKNOWN, 0) <= 5
    assert sum(ended_as.values()) == 2000
    assert loaded.unsent == 0
    assert ended_as[Outcome.SPOOLED] <= door.stored.total() <= 2000


async def test_a_time_out_is_unknown(door: Door, tmp_path: Path) -> None:
    """DRILLS-5. Goal: an answer that is too late leaves the request unknown, and the load ends."""
    door.open_now.clear()
    loaded = await ended(Load(tmp_path, planned(20, 1), order_to(door, timeout_s=0.5)))
    assert outcomes(loaded) == {Outcome.UNKNOWN: 20}


async def test_a_door_that_never_opens_leaves_arrivals_unsent_and_the_load_invalid(door: Door, tmp_path: Path) -> None:
    """DRILLS-2. Goal: arrivals that never happened are not silently missing."""
    await door.stop()
    loaded = await ended(Load(tmp_path, planned(50, 1), order_to(door, drain_s=0.3)))
    assert (loaded.unsent, len(loaded.records), loaded.is_as_ordered) == (50, 0, False)


async def test_a_starved_generator_is_invalid_and_not_passed(door: Door, tmp_path: Path) -> None:
    """DRILLS-2. Goal: a load that did not come as ordered proves nothing. Method: stop the generator for a second of its three."""
    async with Load(tmp_path, planned(300, 3), order_to(door)) as load:
        while load.progress.elapsed_s < 1:
            await asyncio.sleep(0.01)
        os.kill(load.pid, signal.SIGSTOP)
        await asyncio.sleep(1)
        os.kill(load.pid, signal.SIGCONT)
        loaded = await load.finished()
    assert loaded.late > 100
    assert not loaded.is_as_ordered


async def test_a_view_that_the_door_did_not_keep_is_not_called_kept(door: Door, tmp_path: Path) -> None:
    """Goal: only `counted` and `spooled` are promises."""
    door.view = b"dropped"
    loaded = await ended(Load(tmp_path, planned(50, 1), order_to(door)))
    assert outcomes(loaded) == {Outcome.DROPPED: 50}


def test_a_torn_record_is_cut_off_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    """DRILLS-5. Goal: the log survives the death of its writer, and does not lie after damage."""
    path = tmp_path / "acked.log"
    writer = log.OutcomeLog(path)
    for arrival in range(3):
        writer.append(arrival, arrival * 10, 5, 302, Outcome.SPOOLED)
    writer.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert log.read(path)["arrival"].tolist() == [0, 1]
    path.write_bytes(whole[:5] + b"\xff" + whole[6:])
    with pytest.raises(ValueError, match="damaged"):
        log.read(path)


def test_percentiles_are_within_one_percent_and_merge_by_addition() -> None:
    """Goal: bounds are judged on numbers that are right. Method: a known distribution, against the exact order statistic."""
    latencies = np.random.default_rng(1).integers(100, 3_000_000, 20_000)
    halves = histogram.of(latencies[:9_000]).merged(histogram.of(latencies[9_000:]))
    for share in (0.5, 0.9, 0.99, 0.999):
        exact = np.sort(latencies)[int(np.ceil(share * len(latencies))) - 1]
        assert halves.percentile_us(share) == pytest.approx(exact, rel=0.0101)
