"""What the API server is told of containers and pods, in its own terms."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.cluster.control_plane.api import Object


def now() -> str:
    """The time as the API server writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class ContainerState:
    """One container's state; what has ended is kept until the next end."""

    current: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Object = field(default_factory=dict)
    restarts: int = 0
    is_started: bool = False
    is_ready: bool = False
    pid: int = 0

    @property
    def is_running(self) -> bool:
        return "running" in self.current

    @property
    def exit_code(self) -> int | None:
        """None while it has not ended."""
        ended = self.current.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def waits(self, reason: str, message: str) -> None:
        self._turn({"waiting": {"reason": reason, "message": message}})

    def runs(self, pid: int) -> None:
        self._turn({"running": {"startedAt": now()}})
        self.pid = pid

    def started(self) -> None:
        self.is_started = True

    def judged(self, ready: bool) -> None:
        self.is_ready = ready

    def ended(self, code: int) -> None:
        code = code if code >= 0 else 128 - code
        began = self.current.get("running", {}).get("startedAt", now())
        reason = "Completed" if code == 0 else "Error"
        self._turn({"terminated": {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now()}})

    def told(self, container: Object) -> Object:
        """Its ContainerStatus."""
        name = container["name"]
        return {
            "name": name,
            "image": container["image"],
            "imageID": "",
            "containerID": f"process://{self.pid}" if self.pid else "",
            "ready": self.is_ready,
            "started": self.is_started,
            "restartCount": self.restarts,
            "state": self.current,
            "lastState": self.last,
        }

    def _turn(self, state: Object) -> None:
        """To another state; nothing is ready or started in it at first."""
        if "terminated" in self.current:
            self.last = self.current
        self.current, self.is_started, self.is_ready = state, False, False


@dataclass
class PodConditions:
    """The conditions of a pod that its node tells; each keeps the time of its last change."""

    _told: dict[str, Object] = field(default_factory=dict)

    def put(self, name: str, holds: bool, reason: str = "") -> None:
        status = "True" if holds else "False"
        if self._told.get(name, {}).get("status") != status:
            self._told[name] = {"type": name, "status": status, "lastTransitionTime": now()}
        self._told[name] |= {"reason": reason or None}

    def told(self) -> list[Object]:
        return [*self._told.values()]


def phase_of(states: Sequence[ContainerState], *, has_begun: bool, is_over: bool) -> str:
    """The phase of a pod of these containers."""
    if is_over:
        return "Failed" if any(each.exit_code for each in states) else "Succeeded"
    return "Running" if has_begun else "Pending"
