"""`python -m groundswell_operator run`: the operator; `… bridge`: what turns records into the objects that it acts upon; `… release`:
what gives back all that is raised before both are taken away; `… plan`: what a policy would do about an event; `… laptop`: operator and
bridge of a home instead of a cluster."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from groundswell_operator import releasing, running
from groundswell_operator.bridge import consuming
from groundswell_operator.laptop import command as laptop
from groundswell_operator.rehearsing import command
from groundswell_operator.settings import SettingMissing, Settings

PROCESSES = {"run": running.run, "bridge": consuming.run, "release": releasing.run}


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m groundswell_operator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="the operator")
    commands.add_parser("bridge", help="from records to the objects that it acts upon")
    commands.add_parser("release", help="give back all that is raised, before an uninstall")
    command.add(commands.add_parser("plan", help=command.__doc__, description=command.__doc__))
    laptop.add(commands.add_parser("laptop", help=laptop.__doc__, description=laptop.__doc__))
    asked = parser.parse_args()
    if asked.command == "plan":
        return command.run(asked)
    if asked.command == "laptop":
        return laptop.run(asked)
    # The first process of a container has no handler but its own: an operator that waits for the Lease would have to be killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = Settings.of()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        return asyncio.run(PROCESSES[asked.command](settings))
    except SettingMissing as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
