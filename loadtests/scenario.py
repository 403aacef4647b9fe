"""One run: a fresh tenant with links, a load on them, faults on the way, and the books at its end.

The demo and the drills differ in what they order and in how they tell it; what happens is the same, and is here.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from loadtests.arrivals import Plan
from loadtests.faults.kills import BACK_S_MAX, Kill, Killer, Struck
from loadtests.generator.child import Load, Loaded, Progress
from loadtests.generator.order import DRAIN_S, Order, Target
from loadtests.oracles import books as oracle
from loadtests.oracles import freshness, reading
from loadtests.oracles.books import Books, Finding, Promised
from loadtests.oracles.freshness import Sample, Sampler
from loadtests.platform.api import TIMEOUT_S, Door, Link
from loadtests.platform.installation import Installation, PlatformFailed

CALM_AFTER_KILL_S = 2.0
"""Samples so shortly after a victim is back are still taken as under the fault."""
ALL_READY_S_MAX = 60.0
LIVE_WINDOW_S = 900.0
"""The live page counts the last fifteen minutes: a click that is older when the books are read is not there."""
LOAD_S_MAX = LIVE_WINDOW_S - (DRAIN_S + BACK_S_MAX + ALL_READY_S_MAX + reading.PATIENCE_S + TIMEOUT_S)
"""A load may last so long: after it the last arrivals are drained, the last victim comes back, and the books are read until patience ends,
while the page must still hold the first click."""
UNCOUNTED_SHARE, UNCOUNTED_SHARE_MAX = 0.25, 0.6
UNCOUNTED_S_PER_KILL = 2.0
"""Beyond a share of visits that were refused or not answered a run shows too little, since nothing is judged of them. A kill takes what
serves a visit away for a second, on the average of victims and on a slow machine (twenty in 150 s: 13 %). Twice that is not by the kills:
a quarter, or more where many kills share a short load."""


class Verdict(StrEnum):
    """What a run shows. A number that is wrong is wrong however the run went, so FAILED comes before INVALID."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    """At least one judgement does not hold."""
    INVALID = "INVALID"
    """Every judgement holds, but load or faults were not as ordered, or too few visits were served, so that shows too little."""

    @property
    def exit_code(self) -> int:
        return {Verdict.PASSED: 0, Verdict.FAILED: 1, Verdict.INVALID: 2}[self]


@dataclass(frozen=True, slots=True)
class Tenant:
    """The tenant of one run."""

    name: str
    key: str
    links: Sequence[Link]


@dataclass(frozen=True, slots=True)
class CatchUp:
    """When a victim was back the live page was behind: its counters were read from the log again, or events had waited elsewhere."""

    kill: Struck
    caught_up_s: float
    """When the page was complete and held all that had been promised until the victim was back, in seconds after the load's start;
    infinite when nobody saw that."""


@dataclass(frozen=True, slots=True)
class Ran:
    """Everything that is known after a run."""

    loaded: Loaded
    ordered: Sequence[Kill]
    struck: Sequence[Struck]
    promised: Promised
    books: Books
    findings: Sequence[Finding]
    settled_s: float
    samples: Sequence[Sample]
    memory_bytes: dict[str, int]
    steady: bool
    """Whether the books had come to rest when they were judged."""

    @property
    def verdict(self) -> Verdict:
        if not all(finding.holds for finding in self.findings):
            return Verdict.FAILED
        return Verdict.INVALID if self.doubts() else Verdict.PASSED

    def doubts(self) -> list[str]:
        """Why this run would show too little even if every number were right; a sentence each."""
        end_s, sentences = self.loaded.plan.seconds, []
        if not self.loaded.is_as_ordered:
            sentences.append(
                f"{self.loaded.off_share:.1%} of the visits did not come when ordered: this machine was too busy"
            )
        if len(self.struck) < len(self.ordered):
            sentences.append(f"{len(self.struck)} of {len(self.ordered)} kills were made")
        late = [kill for kill in self.struck if kill.at_s > end_s]
        sentences += [f"{kill.title} was killed at {kill.at_s:.0f} s, after the load had ended" for kill in late]
        return [*sentences, *self._uncounted()]

    def _uncounted(self) -> list[str]:
        """What the books can say nothing of: visits that were promised nothing."""
        refused, unknown, sentences = self.promised.refused, self.promised.unknown, []
        share = (refused + unknown) / max(len(self.loaded.plan), 1)
        by_kills = UNCOUNTED_S_PER_KILL * len(self.ordered) / self.loaded.plan.seconds
        if share > min(max(UNCOUNTED_SHARE, by_kills), UNCOUNTED_SHARE_MAX):
            sentences.append(
                f"{share:.0%} of the visits were not served: {refused:,} refused, {unknown:,} without an answer"
            )
        if not self.promised.total:
            sentences.append("no visit was answered as counted or spooled")
        elif silent := self._silent_links():
            told = ", ".join(str(number) for number in silent[: oracle.COUNTER_EXAMPLES_MAX])
            sentences.append(f"no visit to {len(silent)} of the links was answered as counted or spooled: {told}")
        return sentences

    def _silent_links(self) -> list[int]:
        """Numbers of the links that were visited and promised nothing: no kill takes a link away throughout."""
        visits = np.bincount(self.loaded.plan.arrivals["target"], minlength=len(self.promised.by_target))
        return [
            number
            for number, (visited, promised) in enumerate(zip(visits, self.promised.by_target, strict=True))
            if visited and not promised
        ]

    def calm_samples(self) -> list[Sample]:
        """Samples of the live page during the load while nothing was being killed, nor caught up with because of a kill.

        Only what a kill explains is left out: a page that is behind without one is late, and so is one that has caught up.
        """
        troubled = [
            *((kill.at_s, kill.back_s + CALM_AFTER_KILL_S) for kill in self.struck),
            *((each.kill.at_s, math.nextafter(each.caught_up_s, math.inf)) for each in self.catch_ups()),
        ]
        end_s = self.loaded.plan.seconds
        return [
            sample
            for at_s, sample in self._timed()
            if 0 <= at_s <= end_s and not any(first_s <= at_s < last_s for first_s, last_s in troubled)
        ]

    def catch_ups(self) -> list[CatchUp]:
        """One for each kill after which the page was seen behind."""
        promised_s, found = freshness.promised_s(self.loaded), []
        for kill in self.struck:
            events = int(np.searchsorted(promised_s, kill.back_s))
            after = [
                (at_s, sample.is_complete and sample.events >= events)
                for at_s, sample in self._timed()
                if at_s >= kill.back_s
            ]
            caught_up_s = next((at_s for at_s, is_there in after if is_there), math.inf)
            if after and not after[0][1]:
                found.append(CatchUp(kill, caught_up_s))
        return found

    def _timed(self) -> list[tuple[float, Sample]]:
        """Each sample with its seconds after the load's start."""
        return [(sample.at_s - self.loaded.started_s, sample) for sample in self.samples]


async def prepare(installation: Installation, slug: str, links: int) -> Tenant:
    """A new tenant with a key and links, made through the public door as staff would."""
    credentials = installation.credentials()
    async with Door(credentials.url, credentials.platform_key) as staff:
        tenant = await staff.create_tenant(slug, f"Run {slug}")
        key = await staff.create_key(tenant, "load")
    async with Door(credentials.url, key) as door:
        made = await door.create_links([f"https://shop.example/{slug}/{number}" for number in range(links)])
    return Tenant(tenant, key, made)


async def run(
    installation: Installation,
    tenant: Tenant,
    plan: Plan,
    kills: Sequence[Kill],
    folder: Path,
    watch: Callable[[Progress, Sample | None], None],
    say: Callable[[str], None],
    wrong_steady_s: float = math.inf,
) -> Ran:
    """Sends the plan, makes the kills, waits for quiet and judges. `watch` hears of the load once a second, `say` of each event.

    Books that are wrong are waited for until patience ends, or until they have stood still for `wrong_steady_s`.
    """
    url = urlsplit(installation.credentials().url)
    targets = tuple(Target(link.host, link.path) for link in tenant.links)
    order = Order(url.hostname or "127.0.0.1", url.port or 80, plan.seed, targets)
    async with Door(url.geturl(), tenant.key) as door, Load(folder, plan, order) as load:
        sampler = Sampler(door)
        killer = Killer(installation, lambda: load.started_s or time.monotonic(), say)
        async with _background(sampler.run(), _told(load, sampler, watch)):
            await load.begun()
            loaded, _ = await asyncio.gather(load.finished(), killer.run(kills))
            memory = installation.memory_bytes()
            await installation.all_ready(ALL_READY_S_MAX)
            promised = oracle.promised(loaded, len(targets))
            say(f"load is over: {promised.total:,} answered as counted or spooled; reading the books")
            books, settled_s, steady = await reading.settled(door, tenant.links, promised, wrong_steady_s)
    findings = oracle.judge(promised, books)
    return Ran(loaded, kills, killer.struck, promised, books, findings, settled_s, sampler.samples, memory, steady)


async def warm(installation: Installation, tenant: Tenant, links: int = 1) -> None:
    """Waits until so many of the fresh tenant's links redirect, without a view that would count. Raises `PlatformFailed` after 10 s."""
    url = installation.credentials().url
    end_s = time.monotonic() + 10
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for link in tenant.links[:links]:
            while (await client.head(link.path, headers={"Host": link.host})).status_code != 302:
                if time.monotonic() > end_s:
                    raise PlatformFailed(f"The new link {link.path} on {link.host} does not redirect.")
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def _background(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Runs work beside the block and ends it with the block; a failure of it surfaces there."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _told(load: Load, sampler: Sampler, watch: Callable[[Progress, Sample | None], None]) -> None:
    while True:
        await asyncio.sleep(1)
        watch(load.progress, sampler.newest)
