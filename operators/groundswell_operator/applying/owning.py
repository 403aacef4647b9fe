"""With whom goes what a process makes for itself: its own Deployment, so that an uninstall leaves no Lease behind.

A cluster deletes what refers to owners that are all gone, also what was made anew after its owner had gone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from groundswell_operator.applying.errors import Refused
from groundswell_operator.applying.requests import Asking
from groundswell_operator.policies import Object

log = logging.getLogger(__name__)


class Owner:
    """The Deployment of a process; `deployment` is empty where it has none."""

    def __init__(self, requests: Asking, namespace: str, deployment: str) -> None:
        self._requests, self._deployment = requests, deployment
        self._path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}"
        self._references: Sequence[Object] = []

    async def references(self) -> Sequence[Object]:
        """For the metadata of what is to go with it; none where it is not there, or may not be read at this moment. Raises `Away` and
        `Conflict`."""
        if not self._references and self._deployment:
            self._references = await self._read()
        return self._references

    async def _read(self) -> Sequence[Object]:
        try:
            metadata = (await self._requests.get(self._path))["metadata"]
        except Refused as refused:
            log.warning("the Lease would stay when the release goes, since its owner cannot be read: %s", refused)
            return []
        return [{"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}]
