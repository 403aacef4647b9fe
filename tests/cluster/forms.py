"""In which form proofs run that may take long: reduced, or full with GROUNDSWELL_CLUSTER_FULL=1, as `make test-cluster` has it."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

FULL = os.environ.get("GROUNDSWELL_CLUSTER_FULL", "") == "1"


def form(reduced: T, full: T) -> T:
    """The one of the two that runs."""
    return full if FULL else reduced
