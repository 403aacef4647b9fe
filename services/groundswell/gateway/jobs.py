"""What the door does from time to time."""

import asyncio

from groundswell.gateway.service.answers import Answers

SWEEP_S = 5.0


async def sweep(answers: Answers) -> None:
    """Frees the memory of answers that have ended, until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_S)
        answers.sweep()
