"""Requests that a test makes under an account of the operator's, as its process would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from groundswell_operator.applying import connecting
from groundswell_operator.applying.requests import Pace, Requests
from tests.cluster.operating import Operated


@asynccontextmanager
async def asking_as(place: Operated, account: str) -> AsyncIterator[Requests]:
    """At a pace of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(place.kubeconfigs[account]))
        async with connecting.session("in-test") as session:
            yield Requests(session, Pace())
