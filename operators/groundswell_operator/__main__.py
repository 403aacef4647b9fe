"""`python -m groundswell_operator run`: the operator; `… bridge`: what turns records into the objects that it acts upon; `… release`:
what gives back all that is raised before both are taken away."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from groundswell_operator import releasing, running
from groundswell_operator.bridge import consuming
from groundswell_operator.settings import SettingMissing, Settings

PROCESSES = {"run": running.run, "bridge": consuming.run, "release": releasing.run}


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m groundswell_operator", description=__doc__)
    parser.add_argument("process", choices=list(PROCESSES), help="which of them")
    asked = parser.parse_args()
    # The first process of a container has no handler but its own: an operator that waits for the Lease would have to be killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = Settings.of()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        return asyncio.run(PROCESSES[asked.process](settings))
    except SettingMissing as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
