"""The generator's process: `python -m loadtests.generator FOLDER`.

Prints one JSON object a quarter of a second with what has happened so far, and a last one with `done`.
"""

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

import uvloop

from loadtests.arrivals import plan as plans
from loadtests.generator import order as orders
from loadtests.generator.log import OutcomeLog
from loadtests.generator.sender import Sender

REPORT_S = 0.25


async def _run(folder: Path) -> None:
    order = orders.load(folder)
    plan = plans.load(folder / orders.PLAN, order.seed)
    log = OutcomeLog(folder / orders.LOG)
    sender = Sender(plan, order, log)
    gc.freeze()  # the plan is garbage to nobody: no collection walks it between two arrivals
    reporter = asyncio.create_task(_report(sender))
    try:
        unsent = await sender.run()
    finally:
        reporter.cancel()
        log.close()
    _print({**_so_far(sender), "waiting": 0, "unsent": unsent, "done": True})


async def _report(sender: Sender) -> None:
    while True:
        await asyncio.sleep(REPORT_S)
        _print(_so_far(sender))


def _so_far(sender: Sender) -> dict[str, object]:
    outcomes = {outcome.name.lower(): count for outcome, count in sender.outcomes.items()}
    return {
        "elapsed_s": round(sender.elapsed_s, 3),
        "dispatched": sender.dispatched,
        "late": sender.late,
        "waiting": sender.waiting,
        "outcomes": outcomes,
    }


def _print(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the parent, which ends this process itself
    uvloop.run(_run(Path(sys.argv[1])))
