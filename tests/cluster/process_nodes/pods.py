"""One pod on a process node: from the moment it is bound to its removal."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from tests.cluster.control_plane.api import Api, Object, Refused
from tests.cluster.process_nodes.addresses import PodAddresses
from tests.cluster.process_nodes.containers import Container, Order, refuse_unknown
from tests.cluster.process_nodes.environment import resolved
from tests.cluster.process_nodes.errors import NotThere, Unsupported
from tests.cluster.process_nodes.images import FolderImage
from tests.cluster.process_nodes.names import Services
from tests.cluster.process_nodes.states import PodConditions, now, phase_of
from tests.cluster.process_nodes.translation import Translation
from tests.cluster.process_nodes.volumes import KUBECONFIG, Volumes

log = logging.getLogger(__name__)

RETRY_S = 0.5
NOT_FOUND, CONFLICT = 404, 409


@dataclass(frozen=True)
class House:
    """What all pods of an agent share."""

    api: Api
    images: Mapping[str, FolderImage]
    volumes: Volumes
    addresses: PodAddresses
    services: Services
    name_server: str
    """`host:port`."""


class PodRun:
    """Runs one pod. `update` and `vanish` are called when the API server says so."""

    def __init__(self, house: House, pod: Object) -> None:
        self._house, self._pod = house, pod
        metadata = pod["metadata"]
        self.uid = str(metadata["uid"])
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._address, self._since = house.addresses.draw(), now()
        self._conditions = PodConditions()
        self._failure: tuple[str, str] | None = None
        self._is_over = self._is_gone = False
        self._changed, self._going = asyncio.Event(), asyncio.Event()
        self._first: list[Container] = []
        self._main: list[Container] = []

    def update(self, pod: Object) -> None:
        self._pod = pod
        if "deletionTimestamp" in pod["metadata"]:
            self._going.set()

    def vanish(self) -> None:
        """It was deleted without grace."""
        self._is_gone = True
        self.kill()
        self._going.set()

    def kill(self) -> None:
        """Ends its processes at once."""
        for each in self._all():
            each.kill()

    async def run(self) -> None:
        """Until it is removed from the API server."""
        telling, working = asyncio.create_task(self._tell()), asyncio.create_task(self._work())
        going = asyncio.create_task(self._going.wait())
        try:
            limit_s = self._pod["spec"].get("activeDeadlineSeconds")
            done, _ = await asyncio.wait({working, going}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                await self._overtime()
            await going
            await self._stop(self._pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        finally:
            await _cancelled(telling, working, going)
            self.kill()
        await self._remove()

    def _all(self) -> list[Container]:
        return [*self._first, *self._main]

    async def _work(self) -> None:
        """Runs its containers until they have ended for good."""
        try:
            await self._run_containers()
        except Unsupported as reason:
            self._failure = ("Unsupported", str(reason))
        except Exception as error:
            self._failure = ("ProcessNodeFailed", repr(error))
            raise
        finally:
            if self._failure:
                log.error("%s fails: %s: %s", self._path, *self._failure)
            self._is_over = True
            self._note()

    async def _run_containers(self) -> None:
        self._refuse_unknown()
        spec, folders = self._pod["spec"], await self._folders()
        policy = spec.get("restartPolicy", "Always")
        self._first = [self._container(each, folders) for each in spec.get("initContainers", [])]
        self._main = [self._container(each, folders) for each in spec["containers"]]
        self._note()
        for each in self._first:
            if await each.run("Never" if policy == "Never" else "OnFailure"):
                self._failure = ("Init", "an init container failed")
                return
        self._conditions.put("Initialized", True)
        await asyncio.gather(*(each.run(policy) for each in self._main))

    def _refuse_unknown(self) -> None:
        spec = self._pod["spec"]
        if spec.get("readinessGates"):
            raise Unsupported("the pod has readiness gates")
        for each in (*spec.get("initContainers", []), *spec["containers"]):
            refuse_unknown(each)

    async def _folders(self) -> dict[str, Path]:
        while True:
            try:
                return await self._house.volumes.made(self._pod)
            except (NotThere, Refused, httpx.HTTPError) as missing:
                log.info("%s waits: %s", self._path, missing)
            await asyncio.sleep(RETRY_S)

    def _container(self, told: Object, folders: Mapping[str, Path]) -> Container:
        image = self._house.images.get(told["image"])
        if image is None:
            raise Unsupported(f"there is no image {told['image']}; there are: {', '.join(self._house.images)}")
        mounts = {each["mountPath"].rstrip("/"): folders[each["name"]] for each in told.get("volumeMounts", [])}
        translation = Translation(mounts, self._address, self._house.services, self._house.name_server)
        variables = partial(self._variables, told, mounts)
        return Container(
            Order(self._pod, told, image, translation, self._house.volumes.of(self._pod) / "logs", variables),
            self._note,
        )

    async def _variables(self, told: Object, mounts: Mapping[str, Path]) -> dict[str, str]:
        pod = {**self._pod, "status": {**self._pod.get("status", {}), "podIP": self._address}}
        found = await resolved(self._house.api, pod, told)
        tokens = [f"{mount}/{KUBECONFIG}" for mount, place in mounts.items() if (place / KUBECONFIG).exists()]
        return {"KUBECONFIG": tokens[0], **found} if tokens else found

    async def _overtime(self) -> None:
        """Its own deadline is over."""
        self._failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        await self._stop(self._pod["spec"].get("terminationGracePeriodSeconds", 30))

    async def _stop(self, grace_s: float) -> None:
        deadline_s = time.monotonic() + grace_s
        await asyncio.gather(*(each.stop(deadline_s) for each in self._all()))

    def _note(self) -> None:
        self._changed.set()

    async def _tell(self) -> None:
        """Writes the status whenever it has changed."""
        self._note()
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._house.api.patch(f"{self._path}/status", {"status": self._status()}, "strategic")
            except (Refused, httpx.HTTPError) as error:
                if isinstance(error, Refused) and error.status == NOT_FOUND:
                    continue
                log.info("%s: its status is told again: %r", self._path, error)
                await asyncio.sleep(RETRY_S)
                self._note()

    def _status(self) -> Object:
        states = [each.state for each in self._main]
        has_begun = any(each.is_running or each.restarts or each.exit_code is not None for each in states)
        phase = phase_of(states, has_begun=has_begun, is_over=self._is_over)
        ready = bool(states) and all(each.is_ready for each in states) and not self._is_over
        self._conditions.put("PodReadyToStartContainers", bool(states))
        for name in ("ContainersReady", "Ready"):
            self._conditions.put(name, ready, "PodCompleted" if phase == "Succeeded" else "")
        told: Object = {
            "phase": phase,
            "startTime": self._since,
            "hostIP": "127.0.0.1",
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "conditions": self._conditions.told(),
            "containerStatuses": [each.state.told(each.order.told) for each in self._main],
            "initContainerStatuses": [each.state.told(each.order.told) for each in self._first],
        }
        if self._failure:
            told |= {"phase": "Failed", "reason": self._failure[0], "message": self._failure[1]}
        return told

    async def _remove(self) -> None:
        """Takes it out of the API server, this very pod and none of its name that came since."""
        preconditions = {"uid": self.uid}
        while not self._is_gone:
            try:
                await self._house.api.delete(self._path, {"gracePeriodSeconds": 0, "preconditions": preconditions})
            except Refused as refused:
                if refused.status in (NOT_FOUND, CONFLICT):
                    return
                log.info("%s is not removed yet: %s", self._path, refused)
            except httpx.HTTPError as error:
                log.info("%s is not removed yet: %r", self._path, error)
            else:
                return
            await asyncio.sleep(RETRY_S)


async def _cancelled(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
