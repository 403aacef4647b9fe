"""The module `writer` in a process of its own: answers at once, and stores from when the file GO is there.

Its rollups do not run; answers come from the raw rows.
"""

import asyncio
import os
import sys
from pathlib import Path

from groundswell.analytics.module.writer import writer
from groundswell.kernel import rpc
from groundswell.kernel.resources import Resources


async def main(address: str, go: str) -> None:
    async with (
        Resources.open(os.environ) as resources,
        writer(resources) as module,
        rpc.serve(module.servicers, address, resources.internal_key, resources.verifier()),
    ):
        while not Path(go).exists():
            await asyncio.sleep(0.02)
        await module.tasks["store"]()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
