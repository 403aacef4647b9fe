"""The demo: one link goes viral while the writer, the gateway and the broker are killed, and the books are shown at the
end.

python -m loadtests demo [--stop] [--json FILE] [--topology all|each] [--seconds N] [--still N] [--seed N] [--home DIR]
"""

import argparse
import asyncio
import json
import math
import secrets
import tempfile
import time
from pathlib import Path

from loadtests import scenario
from loadtests.arrivals import Plan, Stream, Visitors, constant, draw, ramp
from loadtests.faults.kills import Kill
from loadtests.oracles import freshness
from loadtests.platform.installation import DEFAULT_HOME, Installation, stop_command
from loadtests.reports.screen import Screen
from loadtests.reports.verdict import Report

CALM, HIGH = 20.0, 1_000.0
OTHER_LINKS, OTHER_RATE = 4, 10.0
CALM_SHARE, RAMP_SHARE = 0.15, 0.08
VICTIMS = ("writer", "gateway", "kafka")
FIRST_KILL_SHARE, LAST_KILL_SHARE = 0.28, 0.7


def plan_of(seconds: float, seed: int, high: float = HIGH) -> Plan:
    """Calm, a step to fifty times on the first link, a ramp back to calm; a steady murmur on the others."""
    calm_s, ramp_s = seconds * CALM_SHARE, seconds * RAMP_SHARE
    viral = (
        *constant(CALM, calm_s),
        *constant(high, seconds - 2 * calm_s - ramp_s),
        *ramp(high, CALM, ramp_s),
        *constant(CALM, calm_s),
    )
    streams = [Stream(viral, 0, 1), Stream(constant(OTHER_RATE, seconds), 1, OTHER_LINKS)]
    return draw(streams, Visitors(), seed)


def kills_of(seconds: float, victims: tuple[str, ...] = VICTIMS) -> list[Kill]:
    """Each victim once, spread over the time of the high load."""
    width = (LAST_KILL_SHARE - FIRST_KILL_SHARE) / max(len(victims) - 1, 1)
    return [Kill(seconds * (FIRST_KILL_SHARE + width * number), victim) for number, victim in enumerate(victims)]


async def run(options: argparse.Namespace) -> int:
    """The whole demo; returns its exit code."""
    screen, installation = Screen(), Installation(options.home)
    try:
        return await _run(installation, options, screen)
    except asyncio.CancelledError:
        stays = f"the platform stays up; stop it with: {stop_command(options.home, Path.cwd())}"
        screen.say(f"interrupted; {'nothing runs' if installation.topology is None else stays}")
        raise


async def _run(installation: Installation, options: argparse.Namespace, screen: Screen) -> int:
    began_s = time.monotonic()
    screen.say("starting the platform (the first time downloads its engines)")
    await installation.up(options.topology or installation.topology or "each", options.port)
    try:
        return await _show(installation, options, screen, began_s)
    finally:
        if options.stop:
            screen.say("stopping the platform")
            await installation.down()


async def _show(installation: Installation, options: argparse.Namespace, screen: Screen, began_s: float) -> int:
    screen.say("creating a tenant and its links")
    tenant = await scenario.prepare(installation, f"viral-{secrets.token_hex(4)}", 1 + OTHER_LINKS)
    await scenario.warm(installation, tenant)
    plan = plan_of(options.seconds, options.seed)
    page = f"{installation.credentials().url}/#key={tenant.key}"
    screen.say(f"watch it live: {page}")
    screen.say(
        f"sending {len(plan):,} visits in {options.seconds:.0f} s; one link goes from {CALM:.0f} to {HIGH:,.0f} a second"
    )
    with tempfile.TemporaryDirectory(prefix="groundswell-demo-") as folder:
        kills = kills_of(options.seconds)
        ran = await scenario.run(
            installation, tenant, plan, kills, Path(folder), screen.watch, screen.say, options.still
        )
    seconds = time.monotonic() - began_s
    told = freshness.told(ran.calm_samples())
    seen = freshness.seen(ran.calm_samples(), ran.loaded)
    report = Report(ran, told, seen, seconds)
    print(report.text(page=page, stop=None if options.stop else stop_command(options.home, Path.cwd())))
    if options.json is not None:
        options.json.write_text(json.dumps(report.machine(), indent=1) + "\n")
    return ran.verdict.exit_code


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command's place on the command line."""
    parser = commands.add_parser("demo", help="one link goes viral while the platform is being killed")
    parser.add_argument("--stop", action="store_true", help="stop the platform after the verdict")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict for machines as well")
    parser.add_argument(
        "--topology", choices=("all", "each"), help="which modules share a process (default each, or what runs already)"
    )
    parser.add_argument("--seconds", type=_seconds, default=60.0, metavar="N", help="length of the load (default 60)")
    parser.add_argument(
        "--still", type=float, default=math.inf, metavar="N",
        help="judge books that are wrong once they have stood still for N seconds (default: after a minute)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed sends the same visits")
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, metavar="DIR", help="home folder")
    parser.add_argument("--port", type=int, metavar="N", help="public port (default 8080; 0 a free one)")
    parser.set_defaults(run=lambda options: asyncio.run(run(options)))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= scenario.LOAD_S_MAX:
        raise argparse.ArgumentTypeError(
            f"a number of seconds up to {scenario.LOAD_S_MAX:.0f}, not {text!r}: the live page, which is judged, holds "
            f"{scenario.LIVE_WINDOW_S:.0f}"
        )
    return seconds
