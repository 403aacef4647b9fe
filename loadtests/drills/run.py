"""`python -m loadtests drill NAME [--profile P] [--seed N] [--control NAME|all]`.

Exit codes: 0 PASSED, 1 FAILED, 2 INVALID, 3 ERROR. With controls 1 is what must come out: each ended FAILED at its finding; 3 when one
did not.
"""

import argparse
import asyncio
import json
import math
import time
from pathlib import Path

from loadtests import scenario
from loadtests.drills import draw, platform, spec
from loadtests.drills.spec import Control, Drill
from loadtests.faults.kills import Kill
from loadtests.oracles import reading
from loadtests.platform.installation import Installation
from loadtests.reports.journal import Journal
from loadtests.reports.page import page
from loadtests.reports.screen import Screen
from loadtests.scenario import Verdict

ERROR = 3


async def run(options: argparse.Namespace) -> int:
    """Runs a drill or its controls; returns the exit code."""
    screen, drill = Screen(), spec.load(options.name)
    drill.profile(options.profile)
    controls = _controls(drill, options.control)
    journals = []
    for control in controls:  # on a platform of its own: what one control leaves behind must not count in the next
        async with platform.opened(drill.topology, screen.say) as installation:
            journals.append(await _once(installation, drill, options, control, screen))
    if controls == [None]:
        return journals[0].verdict.exit_code
    return Verdict.FAILED.exit_code if all(journal.control_holds for journal in journals) else ERROR


def _controls(drill: Drill, name: str | None) -> list[Control | None]:
    if name is None:
        return [None]
    return list(drill.controls.values()) if name in ("all", "1") else [drill.control(name)]


async def _once(
    installation: Installation, drill: Drill, options: argparse.Namespace, control: Control | None, screen: Screen
) -> Journal:
    profile, seed = drill.profile(options.profile), options.seed
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder = platform.RUNS / "-".join([drill.name, stamp, str(seed), *([control.name] if control else [])])
    folder.mkdir(parents=True)
    plan, kills = draw.plan_of(drill, profile, seed), draw.kills_of(drill, profile, seed)
    _write_plan(folder, plan.digest, kills)
    screen.say(f"control {control.name}: {control.meaning}" if control else drill.hypothesis)
    if control:
        await installation.restart(installation.holder(control.process), dict(control.settings))
    tenant = await scenario.prepare(installation, f"drill-{stamp}-{control.name if control else 'run'}", drill.links)
    await scenario.warm(installation, tenant)
    screen.say(f"sending {len(plan):,} clicks in {profile.seconds:.0f} s; {len(kills)} kills on the way")
    steady_s = reading.WRONG_STEADY_S if control else math.inf
    ran = await scenario.run(installation, tenant, plan, kills, folder, screen.watch, screen.say, steady_s)
    journal = Journal(drill, options.profile, seed, control, ran)
    (folder / "journal.json").write_text(json.dumps(journal.machine(), indent=1) + "\n")
    (folder / "report.html").write_text(page(journal))
    print(journal.text(folder))
    return journal


def _write_plan(folder: Path, digest: str, kills: list[Kill]) -> None:
    """What will be done, on disk before the first request."""
    faults = [{"at_s": kill.at_s, "victim": kill.victim, "how": kill.how} for kill in kills]
    (folder / "faults.json").write_text(json.dumps({"plan": digest, "faults": faults}, indent=1) + "\n")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command's place on the command line."""
    parser = commands.add_parser("drill", help="an experiment with a verdict; its controls must fail")
    parser.add_argument("name", help=f"one of: {', '.join(spec.names())}")
    parser.add_argument("--profile", default="ci", help="how much of it (default ci)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed draws the same load and kills")
    parser.add_argument("--control", metavar="NAME", help="one protection switched off, or `all` one after the other")
    parser.set_defaults(run=lambda options: asyncio.run(run(options)))
