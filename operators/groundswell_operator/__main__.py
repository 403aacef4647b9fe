"""`python -m groundswell_operator run`: the operator; `… bridge`: what turns records into the objects that it acts upon."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from groundswell_operator import running
from groundswell_operator.bridge import consuming
from groundswell_operator.settings import SettingMissing, Settings

PROCESSES = {"run": running.run, "bridge": consuming.run}


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m groundswell_operator", description=__doc__)
    parser.add_argument("process", choices=list(PROCESSES), help="which of the two")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return asyncio.run(PROCESSES[asked.process](Settings.of()))
    except SettingMissing as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
