"""Notices whose Secret is not answered for, or that cannot be recorded: over a namespace in memory (`world`), or a server on loopback
(`serving`) that is API server and receiver at once."""

from __future__ import annotations

import base64
import itertools

import pytest

from groundswell_operator.applying.errors import Away, Refused, RequestFailed
from groundswell_operator.applying.statuses import moment
from groundswell_operator.applying.writing import Cluster
from groundswell_operator.policies import Notice
from groundswell_operator.reconciling import Reconciler
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.steps import Notify, Step
from tests.operators.passing import METRICS, Process, bounds, raised
from tests.operators.serving import Answer, Asked, answering
from tests.operators.world import World, spike, telling


@pytest.mark.parametrize(
    ("failure", "pauses_s"),
    [
        (Away("500: the Secret is not answered for", 0.01), [1, 2, 4, 8, 16, 32]),
        (Refused(403, "its status may not be written"), [1, 2, 4, 8, 16, 32]),
        (Away("429: too many", 7.0), [7, 7, 7, 8, 16, 32]),
    ],
)
async def test_a_notice_that_nobody_can_say_of_how_it_went_is_tried_again_after_ever_longer_pauses(
    failure: RequestFailed, pauses_s: list[int]
) -> None:
    world = raised(World(telling()))
    tried_s: list[float] = []

    def fails(step: Step) -> RequestFailed | None:
        if not isinstance(step, Notify):
            return None
        tried_s.append(world.clock())
        return failure

    world.fails = fails
    process = Process(world)
    await process.run_for(100)
    assert [round(later - earlier) for earlier, later in itertools.pairwise(tried_s)][:6] == pauses_s
    assert bounds(world)["web"] == (30, 30, 30)
    world.fails = lambda _: None
    await process.run_for(300)
    assert world.notices == [("a", "chat")]


async def test_a_notice_that_failed_wakes_nobody() -> None:
    """Otherwise each failure would be the next pass, as fast as they are answered."""
    world = raised(World(telling()))
    world.fails = lambda step: Away("500", 0.01) if isinstance(step, Notify) else None
    reconciler = Reconciler(world, METRICS, world.clock)
    await reconciler.reconcile()
    await reconciler.settled()
    assert not reconciler.is_woken
    world.now_s += 1
    world.fails = lambda _: None
    await reconciler.reconcile()
    await reconciler.settled()
    assert reconciler.is_woken


async def test_what_was_sent_and_could_not_be_recorded_is_recorded_later_and_not_sent_again() -> None:
    statuses = iter([403, 500, 409])

    def answers(asked: Asked) -> Answer:
        if asked.path.endswith("/secrets/hook"):
            return 200, {"data": {"url": base64.b64encode(f"{server.address}/hook".encode()).decode()}}
        return (next(statuses, 200) if asked.method == "PATCH" else 200), {"message": "as told"}

    async with answering(answers) as (server, requests):
        cluster, told = Cluster(requests, "here"), spike("a", 0.0)
        step = Notify(told, Notice("chat", 0, "hook", "url", 900))
        state = Namespace({}, {"a": told}, {})
        for now_s in (1.0, 2.0, 3.0):
            with pytest.raises(RequestFailed):
                await cluster.perform(step, state, now_s)
        await cluster.perform(step, state, 4.0)
        assert [each.path for each in server.asked].count("/hook") == 1
        recorded = server.written()[-1].value["status"]["notices"]["chat"]
        assert (recorded["attempts"], recorded["sentAt"]) == (1, moment(1.0))
        await cluster.perform(step, state, 5.0)
        assert [each.path for each in server.asked].count("/hook") == 2, "only what was not recorded is remembered"


class Behind(World):
    """What is read is of the moment before the notices that are under way are recorded."""

    reconciler: Reconciler

    async def read(self) -> Namespace:
        found = await super().read()
        await self.reconciler.settled()
        return found


async def test_a_notice_that_is_recorded_while_a_pass_looks_is_not_sent_again() -> None:
    world = Behind(telling())
    world.reconciler = Reconciler(world, METRICS, world.clock)
    raised(world)
    for _ in range(4):
        world.now_s += 1
        await world.reconciler.reconcile()
    assert world.notices == [("a", "chat")]
