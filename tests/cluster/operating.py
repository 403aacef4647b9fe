"""An operator in a namespace of the tests' cluster, as the chart runs it: a process with a service account and a Role of the chart."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from groundswell.engines import ports
from tests.cluster.chart import render
from tests.cluster.control_plane.api import Api, Object, Refused, until
from tests.cluster.control_plane.handle import ROOT, ControlPlane
from tests.cluster.objects import deployment, pod

CRDS = ROOT / "operators" / "groundswell_operator" / "crds"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
ACCOUNT = "groundswell-operator"
GROUP = "groundswell.dev/v1alpha1"
OWN = {"viralspikes", "viralspikepolicies", "events", "leases"}
"""What the operator may write without touching what is others'."""
WRITING = {"create", "update", "patch", "delete", "deletecollection"}
BRIDGE = "groundswell-bridge"
QUICK = {"quietPeriod": "1s", "stepInterval": "1s", "minHold": "1s"}


@dataclass
class Process:
    """A running operator."""

    identity: str
    popen: subprocess.Popen[bytes]
    port: int
    log: Path

    def kill(self) -> None:
        """As the kernel would, for want of memory."""
        self.popen.kill()
        self.popen.wait()

    def freeze(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.popen.send_signal(signal.SIGCONT)


@dataclass
class Operated:
    """A namespace with targets, in which operators run."""

    plane: ControlPlane
    admin: Api
    namespace: str
    folder: Path
    kubeconfigs: dict[str, Path] = field(default_factory=dict)
    """By account."""
    processes: list[Process] = field(default_factory=list)

    def path(self, group: str, plural: str, *rest: str) -> str:
        root = f"/api/{group}" if group == "v1" else f"/apis/{group}"
        return "/".join([f"{root}/namespaces/{self.namespace}/{plural}", *rest])

    async def admit(self, account: str) -> None:
        """Lets processes be started under an account, by a token like that of its pods."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = await self.admin.create(self.path("v1", "serviceaccounts", account, "token"), asked)
        file = self.folder / f"{account}.kubeconfig"
        self.kubeconfigs[account] = _kubeconfig(self.plane, self.namespace, file, str(answer["status"]["token"]))

    @property
    def spikes(self) -> str:
        return self.path(GROUP, "viralspikes")

    @property
    def policies(self) -> str:
        return self.path(GROUP, "viralspikepolicies")

    def autoscaler(self, name: str) -> str:
        return self.path("autoscaling/v2", "horizontalpodautoscalers", name)

    def deployment(self, name: str) -> str:
        return self.path("apps/v1", "deployments", name)

    def start(
        self, identity: str, *words: str, account: str = ACCOUNT, environment: Mapping[str, str] | None = None
    ) -> Process:
        """A process of the operator; `words` are for the interpreter."""
        port, log = ports.draw(1)[0], self.folder / f"{identity}.log"
        own = {
            "KUBECONFIG": str(self.kubeconfigs[account]),
            "GROUNDSWELL_NAMESPACE": self.namespace,
            "GROUNDSWELL_IDENTITY": identity,
            "GROUNDSWELL_HEALTH_BIND": "127.0.0.1",
            "GROUNDSWELL_HEALTH_PORT": str(port),
            **(environment or {}),
        }
        with log.open("ab") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", *(words or ("groundswell_operator", "run"))],
                cwd=ROOT,
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        made = Process(identity, popen, port, log)
        self.processes.append(made)
        return made

    async def leader(self) -> str:
        """Who holds the Lease; empty when nobody does."""
        try:
            lease = await self.admin.get(self.path("coordination.k8s.io/v1", "leases", "groundswell-operator"))
        except Refused:
            return ""
        return str(lease["spec"].get("holderIdentity", ""))

    async def leads(self, process: Process) -> None:
        """Returns once a process leads."""

        async def holds() -> bool:
            assert process.popen.poll() is None, process.log.read_text()
            return await self.leader() == process.identity

        await until(holds)

    async def waits(self, process: Process) -> None:
        """Returns once a process has seen that another one leads."""

        async def looked() -> bool:
            return any(
                each.get("objectRef", {}).get("resource") == "leases"
                and each["objectRef"].get("namespace") == self.namespace
                and each.get("userAgent") == f"groundswell-operator/{process.identity}"
                for each in self.plane.audit(self.namespace)
            )

        await until(looked)

    async def forget_leader(self) -> None:
        """The Lease of a process that was killed, gone: what is asked is not how long it is waited for."""
        await self.admin.delete(self.path("coordination.k8s.io/v1", "leases", "groundswell-operator"))

    def stateful_set(self, name: str) -> str:
        return self.path("apps/v1", "statefulsets", name)

    async def readers_of_a_log(self, name: str, replicas: int, *, partitions: str, cpu: str = "0") -> None:
        """A StatefulSet like those of the chart, all of its pods ready, and its autoscaler; they read so many partitions."""
        made = deployment(name, replicas, pod())
        made["metadata"]["annotations"] = {"groundswell.dev/partitions": partitions}
        made["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
        made["spec"] |= {"serviceName": name, "podManagementPolicy": "Parallel"}
        await self.admin.create(self.path("apps/v1", "statefulsets"), made)
        governed = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name}
        await self.helm_sets(name, {"scaleTargetRef": governed, "minReplicas": replicas, "maxReplicas": 20})
        await until(lambda: self.ready(name, replicas, self.stateful_set(name)))

    async def target(
        self,
        name: str,
        replicas: int,
        *,
        scaler: Object | None = None,
        delay: str = "1s",
        cpu: str = "0",
        patience_s: float = 30.0,
    ) -> None:
        """A Deployment whose pods ask for `cpu` and are ready after `delay`, all of them ready; `scaler` is the spec of its autoscaler."""
        made = deployment(name, replicas, pod())
        made["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
        made["spec"]["template"]["metadata"]["annotations"] = {"pod-ready.stage.kwok.x-k8s.io/delay": delay}
        await self.admin.create(self.path("apps/v1", "deployments"), made)
        if scaler is not None:
            await self.helm_sets(name, scaler)
        await until(lambda: self.ready(name, replicas), patience_s)

    async def helm_sets(self, name: str, spec: Object) -> None:
        """What `helm upgrade` does to an autoscaler, which is the Deployment's of its name unless `spec` says otherwise."""
        spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, **spec}
        value = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}}
        await self.admin.patch(
            self.autoscaler(name), {**value, "spec": spec}, "apply", fieldManager="helm", force="true"
        )

    async def ready(self, name: str, replicas: int, path: str = "") -> bool:
        """Whether so many pods of a Deployment, or of what is at `path`, are ready, and no more are there."""
        status = (await self.admin.get(path or self.deployment(name)))["status"]
        return bool(status.get("readyReplicas") == status.get("replicas") == replicas)

    async def bounds(self, name: str) -> tuple[int, int]:
        spec = (await self.admin.get(self.autoscaler(name)))["spec"]
        return spec["minReplicas"], spec["maxReplicas"]

    async def floor_managers(self, name: str) -> set[str]:
        """Who has set the floor of an autoscaler to what it is."""
        fields = (await self.admin.get(self.autoscaler(name)))["metadata"]["managedFields"]
        return {each["manager"] for each in fields if "f:minReplicas" in each["fieldsV1"].get("f:spec", {})}

    async def policy(self, name: str = "default", **spec: object) -> Object:
        """A policy that enforces what `spec` says."""
        value = {"apiVersion": GROUP, "kind": "ViralSpikePolicy", "metadata": {"name": name}}
        return await self.admin.create(self.policies, {**value, "spec": {"mode": "Enforce", **spec}})

    async def spike(self, name: str, policy: Object, level: str = "VIRAL", views: int = 1_000_000) -> str:
        """A spike that was just detected; its path."""
        await self.admin.create(self.spikes, spike(name, policy, views, level))
        return f"{self.spikes}/{name}"

    async def says(self, path: str, kind: str, reason: str, timeout_s: float = 30.0) -> Object:
        """A condition of a spike or a policy once it has a reason."""

        async def said() -> Object:
            found = (await self.admin.get(path)).get("status", {}).get("conditions", [])
            return next((each for each in found if (each["type"], each["reason"]) == (kind, reason)), {})

        return await until(said, timeout_s)

    async def phase(self, path: str) -> str:
        return str((await self.admin.get(path)).get("status", {}).get("phase", ""))

    async def comes_to(self, path: str, phase: str, timeout_s: float = 30.0) -> Object:
        """The status of a spike once it is in a phase."""

        async def there() -> Object:
            status: Object = (await self.admin.get(path)).get("status", {})
            return status if status.get("phase") == phase else {}

        try:
            return await until(there, timeout_s)
        except TimeoutError as error:
            said = [each.log.read_text()[-3_000:] for each in self.processes]
            raise AssertionError(f"{await self.admin.get(path)} and {said}") from error

    async def gone(self, path: str) -> bool:
        try:
            await self.admin.get(path)
        except Refused as refused:
            return refused.status == 404
        return False

    def writes(self, identity: str = "") -> list[Object]:
        """What operators wrote in the namespace and the API server took, as audit events; `identity` is one operator's."""
        agent = f"groundswell-operator/{identity}" if identity else ""
        ours = (each for each in self._taken() if each["user"]["username"].endswith(f":{ACCOUNT}"))
        return [each for each in ours if agent in each.get("userAgent", "")]

    def foreign(self, identity: str = "") -> list[str]:
        """What of that touched what is not the operator's own, as `resource/name`."""
        found = [each["objectRef"] for each in self.writes(identity) if each["objectRef"]["resource"] not in OWN]
        return [f"{each['resource']}/{each['name']}" for each in found]

    def scalings(self) -> list[Object]:
        """Every write to the scale of a Deployment that the API server took, in the order of its answers, as audit events."""
        of_deployments = (each for each in self._taken() if each["objectRef"]["resource"] == "deployments")
        return [each for each in of_deployments if each["objectRef"].get("subresource") == "scale"]

    def _taken(self) -> list[Object]:
        """Whoever wrote it."""
        return [
            each
            for each in self.plane.audit(self.namespace)
            if each["verb"] in WRITING
            and each.get("objectRef", {}).get("namespace") == self.namespace
            and each["responseStatus"]["code"] < 300
        ]

    def refusals(self) -> list[str]:
        """What the Roles of operator and bridge did not let them do."""
        return [
            f"{each['verb']} {each['requestURI']}"
            for each in self.plane.audit(self.namespace)
            if each["user"]["username"].startswith(f"system:serviceaccount:{self.namespace}:groundswell-")
            and each["responseStatus"]["code"] == 403
        ]


def spike(name: str, policy: Object, views: int = 1_000_000, level: str = "VIRAL") -> Object:
    """A spike that was just detected, as the bridge makes it."""
    metadata = policy["metadata"]
    owner = {"apiVersion": GROUP, "kind": "ViralSpikePolicy", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": GROUP,
        "kind": "ViralSpike",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {
            "spikeId": "00000000000000aa",
            "tenant": "acme",
            "kind": "link",
            "item": "links/7",
            "level": level,
            "detectedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "evidence": {"projectedViewsHour": views},
            "kafka": {"partition": 0, "offset": 0},
        },
    }


def scales(name: str, multiplier: float, order: int = 0, most: int = 300, kind: str = "Deployment") -> Object:
    """An action."""
    target = {"kind": kind, "name": name}
    return {"name": name, "order": order, "scale": {"targetRef": target, "multiplier": multiplier, "max": most}}


def install_kinds(plane: ControlPlane) -> None:
    """Has the API server serve the operator's two kinds."""
    plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    names = [f"crd/{file.stem}.groundswell.dev" for file in CRDS.iterdir()]
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)


@asynccontextmanager
async def own_namespace(admin: Api) -> AsyncIterator[str]:
    """The name of a new namespace that holds pods to the Restricted standard; its objects go with it."""
    name = f"test-{secrets.token_hex(4)}"
    path = f"/api/v1/namespaces/{name}"
    await admin.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": RESTRICTED}})
    await until(lambda: admin.items(f"{path}/serviceaccounts"))  # pods are refused until theirs is there
    try:
        yield name
    finally:
        with suppress(Refused):  # a test has deleted it
            await admin.delete(path)


@asynccontextmanager
async def operated(plane: ControlPlane, admin: Api, namespace: str, folder: Path) -> AsyncIterator[Operated]:
    """A namespace with nothing of the chart in it but the accounts and rights of operator and bridge.

    Policies may change the ConfigMap `flags` and tell the address in the Secret `hook`.
    """
    named = render({"operator": {"configMaps": ["flags"], "webhooks": {"secrets": ["hook"]}}})
    for part in ("operator", "bridge"):
        await grant(admin, namespace, f"groundswell-{part}", named.rights(part))
    async with operating(plane, admin, namespace, folder) as made:
        yield made


@asynccontextmanager
async def operating(plane: ControlPlane, admin: Api, namespace: str, folder: Path) -> AsyncIterator[Operated]:
    """A namespace that has the accounts, such as one with a release in it; operators that were started end with the context."""
    made = Operated(plane, admin, namespace, folder)
    for account in (ACCOUNT, BRIDGE):
        await made.admit(account)
    try:
        yield made
    finally:
        await asyncio.to_thread(_end, made)


def _end(made: Operated) -> None:
    for process in made.processes:
        if process.popen.poll() is None:
            process.kill()


async def grant(admin: Api, namespace: str, name: str, rules: list[Object]) -> None:
    """A new account that may do what the rules say, in the namespace."""
    core, roles = f"/api/v1/namespaces/{namespace}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    await admin.create(f"{core}/serviceaccounts", {"metadata": {"name": name}})
    await admin.create(f"{roles}/roles", {"metadata": {"name": name}, "rules": rules})
    await admin.create(
        f"{roles}/rolebindings",
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )


def _kubeconfig(plane: ControlPlane, namespace: str, file: Path, token: str) -> Path:
    return kubeconfig(file, plane.address, plane.folder / "keys" / "authority.crt", namespace, token)


def kubeconfig(file: Path, server: str, authority: Path, namespace: str, token: str) -> Path:
    """A file that says where an API server is, and who asks."""
    file.touch(mode=0o600)
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "operator",
                "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(authority)}}],
                "users": [{"name": "operator", "user": {"token": token}}],
                "contexts": [
                    {"name": "operator", "context": {"cluster": "test", "user": "operator", "namespace": namespace}}
                ],
            }
        )
    )
    return file
