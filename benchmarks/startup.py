"""`make up` on a machine with warm caches: until everything is healthy, and what it then takes of memory."""

import tempfile
import time
from pathlib import Path

from benchmarks.result import Result
from loadtests.platform.installation import Installation

SECONDS_MAX, MEMORY_MB_MAX = 30.0, 2_560


async def run() -> Result:
    """The second start of a home; the reference is its first, which also formats and migrates."""
    with tempfile.TemporaryDirectory(prefix="groundswell-bench-") as folder:
        installation = Installation(Path(folder) / "home")
        first_s = await _up(installation)
        await installation.down()
        again_s = await _up(installation)
        memory_mb = sum(installation.memory_bytes().values()) / 2**20
        await installation.down()
    return Result(
        name="startup",
        value=again_s,
        unit="s",
        reference="the first start of the same home",
        reference_value=first_s,
        bound=SECONDS_MAX,
        bound_on_value=True,
        at_most=True,
        others_hold=memory_mb <= MEMORY_MB_MAX,
        details={"memory_mb": round(memory_mb), "memory_mb_max": MEMORY_MB_MAX, "topology": "each"},
    )


async def _up(installation: Installation) -> float:
    began_s = time.monotonic()
    await installation.up("each", port=0)
    return time.monotonic() - began_s
