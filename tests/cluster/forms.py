"""In which form proofs run that may take long: reduced, or full with GROUNDSWELL_CLUSTER_FULL=1, as `make test-cluster` has it."""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

T = TypeVar("T")

FULL = os.environ.get("GROUNDSWELL_CLUSTER_FULL", "") == "1"
SLOW = "they take long: `make test-cluster` runs them"
slow = pytest.mark.skipif(not FULL, reason=SLOW)
"""Marks a test that runs in the full form only; the end of a session names those that did not."""


def form(reduced: T, full: T) -> T:
    """The one of the two that runs."""
    return full if FULL else reduced
