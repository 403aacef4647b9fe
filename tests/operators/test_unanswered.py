"""Steps that an API server does not answer, over a namespace in memory (`world`) or a server on loopback (`serving`)."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from groundswell_operator.applying.errors import Away, Conflict, NotLeading, Refused, RequestFailed
from groundswell_operator.applying.writing import Cluster
from groundswell_operator.metrics import Metrics
from groundswell_operator.policies import Mode
from groundswell_operator.reconciling import PASS_S_MAX, PATIENCE_S, Reconciler
from groundswell_operator.saga.deciding import GIVE_UP_S
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Condition, Pauses, Phase, Progress
from groundswell_operator.saga.steps import Hold, Note, Record, Step, Told, Write
from tests.operators.passing import BEFORE, METRICS, Process, bounds, phase, raised, reconciled
from tests.operators.serving import Answer, Asked, answering
from tests.operators.world import BUDGET, READERS, WEB, World, governing, spike, telling


async def test_a_broken_admission_webhook_on_one_autoscaler_keeps_no_other_target_and_no_notice_waiting() -> None:
    world = raised(World(telling()))

    def fails(step: Step) -> RequestFailed | None:
        broken = isinstance(step, Write) and step.scaled.target == READERS
        return Away("500: failed calling webhook", 1.0) if broken else None

    world.fails = fails
    await reconciled(world)
    assert bounds(world)["web"] == (17, 17, 20)
    assert bounds(world)["workers"][0] == 11
    assert world.notices == [("a", "chat")]
    assert world.state.policies["default"].notes.phase == "Active"


@pytest.mark.parametrize("kind", [Write, Record, Note])
async def test_a_conflict_that_lasts_keeps_nothing_else_waiting(kind: type[Step]) -> None:
    """As where a controller writes one object all the time, or a cache is behind for good."""
    world = raised(World(telling(), governing("other")))
    raised(world, "b", policy="other")

    def fails(step: Step) -> RequestFailed | None:
        lasts = {
            Write: isinstance(step, Write) and step.scaled.target == READERS,
            Record: isinstance(step, Record) and step.spike.name == "b",
            Note: isinstance(step, Note) and step.governing.policy.name == "other",
        }
        return Conflict("the object has been modified") if lasts[kind] else None

    world.fails = fails
    process = Process(world)
    await process.run_for(15)
    assert bounds(world)["web"][0] == 30
    assert bounds(world)["workers"][0] == 20
    assert ("a", "chat") in world.notices
    assert world.state.policies["default"].notes.phase == "Active"
    world.delete("a")
    world.delete("b")
    await process.run_for(302)
    assert not world.state.spikes
    world.fails = lambda _: None
    await process.run_for(2)
    assert world.state.policies["other"].notes.phase == "Idle"


BUSY = Conflict("a controller annotates it all the time")


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [(Refused(422, "no"), 5), (BUSY, 5), (Away("500: failed calling webhook", 0.01), PATIENCE_S)],
)
async def test_a_bigger_spike_that_cannot_be_recorded_keeps_no_smaller_one_of_its_policy_from_its_place(
    failure: RequestFailed, seconds: float
) -> None:
    """One that is not answered may have its place already: for half a minute nobody else gets it."""
    world = raised(raised(World(governing()), "big", views=9), "small", views=1)
    world.fails = lambda step: failure if isinstance(step, Record | Hold) and step.spike.name == "big" else None
    process = Process(world)
    await process.run_for(int(seconds) - 3)
    assert (phase(world, "small") is Phase.PENDING) == isinstance(failure, Away)
    await process.run_for(8)
    assert phase(world, "small") is Phase.HOLDING
    assert bounds(world)["web"] == (30, 30, 30)
    assert phase(world, "big") is Phase.PENDING
    world.fails = lambda _: None
    await process.run_for(5)
    assert phase(world, "big") is Phase.HOLDING


async def test_of_the_last_place_that_a_spike_could_not_be_recorded_for_nothing_is_taken_back() -> None:
    budget = dataclasses.replace(BUDGET, concurrent_spikes_max=1)
    world = raised(raised(World(governing(budget=budget)), "big", views=9), "small", views=1)
    world.fails = lambda step: BUSY if isinstance(step, Record | Hold) and step.spike.name == "big" else None
    process = Process(world)
    await process.run_for(5)
    assert phase(world, "small") is Phase.HOLDING
    world.fails = lambda _: None
    await process.run_for(5)
    assert (phase(world, "big"), phase(world, "small")) == (Phase.PENDING, Phase.HOLDING)
    assert world.state.spikes["big"].progress.conditions["Admitted"].reason == "BudgetExhausted"


class Timing(World):
    """Takes longer than a pass for what it does not answer in the end, as an API server does whose webhook times out."""

    async def perform(self, step: Step, state: Namespace, now_s: float) -> Namespace:
        try:
            return await super().perform(step, state, now_s)
        except Away:
            await asyncio.sleep(PASS_S_MAX)
            raise


@pytest.mark.parametrize("kind", [Write, Record])
async def test_what_takes_longer_than_a_pass_to_be_left_unanswered_is_asked_for_last(kind: type[Step]) -> None:
    """The target and the spike come first of all otherwise: nothing would come after them, pass for pass."""
    world = raised(raised(Timing(governing(), governing("other")), "first", policy="other", views=9), "second")

    def fails(step: Step) -> RequestFailed | None:
        slow = {
            Write: isinstance(step, Write) and step.scaled.target == READERS,
            Record: isinstance(step, Record) and step.spike.name == "first",
        }
        return Away("500: failed calling webhook", 0.01) if slow[kind] else None

    world.fails = fails
    process = Process(world)
    await process.run_for(3)
    assert bounds(world)["workers"][0] >= 11
    assert phase(world, "second") is Phase.RAISING
    world.fails = lambda _: None
    await process.run_for(15)
    assert bounds(world)["readers"][0] == 20
    assert phase(world, "first") is Phase.HOLDING


async def test_of_what_is_not_answered_each_gets_its_turn() -> None:
    """Where one answer takes a pass, the second would never be asked for behind the first."""
    world = raised(Timing(governing()))
    asked: list[str] = []

    def fails(step: Step) -> RequestFailed | None:
        if not isinstance(step, Write):
            return None
        asked.append(step.scaled.target.name)
        return Away("500: failed calling webhook", 0.01)

    world.fails = fails
    await Process(world).run_for(6)
    assert set(asked) == {"readers", "web", "workers"}


async def test_a_conflict_that_does_not_last_has_its_step_decided_anew_at_once() -> None:
    """What was read is not what is there: nothing more is done by it."""
    world = raised(World(governing()))
    conflicts = iter([Conflict("somebody was quicker")])
    world.fails = lambda step: next(conflicts, None) if isinstance(step, Write) else None
    reconciler = Reconciler(world, METRICS, world.clock)
    with pytest.raises(Conflict):
        await reconciler.reconcile()
    assert not [each for each in world.done if isinstance(each, Write)]
    await reconciler.reconcile()
    assert bounds(world)["web"][0] == 17


def unanswered(step: Step) -> RequestFailed | None:
    """What becomes of writes to the autoscaler of web."""
    return Away("500", 0.01) if isinstance(step, Write) and step.scaled.target == WEB else None


@pytest.mark.promise("OPERATOR-12")
async def test_one_answer_that_does_not_come_gives_no_return_up_though_nobody_had_looked_for_five_minutes() -> None:
    world = raised(World(governing()))
    await Process(world).run_for(10)
    world.delete("a")
    world.now_s += 2 * GIVE_UP_S
    world.fails = unanswered
    process = Process(world)
    await process.run_for(1)
    assert world.state.spikes
    world.fails = lambda _: None
    await process.run_for(2)
    assert not world.state.spikes
    assert bounds(world) == BEFORE


@pytest.mark.promise("OPERATOR-12")
async def test_a_return_that_is_never_answered_is_given_up_half_a_minute_after_somebody_looks_again() -> None:
    world = raised(World(governing()))
    await Process(world).run_for(10)
    world.delete("a")
    world.now_s += 2 * GIVE_UP_S
    world.fails = unanswered
    process = Process(world)
    await process.run_for(int(PATIENCE_S) - 5)
    assert world.state.spikes
    await process.run_for(10)
    assert not world.state.spikes
    assert bounds(world)["web"][1] == 30


async def test_what_went_unanswered_once_long_ago_is_not_given_up_for_that() -> None:
    world = raised(World(governing()))
    process = Process(world)
    world.fails = unanswered
    await process.run_for(2)
    world.fails = lambda _: None
    await process.run_for(int(PATIENCE_S))
    world.delete("a")
    world.show(dataclasses.replace(world.state.targets[WEB], pauses=Pauses(scale_in=True)))
    await process.run_for(int(GIVE_UP_S) - 1)
    world.show(dataclasses.replace(world.state.targets[WEB], pauses=Pauses()))
    world.fails = unanswered
    await process.run_for(2)
    assert world.state.spikes
    world.fails = lambda _: None
    await process.run_for(2)
    assert bounds(world) == BEFORE


async def test_a_pass_in_which_nothing_is_answered_is_one_that_found_the_api_server_away() -> None:
    world = raised(World(telling()))
    world.fails = lambda _: Away("429", 7.0)
    with pytest.raises(Away) as raised_away:
        await reconciled(world)
    assert raised_away.value.retry_s == 7
    assert not world.done


async def test_whoever_does_not_lead_any_more_takes_no_further_step() -> None:
    world = raised(World(governing()))
    world.fails = lambda _: NotLeading("the Lease has run out")
    with pytest.raises(NotLeading):
        await reconciled(world)


async def test_what_waits_for_an_answer_is_asked_for_again_soon_though_no_spike_lives() -> None:
    world = raised(World(governing()), policy="nobody's")
    unanswered = 1

    def fails(step: Step) -> RequestFailed | None:
        nonlocal unanswered
        if isinstance(step, Record) and unanswered:
            unanswered -= 1
            return Away("500", 0.01)
        return None

    world.fails = fails
    passes = asyncio.create_task(Reconciler(world, Metrics(), world.clock).run())
    async with asyncio.timeout(20):  # an idle pass would come after sixty
        while not world.state.spikes["a"].progress.conditions:
            await asyncio.sleep(0.01)
    passes.cancel()


async def test_events_that_are_throttled_hold_no_record_back() -> None:
    def answers(asked: Asked) -> Answer:
        return (429, {"message": "too many"}) if asked.path.endswith("/events") else (422, {"message": "seen"})

    condition = Condition("Admitted", True, "Admitted", "", 0.0)
    told = [Told(key, condition) for key in ("one", "two")]
    async with answering(answers) as (server, requests):
        held = spike("a", 0.0)
        step = Record(held, Progress(Phase.RAISING), told)
        with pytest.raises(RequestFailed, match="seen"):
            await Cluster(requests, "here").perform(step, Namespace({}, {"a": held}, {}), 0.0)
    assert [each.path.rpartition("/")[2] for each in server.written()] == ["events", "status"]


class Slow(World):
    """Takes its time for each step."""

    async def perform(self, step: Step, state: Namespace, now_s: float) -> Namespace:
        await asyncio.sleep(0.05)
        return await super().perform(step, state, now_s)


async def test_a_pass_ends_in_time_in_the_middle_of_many_steps_and_looks_again() -> None:
    world = Slow(governing())
    for number in range(100):
        observed = Progress(Phase.RAISING, Mode.OBSERVE, decided_s=world.clock())
        world.put(dataclasses.replace(spike(f"s{number}", world.clock()), progress=observed))
    await Reconciler(world, METRICS, world.clock).reconcile()
    assert 0 < len(world.done) < 100


async def test_a_pass_takes_one_step_at_least_however_long_it_takes_to_decide() -> None:
    """On a machine that is starved, each would be over before its first step, and nothing would ever be raised. Method: to ask what time it
    is, as each decision does first, takes as long as a pass may."""
    world = raised(World(governing()))

    def slow() -> float:
        time.sleep(PASS_S_MAX)
        return world.clock()

    await Reconciler(world, METRICS, slow).reconcile()
    assert world.done
