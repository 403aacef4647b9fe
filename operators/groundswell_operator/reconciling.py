"""Looks, decides and acts until nothing is left to do: one pass after another, one at a time.

A pass begins with what the API server holds and never trusts what an earlier one knew. Whoever calls `wake` only hastens the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from groundswell_operator.applying.errors import Away, Conflict, Refused, RequestFailed
from groundswell_operator.applying.leaving import readable
from groundswell_operator.applying.requests import wall_clock
from groundswell_operator.metrics import Metrics
from groundswell_operator.saga import notifying
from groundswell_operator.saga.deciding import decide
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.steps import Foreign, Notify, Step
from groundswell_operator.saga.untaken import Untaken, key

log = logging.getLogger(__name__)

PASS_S_MAX = 1.0
"""After which a pass leaves the rest to the next, which looks again first."""
LIVE_S = 1.0
"""Between two passes while a spike lives: steps down and the ends of waits are due by the clock."""
IDLE_S = 60.0
"""And while none does: everything else comes by the watches, and this makes good what they missed."""
NOTICES_MAX = 8
"""That are under way at once."""
REST_S, REST_S_MAX = 0.005, 0.05
"""Between two passes at least, however often one is woken: what comes after calm is seen at once, and each pass woken during the rest
doubles the next one."""
CONFLICT_S, CONFLICT_S_MAX = 0.05, 1.0
PATIENCE_S = 30.0
"""What has not been taken for so long is not waited for any more."""


class Acting(Protocol):
    """Where steps are carried out."""

    async def read(self) -> Namespace: ...

    async def perform(self, step: Step, state: Namespace, now_s: float) -> Namespace: ...


class Reconciler:
    """Brings a namespace to what its policies and spikes call for."""

    def __init__(
        self,
        cluster: Acting,
        metrics: Metrics,
        clock: Callable[[], float] = wall_clock,
        may_be_late: Callable[[], bool] = lambda: False,
    ) -> None:
        """`clock` is that of who stamps the objects, in seconds since 1970. `may_be_late` says whether a write of who acted before may
        still land."""
        self._cluster, self._metrics, self._clock, self._may_be_late = cluster, metrics, clock, may_be_late
        self._written: set[Hashable] = set()
        """What this process has written of others', by the keys of its steps: what was decided on before does not land there any more."""
        self._woken = asyncio.Event()
        self._conflicts = 0
        self._waiting_s: dict[Hashable, float] = {}
        """Since when each step, by its key, has met conflicts or was not answered."""
        self._late: Sequence[Hashable] = ()
        """The steps that were not answered when they were last asked for, by their keys, the one that waits longest first."""
        self._lives = True
        self._waits = False
        """Whether a step of the last pass was not answered, or met a lasting conflict."""
        self._notices: dict[Hashable, asyncio.Task[None]] = {}
        self._told: set[Hashable] = set()
        """The notices that came to an end since this pass began to look: what it has seen says nothing of that."""
        self._unrecorded: dict[Hashable, _Unrecorded] = {}
        """The notices of which nobody could say how they went: a status, which has its own pauses, does not tell of them."""
        self.progressed_s = time.monotonic()
        """When a pass last began or ended, or was told that the API server is away (monotonic): what liveness is judged by."""

    def wake(self) -> None:
        """Something has changed."""
        self._woken.set()

    @property
    def is_woken(self) -> bool:
        """Whether the next pass comes at once."""
        return self._woken.is_set()

    @property
    def pause_s(self) -> float:
        """Until the next pass, unless somebody wakes it."""
        return LIVE_S if self._lives or self._waits else IDLE_S

    def stir(self) -> None:
        """Something that is scaled has changed, as pods and metrics do all the time: that matters while a spike lives."""
        if self._lives:
            self._woken.set()

    async def run(self) -> None:
        """Passes without end; raises `NotLeading` once it may not write any more."""
        try:
            await self._run()
        finally:
            for task in self._notices.values():
                task.cancel()

    async def settled(self) -> None:
        """Returns once no notice is under way."""
        while self._notices:
            await asyncio.gather(*self._notices.values())

    async def _run(self) -> None:
        rest_s = REST_S
        while True:
            self._woken.clear()
            self.progressed_s = time.monotonic()
            pause_s = await self._attempt()
            self.progressed_s = time.monotonic()
            await asyncio.sleep(min(rest_s, pause_s))
            rest_s = min(2 * rest_s, REST_S_MAX) if self.is_woken else REST_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _attempt(self) -> float:
        """One pass; the seconds until the next."""
        try:
            await self.reconcile()
        except Conflict as conflict:
            self._conflicts += 1
            self._metrics.outcome("conflict")
            log.info("somebody else was quicker: %s", conflict)
            return min(CONFLICT_S * self._conflicts, CONFLICT_S_MAX)
        except Away as away:
            self._metrics.outcome("away")
            log.warning("there is another try in %.1f s: %s", away.retry_s, away)
            await asyncio.sleep(away.retry_s)
            return 0.0
        except Refused as refused:
            self._metrics.outcome("refused")
            log.error("the namespace cannot be read: %s", refused)
            return LIVE_S
        self._conflicts = 0
        self._metrics.outcome("done")
        return self.pause_s

    async def reconcile(self) -> Namespace:
        """One pass; the state that it ended with. Raises `NotLeading`, `Away` where nothing was answered, and `Conflict` where a step met
        one for the first time: one that lasts keeps nothing else waiting. Nor does one that is waited for in vain, which may take longer
        than a pass: it is asked for again once everything else is done."""
        self._told.clear()
        state, taking = await self._cluster.read(), _Pass(time.monotonic() + PASS_S_MAX, self._untaken(), [*self._late])
        while True:
            state, steps = self._decided(state, taking.untaken)
            if not steps and taking.asks_again():
                continue
            if not steps:
                break
            if taking.is_over():
                taking.is_cut = True
                self.wake()
                break
            for step in steps:
                if step not in taking.untaken and not taking.is_over():
                    state = await self._performed(step, state, taking)
        state = self._notify(state)
        self._metrics.state(state)
        self._lives = any(each.lives or (each.deleted_s and each.held) for each in state.spikes.values())
        self._late = [*taking.late, *taking.missed]
        waiting = taking.untaken.overtaken | taking.untaken.unanswered
        self._waits = bool(waiting)
        if not taking.is_cut:
            self._waiting_s = {each: since_s for each, since_s in self._waiting_s.items() if each in waiting}
        taking.require_answers()
        return state

    def _decided(self, state: Namespace, untaken: Untaken) -> tuple[Namespace, Sequence[Step]]:
        """The next steps, and the state without what nothing can be decided of."""
        now_s = self._clock()
        return readable(state, lambda found: decide(found, now_s, untaken))

    def _notify(self, state: Namespace) -> Namespace:
        """Sends what is due beside the passes: a receiver that is slow to answer must keep nobody waiting for replicas."""
        now_s = self._clock()
        state, due = readable(state, lambda found: notifying.due(found, now_s))
        steps = {(step.spike.uid, step.notice.name): step for step in due}
        self._unrecorded = {about: each for about, each in self._unrecorded.items() if about in steps}
        for about, step in steps.items():
            rests = about in self._unrecorded and now_s < self._unrecorded[about].until_s
            is_known = about in self._notices or about in self._told
            if not rests and not is_known and len(self._notices) < NOTICES_MAX:
                self._notices[about] = asyncio.create_task(self._notified(about, step, state))
        return state

    async def _notified(self, about: Hashable, step: Notify, state: Namespace) -> None:
        try:
            await self._cluster.perform(step, state, self._clock())
        except RequestFailed as failed:
            before = self._unrecorded.get(about, _Unrecorded())
            self._unrecorded[about] = before.after(failed, self._clock())
            log.warning("how a notice of %s went was not recorded: %s", step.spike.name, failed)
        else:
            self._unrecorded.pop(about, None)
            self._metrics.step(step)
            self.wake()
        finally:
            del self._notices[about]
            self._told.add(about)

    async def _performed(self, step: Step, state: Namespace, taking: _Pass) -> Namespace:
        """The state after a step; one that is not taken is left out for the rest of the pass, and the others go on."""
        taking.has_tried = True
        try:
            found = await self._cluster.perform(step, state, self._clock())
        except Refused as error:
            taking.untaken, taking.is_answered = taking.untaken.with_refused(step), True
            self._waiting_s.pop(key(step), None)
            self._metrics.outcome("refused")
            log.warning("a step was refused: %s", error)
            return state
        except Conflict as conflict:
            if not self._waits_for(step):
                raise
            taking.untaken, taking.is_answered = taking.untaken.with_overtaken(step), True
            self._metrics.outcome("conflict")
            log.info("somebody else was quicker again: %s", conflict)
            return state
        except Away as away:
            self._waits_for(step)
            taking.untaken, taking.away = taking.untaken.with_unanswered(step), away
            taking.missed.append(key(step))
            self._metrics.outcome("away")
            log.warning("a step was not answered: %s", away)
            return state
        self._waiting_s.pop(key(step), None)
        taking.is_answered = True
        if isinstance(step, Foreign):
            self._written.add(key(step))
        self._metrics.step(step)
        return found

    def _waits_for(self, step: Step) -> bool:
        """Whether a step that was not taken now was not the last time either."""
        before = key(step) in self._waiting_s
        self._waiting_s.setdefault(key(step), self._clock())
        return before

    def _untaken(self) -> Untaken:
        """What a pass begins with."""
        since_s = self._clock() - PATIENCE_S
        lasting = frozenset(each for each, began_s in self._waiting_s.items() if began_s <= since_s)
        written = frozenset(self._written) if self._may_be_late() else None
        return Untaken(unanswered=frozenset(self._late), lasting=lasting, written=written)


@dataclass(frozen=True, slots=True)
class _Unrecorded:
    """How often in a row a notice could not be sent or recorded, and until when it rests."""

    failures: int = 0
    until_s: float = 0.0

    def after(self, failed: RequestFailed, now_s: float) -> _Unrecorded:
        """What is known after one more."""
        least_s = failed.retry_s if isinstance(failed, Away) else 0.0
        failures = self.failures + 1
        return _Unrecorded(failures, now_s + max(least_s, notifying.pause_s(failures)))


@dataclass(slots=True)
class _Pass:
    """How far a pass has come."""

    ends_s: float
    """Monotonic."""
    untaken: Untaken
    late: list[Hashable]
    """What earlier passes got no answer for: it is asked for again when everything else is done."""
    has_tried: bool = False
    """Whether any step was asked for: one is, however long it took to decide on it."""
    is_answered: bool = False
    """Whether any step was."""
    missed: list[Hashable] = field(default_factory=list)
    """What this pass got no answer for."""
    away: Away | None = None
    """Why the last one that was not answered was not."""
    is_cut: bool = False
    """Whether it left something to the next."""

    def is_over(self) -> bool:
        return self.has_tried and time.monotonic() >= self.ends_s

    def asks_again(self) -> bool:
        """Whether there is something late, and time for it: the first of that may be asked for then."""
        if not self.late or self.is_over():
            return False
        self.untaken = self.untaken.without_unanswered(self.late.pop(0))
        return True

    def require_answers(self) -> None:
        """Raises `Away` where an API server answered nothing that it was asked."""
        if self.away is not None and not self.is_answered:
            raise self.away
