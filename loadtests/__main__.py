"""The command line: `python -m loadtests demo`, `python -m loadtests drill NAME`."""

import argparse
import sys

import httpx

from loadtests import demo
from loadtests.drills import run as drill
from loadtests.drills.spec import SpecInvalid
from loadtests.generator.child import GeneratorFailed
from loadtests.platform.installation import PlatformFailed

ERROR, INTERRUPTED = 3, 130


def main() -> int:
    """Runs one command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests", description="Load, faults and verdicts, from outside.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo.add_to(commands)
    drill.add_to(commands)
    options = parser.parse_args()
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (PlatformFailed, GeneratorFailed, SpecInvalid) as error:
        print(f"\n{error}", file=sys.stderr)
        return ERROR
    except httpx.HTTPError as error:
        print(f"\nThe platform does not answer ({error!r}). See: groundswell ps", file=sys.stderr)
        return ERROR
    return code


if __name__ == "__main__":
    sys.exit(main())
