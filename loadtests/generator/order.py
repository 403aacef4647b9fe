"""What the generator is asked to do, as a file in its folder; the plan lies beside it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

ORDER, PLAN, LOG = "order.json", "plan.npy", "acked.log"
LATE_MS = 250
"""An arrival handed over later than this after its moment is late by the generator's own fault."""
OFF_SHARE_MAX = 0.02
"""Late and unsent arrivals beyond this share make a run invalid."""
DRAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """One link as a visitor asks for it."""

    host: str
    path: str


@dataclass(frozen=True, slots=True)
class Order:
    """Where the plan's arrivals go, and the generator's bounds."""

    address: str
    port: int
    seed: int
    targets: tuple[Target, ...]
    connections_max: int = 256
    timeout_s: float = 10.0
    """A request without an answer for so long is unknown."""
    drain_s: float = DRAIN_S
    """After the last arrival's moment, arrivals that found no connection for so long stay unsent."""

    def save(self, folder: Path) -> None:
        (folder / ORDER).write_text(json.dumps(asdict(self), indent=1))


def load(folder: Path) -> Order:
    told = json.loads((folder / ORDER).read_text())
    return Order(**{**told, "targets": tuple(Target(**target) for target in told["targets"])})
