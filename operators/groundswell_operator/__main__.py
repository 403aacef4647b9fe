"""`python -m groundswell_operator run`: the operator; `… bridge`: what turns records into the objects that it acts upon; `… plan`: what a
policy would do about an event."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from groundswell_operator import running
from groundswell_operator.bridge import consuming
from groundswell_operator.rehearsing import command
from groundswell_operator.settings import SettingMissing, Settings

PROCESSES = {"run": running.run, "bridge": consuming.run}


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m groundswell_operator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="the operator")
    commands.add_parser("bridge", help="from records to the objects that it acts upon")
    command.add(commands.add_parser("plan", help=command.__doc__, description=command.__doc__))
    asked = parser.parse_args()
    if asked.command == "plan":
        return command.run(asked)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return asyncio.run(PROCESSES[asked.command](Settings.of()))
    except SettingMissing as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
