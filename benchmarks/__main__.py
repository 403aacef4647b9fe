"""`python -m benchmarks [NAME …]`: runs benchmarks, prints one JSON object a line, exits 1 where a bound is missed.

One that needs what is not there says so on stderr, and is no failure.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine

from benchmarks import creation, demo, doors, footprint, frames, queries, scale, startup
from benchmarks.result import Result, Skipped, save

BENCHMARKS: dict[str, Callable[[], Coroutine[object, object, Result]]] = {
    "redirect": doors.redirect,
    "near_cache": doors.near_cache,
    "unary": doors.unary,
    "frames": frames.run,
    "queries": queries.run,
    "creation": creation.run,
    "startup": startup.run,
    "demo": demo.run,
    "scale": scale.run,
    "operator": footprint.run,
}


def main(names: list[str]) -> int:
    """Returns the exit code."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"There is no benchmark called {unknown[0]!r}. There are: {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 3
    results = []
    for name in names or BENCHMARKS:
        try:
            result = asyncio.run(BENCHMARKS[name]())
        except Skipped as reason:
            print(f"{name} is skipped: {reason}", file=sys.stderr)
            continue
        save(result)
        results.append(result)
        print(json.dumps(result.machine()), flush=True)
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
