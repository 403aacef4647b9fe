"""`python -m groundswell_operator run`: the operator; `… bridge`: what turns records into the objects that it acts upon; `… release`:
what gives back all that is raised before both are taken away; `… plan`: what a policy would do about an event; `… laptop`: operator and
bridge of a home instead of a cluster."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import logging
import signal
import sys
from collections.abc import Callable, Coroutine

from groundswell_operator.settings import SettingMissing, Settings

PROCESSES = {
    "run": ("groundswell_operator.running", "the operator"),
    "bridge": ("groundswell_operator.bridge.consuming", "from records to the objects that it acts upon"),
    "release": ("groundswell_operator.releasing", "give back all that is raised, before an uninstall"),
}
"""Module and purpose of each. Only what a process runs is loaded: it starts in half the time."""


def main() -> int:
    """The command; its exit code."""
    return _process(sys.argv[1]) if sys.argv[1:] in [[name] for name in PROCESSES] else _command()


def _command() -> int:
    from groundswell_operator.laptop import command as laptop
    from groundswell_operator.rehearsing import command as rehearsing

    parser = argparse.ArgumentParser(prog="python -m groundswell_operator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, does) in PROCESSES.items():
        commands.add_parser(name, help=does)
    rehearsing.add(commands.add_parser("plan", help=rehearsing.__doc__, description=rehearsing.__doc__))
    laptop.add(commands.add_parser("laptop", help=laptop.__doc__, description=laptop.__doc__))
    asked = parser.parse_args()
    if asked.command in PROCESSES:  # as after `--`
        return _process(asked.command)
    return rehearsing.run(asked) if asked.command == "plan" else laptop.run(asked)


def _process(name: str) -> int:
    # The first process of a container has no handler but its own: an operator that waits for the Lease would have to be killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    gc.disable()
    run: Callable[[Settings], Coroutine[object, object, int]] = importlib.import_module(PROCESSES[name][0]).run
    gc.freeze()
    gc.enable()
    try:
        settings = Settings.of()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        return asyncio.run(run(settings))
    except SettingMissing as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
