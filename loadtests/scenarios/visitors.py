"""Visitors open short links while somebody makes new ones: calm, fifty times the calm, calm again; then the counts are compared.

Run from the root of the sources, against the platform of `make up` or any other door:

    .venv/bin/locust -f loadtests/scenarios/visitors.py --headless
    GROUNDSWELL_API_KEY=… .venv/bin/locust -f loadtests/scenarios/visitors.py --host http://localhost:8080

In a cluster charts/loadtests runs it as a job, which reaches the door by the name of its Service and says by --domain whose API it wants.

Each visitor opens one link a second, so the number of users is the rate that is ordered. Locust exits with 1 when a link's count is not
what visitors were promised, or when a request failed. One process holds the promises of all, so there are no workers.
"""

import asyncio
import logging
import random
import time
from argparse import Namespace
from pathlib import Path
from typing import ClassVar

import httpx
from locust import FastHttpUser, LoadTestShape, constant_pacing, constant_throughput, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_SPAWNING

from loadtests.arrivals.agents import BOT_AGENTS, HUMAN_AGENTS
from loadtests.platform.api import Door, Link, asking, link_of
from loadtests.platform.installation import DEFAULT_HOME, Installation, PlatformFailed
from loadtests.scenarios.accounts import Accounts, verdict

SPIKE = 50
"""How many times the calm the peak is."""
BOT_SHARE, NEW_VISITOR_SHARE = 0.1, 0.3
"""Visitors that are programs; visits after which somebody else comes, the others being repeated ones."""
STOP_S = 20
"""Longer than `TIMEOUT_S`: a visit that has begun is answered, or known to be unknown, before the counts are read."""
TIMEOUT_S = 15.0
CREATION_S = 2.0
DOOR_POLL_S = 3.0
log = logging.getLogger(__name__)
_accounts: dict[Environment, Accounts] = {}
"""What the run that goes on in an environment has promised; empty before its links are made."""


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    add = parser.add_argument
    add("--home", default=str(DEFAULT_HOME), help="home folder whose door and key are taken where none are given")
    add("--key", env_var="GROUNDSWELL_API_KEY", default="", is_secret=True, include_in_web_ui=False, help="API key")
    add("--domain", env_var="VISITORS_DOMAIN", default="", help="the API's host, where --host has another name")
    add("--door-seconds", type=float, env_var="VISITORS_DOOR_SECONDS", default=0.0, help="until the door makes links")
    add("--links", type=int, env_var="VISITORS_LINKS", default=20, help="links at the start")
    add("--peak", type=int, env_var="VISITORS_PEAK", default=200, help=f"visits a second, {SPIKE} times the calm")
    add("--calm-seconds", type=float, env_var="VISITORS_CALM_SECONDS", default=15.0, help="before and after the spike")
    add("--spike-seconds", type=float, env_var="VISITORS_SPIKE_SECONDS", default=30.0, help="at the peak")
    add("--patience-seconds", type=float, env_var="VISITORS_PATIENCE_SECONDS", default=60.0, help="until counts agree")
    add("--steady-seconds", type=float, env_var="VISITORS_STEADY_SECONDS", default=3.0, help="that counts stay right")


@events.init.add_listener
def _at_the_door(environment: Environment, **_: object) -> None:
    """Takes the home folder's word for what was not given."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # or each reading of a count is a line
    environment.stop_timeout = max(environment.stop_timeout, STOP_S)
    options = _given(environment)
    if not (options.host and options.key):
        try:
            found = Installation(Path(options.home)).credentials()
        except FileNotFoundError as error:
            raise SystemExit(f"Nothing was started in {options.home}: make up, or give --host and --key.") from error
        environment.host, options.key = options.host or found.url, options.key or found.api_key


@events.test_start.add_listener
def _prepare(environment: Environment, **_: object) -> None:
    """Makes the links; a run without them ends at once, as failed."""
    _accounts.pop(environment, None)
    environment.process_exit_code = None
    try:
        _accounts[environment] = asyncio.run(_made(environment))
        assert environment.shape_class is not None
        environment.shape_class.reset_time()  # the calm begins now, however long that took
    except (PlatformFailed, httpx.HTTPError) as error:
        environment.process_exit_code = 1
        log.error("No links, no visitors: %s", error)


@events.test_stop.add_listener
def _judge(environment: Environment, **_: object) -> None:
    """Compares the counts once all visitors have gone."""
    accounts = _accounts.pop(environment, None)
    if accounts is None:
        return
    log.info("%d visits were answered as counted; reading the counts", accounts.promised.total())
    try:
        wrong = asyncio.run(_judged(environment, accounts))
    except (PlatformFailed, httpx.HTTPError) as error:
        wrong = [f"the counts cannot be read: {error}"]
    for sentence in wrong:
        log.error("WRONG: %s", sentence)
    if wrong:
        environment.process_exit_code = 1
    else:
        log.info("Every one of %d links says what its visitors were promised.", len(accounts.links))


class Spike(LoadTestShape):
    """Calm, a step to the peak, calm. Users start as fast as they can: the step is the point."""

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        environment, now_s = self.runner.environment, self.get_run_time()
        options = _given(environment)
        if environment not in _accounts and self.runner.state not in (STATE_SPAWNING, STATE_RUNNING):
            return 0, 1.0  # starts the run, which makes the links, with nobody in it
        if environment not in _accounts or now_s >= 2 * options.calm_seconds + options.spike_seconds:
            return None
        is_spike = 0 <= now_s - options.calm_seconds < options.spike_seconds
        visitors = options.peak if is_spike else max(1, options.peak // SPIKE)
        return visitors + Creator.fixed_count, float(options.peak)


class Visitor(FastHttpUser):
    """One visit a second at most; somebody else now and then, else the same visitor again."""

    wait_time = constant_throughput(1)
    network_timeout = connection_timeout = TIMEOUT_S
    max_retries = 0
    """A visit that is sent twice would be two clicks."""
    chance: ClassVar[random.Random] = random.Random()

    def on_start(self) -> None:
        self._come()

    def _come(self) -> None:
        agents = BOT_AGENTS if self.chance.random() < BOT_SHARE else HUMAN_AGENTS
        address = ".".join(str(self.chance.randint(1, 254)) for _ in range(3))
        self._headers = {"User-Agent": self.chance.choice(agents), "X-Forwarded-For": f"10.{address}"}

    @task
    def open_link(self) -> None:
        accounts = _accounts[self.environment]
        link = accounts.drawn(self.chance)
        headers = {**self._headers, "Host": link.host}
        with self.client.get(
            link.path, name="open a link", headers=headers, allow_redirects=False, catch_response=True
        ) as answer:
            if answer.status_code == 302:
                accounts.redirected(link, answer.headers.get("groundswell-view") or "")
                answer.success()
            elif answer.status_code == 503 and answer.headers.get("retry-after"):
                answer.request_meta["name"] = "refused until later"
                answer.success()
            else:
                if not answer.status_code:
                    accounts.unanswered(link)
                answer.failure(f"answered {answer.status_code}")
        if self.chance.random() < NEW_VISITOR_SHARE:
            self._come()


class Creator(FastHttpUser):
    """Makes a link every other second, which visitors then open too."""

    fixed_count = 1
    wait_time = constant_pacing(CREATION_S)
    network_timeout = connection_timeout = TIMEOUT_S
    max_retries = 0

    @task
    def make_link(self) -> None:
        options = _given(self.environment)
        headers = asking(options.key, options.domain)
        asked = {"destination": "https://shop.example/new"}
        with self.client.post(
            "/v1/links", name="make a link", json=asked, headers=headers, catch_response=True
        ) as answer:
            if answer.status_code == 201:
                _accounts[self.environment].add(link_of(answer.json()))
            else:
                answer.failure(f"answered {answer.status_code}")


async def _made(environment: Environment) -> Accounts:
    options = _given(environment)
    async with _door(environment) as door:
        return Accounts(await _links(door, options.links, options.door_seconds))


async def _links(door: Door, number: int, patience_s: float) -> list[Link]:
    """Asks again while a platform that was just installed comes up; raises what its door said last."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            return await door.create_links([f"https://shop.example/{n}" for n in range(number)])
        except (PlatformFailed, httpx.HTTPError) as error:
            if time.monotonic() >= end_s:
                raise
            log.info("The door makes no links yet: %s", error)
        await asyncio.sleep(DOOR_POLL_S)


async def _judged(environment: Environment, accounts: Accounts) -> list[str]:
    options = _given(environment)
    async with _door(environment) as door:
        return await verdict(accounts, door, options.patience_seconds, options.steady_seconds)


def _door(environment: Environment) -> Door:
    options = _given(environment)
    return Door(environment.host or "", options.key, options.domain)


def _given(environment: Environment) -> Namespace:
    options = environment.parsed_options
    assert isinstance(options, Namespace), "locust was started by its command line"
    return options
