"""A release of the chart on process nodes: the real platform, with engines outside of the cluster, behind the chart's door."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.chart import FOLDER, RELEASE
from tests.cluster.control_plane.api import Api, Object, until
from tests.cluster.control_plane.handle import ControlPlane, ProgramFailed
from tests.cluster.process_nodes.handle import ProcessNodes

ADDRESSES = "engines"
"""The Secret of engines' addresses that hold passwords."""
HELM_S = 300
"""Helm's own, for who says none."""
CLICKHOUSE, POSTGRES = "clickhouse", "postgres"
WORKLOADS = {"gateway": "statefulsets", "analytics": "statefulsets", "writer": "statefulsets", "live": "statefulsets"}


@dataclass(frozen=True)
class Release:
    """One release; its namespace is its own."""

    plane: ControlPlane
    nodes: ProcessNodes
    admin: Api
    namespace: str
    folder: Path

    def path(self, group: str, plural: str, *rest: str) -> str:
        root = f"/api/{group}" if group == "v1" else f"/apis/{group}"
        return "/".join([f"{root}/namespaces/{self.namespace}/{plural}", *rest])

    async def install(self, engines: Mapping[str, str], chart: Path = FOLDER) -> None:
        """Installs a chart and waits until every process has its least number of pods, all of them ready; raises `ProgramFailed`."""
        secret = {POSTGRES: engines["POSTGRES_DSN"], CLICKHOUSE: engines["CLICKHOUSE_DSN"]}
        await self.admin.create(self.path("v1", "secrets"), {"metadata": {"name": ADDRESSES}, "stringData": secret})
        values = {
            "engines": {
                "kafka": {"external": {"address": engines["KAFKA_BOOTSTRAP_SERVERS"]}},
                "valkey": {"external": {"address": engines["REDIS_URL"]}},
                **{name: {"external": {"secret": ADDRESSES, "key": name}} for name in (POSTGRES, CLICKHOUSE)},
            },
            "public": {"trustedProxies": ["127.0.0.0/8"], "service": {"type": "NodePort"}},
        }
        (self.folder / "values.json").write_text(json.dumps(values))
        await self._release("install", chart)
        await self.until_all_ready()  # Helm waits for the first pod of each, and autoscalers bring the others

    async def upgrade(self) -> None:
        """Brings it to this version with the values of the install, and waits until every pod is ready."""
        await self._release("upgrade", FOLDER)

    async def install_anew(self) -> None:
        """Uninstalls it, which keeps its keys and volumes, and installs this version upon those with the values of the first install."""
        await self.helm("uninstall", RELEASE, "--wait", "--timeout", f"{HELM_S}s")
        await self._release("install", FOLDER)
        await self.until_all_ready()

    async def helm(self, *words: str) -> str:
        return await asyncio.to_thread(self.plane.helm, *words, "--namespace", self.namespace)

    async def url(self) -> str:
        """Where the public door is."""
        door = await self.admin.get(self.path("v1", "services", f"{RELEASE}-door"))
        return f"http://127.0.0.1:{door['spec']['ports'][0]['nodePort']}"

    async def key(self, name: str) -> str:
        """One of the platform's keys."""
        secret = await self.admin.get(self.path("v1", "secrets", f"{RELEASE}-keys"))
        return base64.b64decode(secret["data"][name]).decode()

    async def pods(self, process: str = "") -> list[Object]:
        """The pods of a process, or of all, without those of jobs."""
        selector = f"app.kubernetes.io/component={process}" if process else "app.kubernetes.io/component!=prepare"
        return await self.admin.items(self.path("v1", "pods"), labelSelector=selector)

    async def scale(self, process: str, replicas: int) -> None:
        """By the scale subresource, as the operator does; an autoscaler's floor is lifted or lowered before."""
        floor = self.path("autoscaling/v2", "horizontalpodautoscalers", f"{RELEASE}-{process}")
        await self.admin.patch(floor, {"spec": {"minReplicas": replicas}})
        plural = WORKLOADS.get(process, "deployments")
        path = self.path("apps/v1", plural, f"{RELEASE}-{process}", "scale")
        await self.admin.patch(path, {"spec": {"replicas": replicas}})

    async def until_ready(self, process: str, replicas: int) -> None:
        """Waits until there are so many pods of a process, ready all of them, and no other."""

        async def reached() -> bool:
            pods = await self.pods(process)
            return len(pods) == replicas and all(map(is_ready, pods))

        await until(reached, HELM_S)

    async def restart(self, process: str) -> None:
        """Replaces every pod of a process, and waits for that."""
        await asyncio.to_thread(self.plane.kubectl, "rollout", "restart", _workload(process), "-n", self.namespace)
        await self.until_rolled(process)

    async def until_rolled(self, process: str) -> None:
        """Waits until all pods of a process are of its newest template."""
        words = ("rollout", "status", _workload(process), f"--timeout={HELM_S}s", "-n", self.namespace)
        await asyncio.to_thread(self.plane.kubectl, *words)

    async def until_all_ready(self) -> None:
        """Waits until every workload has all the pods that it and its autoscaler want, and each is ready."""

        async def reached() -> bool:
            wanted: dict[str, int] = {}
            for plural in ("deployments", "statefulsets"):
                found = await self.admin.items(self.path("apps/v1", plural))
                wanted |= {each["metadata"]["name"]: each["spec"]["replicas"] for each in found}
            scalers = await self.admin.items(self.path("autoscaling/v2", "horizontalpodautoscalers"))
            floors = {each["metadata"]["name"]: each["spec"]["minReplicas"] for each in scalers}
            pods = await self.pods()
            complete = all(wanted[name] >= floor for name, floor in floors.items())
            return complete and len(pods) == sum(wanted.values()) and all(map(is_ready, pods))

        await until(reached, HELM_S)

    async def until_restarted(self, pod: Object) -> None:
        """Waits until the container of this very pod runs again, ready."""
        path, before = self.path("v1", "pods", pod["metadata"]["name"]), pod["status"]["containerStatuses"][0]

        async def reached() -> bool:
            now = await self.admin.get(path)
            assert now["metadata"]["uid"] == pod["metadata"]["uid"]
            return is_ready(now) and now["status"]["containerStatuses"][0]["restartCount"] > before["restartCount"]

        await until(reached, HELM_S)

    async def _release(self, verb: str, chart: Path) -> None:
        values = ("--values", str(self.folder / "values.json"))
        wait: Sequence[str] = ("--wait", "--wait-for-jobs", "--timeout", f"{HELM_S}s")
        try:
            await self.helm(verb, RELEASE, str(chart), *values, *wait)
        except ProgramFailed as failed:
            failed.add_note(await asyncio.to_thread(self.plane.kubectl, "get", "pods,events", "-n", self.namespace))
            raise


def is_ready(pod: Object) -> bool:
    """Whether it takes work, and was not told to go."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def _workload(process: str) -> str:
    return f"{WORKLOADS.get(process, 'deployments')}/{RELEASE}-{process}"


def pid_of(pod: Object) -> int:
    """The process that its one container is."""
    return int(pod["status"]["containerStatuses"][0]["containerID"].removeprefix("process://"))
