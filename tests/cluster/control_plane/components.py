"""The processes of a control plane: how each is started, and how it is asked whether it is ready."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from groundswell.engines.children import Launch
from groundswell.engines.engine import Say
from tests.cluster.control_plane.certificates import ADMIN_GROUP, Authority, Pair, signing_key
from tests.cluster.tools.families import Shelf

_HERE = Path(__file__).parent
HEALTH_S_MAX = 2.0
GRACE_S = 5.0
AUDIT_MB_MAX = 100_000
"""Of the audit log, before it is begun anew: never. Unset, it is at 100 MB, and what tests count in it would be gone."""
RAISED: Mapping[str, str | int] = {"kube-api-qps": 200, "kube-api-burst": 400}
"""Ten times the controller manager's own rate."""
CONTROLLERS: Mapping[str, Mapping[str, str | int]] = {
    "hastened": {**RAISED, "horizontal-pod-autoscaler-sync-period": "5s"},
    "raised": RAISED,
    "default": {},
}
"""How quick the controller manager is. Hastened, autoscalers look at a third of their own pause: tests wait for objects, not for rates."""
PROCESS_NODE = "groundswell.dev/process-node"
"""The label of nodes that are not simulated: processes run on them (`tests.cluster.process_nodes`)."""
USERS = {"controller-manager": "system:kube-controller-manager", "scheduler": "system:kube-scheduler", "kwok": "kwok"}


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the processes listen on loopback."""

    etcd: int
    etcd_peers: int
    api: int
    controllers: int
    scheduler: int
    kwok: int


@dataclass(frozen=True)
class Component:
    """One process, in the form in which engines are started."""

    name: str
    program: Path
    folder: Path
    options: Mapping[str, str | int | Path]
    address: str
    """Its URL."""
    health: str
    """The path that answers 200 once it is ready."""
    identity: ssl.SSLContext | None = None
    """Who asks; None without TLS."""
    variable: str = field(default="", init=False)
    """Nothing in the environment replaces it."""

    def prepare(self, say: Say) -> None:
        """Nothing to do: its files were written when it was described."""

    def launch(self) -> Launch:
        words = [f"--{name}={value}" for name, value in self.options.items()]
        log = self.folder / "logs" / f"{self.name}.log"
        return Launch([str(self.program), *words], log, self.folder, grace_s=GRACE_S)

    async def healthy(self) -> bool:
        try:
            async with httpx.AsyncClient(verify=self.identity or False, timeout=HEALTH_S_MAX) as client:
                return (await client.get(self.address + self.health)).is_success
        except httpx.TransportError:
            return False


class Plan:
    """All files and processes of one control plane in a folder."""

    def __init__(self, folder: Path, programs: Shelf, ports: Ports, controllers: str = "hastened") -> None:
        """Writes certificates, keys and kubeconfigs; `controllers` is one of `CONTROLLERS`."""
        self._folder, self._programs, self._ports, self._controllers = folder, programs, ports, controllers
        self.address = f"https://127.0.0.1:{ports.api}"
        keys = folder / "keys"
        keys.mkdir(mode=0o700)
        self._authority, self._front = Authority(keys, "authority"), Authority(keys, "front-authority")
        self._server = self._authority.server("server")
        self._front_client = self._front.client("front-proxy-client")
        self._tokens_private, self._tokens_public = signing_key(keys, "tokens")
        self._admin = self._authority.client("admin", [ADMIN_GROUP])
        self.kubeconfig = self._kubeconfig("admin", self._admin)
        self._kubeconfigs = {name: self._kubeconfig(name, self._authority.client(user)) for name, user in USERS.items()}
        self.audit_log = folder / "audit.log"
        self.authority = self._authority.pair.certificate

    def identity(self) -> ssl.SSLContext:
        """The administrator's."""
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self._admin.certificate, self._admin.key)
        return context

    def etcd(self) -> Component:
        url, peers = f"http://127.0.0.1:{self._ports.etcd}", f"http://127.0.0.1:{self._ports.etcd_peers}"
        options: dict[str, str | int | Path] = {
            "data-dir": self._folder / "etcd",
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"default={peers}",
            "unsafe-no-fsync": "true",  # it lives no longer than its folder
            "log-level": "warn",
        }
        return Component("etcd", self._programs.path("etcd"), self._folder, options, url, "/readyz")

    def api_server(self) -> Component:
        """With RBAC and everything of admission that is on by default."""
        options: dict[str, str | int | Path] = {
            "etcd-servers": f"http://127.0.0.1:{self._ports.etcd}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": self._ports.api,
            "tls-cert-file": self._server.certificate,
            "tls-private-key-file": self._server.key,
            "client-ca-file": self.authority,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self._tokens_public,
            "service-account-signing-key-file": self._tokens_private,
            "service-cluster-ip-range": "10.96.0.0/16",
            "endpoint-reconciler-type": "none",  # no address of this machine is another's
            "allow-privileged": "true",  # what a pod may do is for admission to say
            "profiling": "false",
            "audit-log-path": self.audit_log,
            "audit-policy-file": _HERE / "audit.yaml",
            "audit-log-mode": "blocking",  # who has an answer finds the request in the log
            "audit-log-maxsize": AUDIT_MB_MAX,
            "requestheader-client-ca-file": self._front.pair.certificate,
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": self._front_client.certificate,
            "proxy-client-key-file": self._front_client.key,
        }
        return self._component("api-server", "kube-apiserver", options, self._ports.api, "/readyz")

    def controller_manager(self) -> Component:
        options: dict[str, str | int | Path] = {
            **self._follower("controller-manager", self._ports.controllers),
            "service-account-private-key-file": self._tokens_private,
            "root-ca-file": self.authority,
            "use-service-account-credentials": "true",
            "cluster-signing-cert-file": self.authority,
            "cluster-signing-key-file": self._authority.pair.key,
            # A node that is not heard of has its pods called not ready, which the simulation never takes back: an API server may be silent
            # for a minute without that.
            "node-monitor-grace-period": "300s",
            **CONTROLLERS[self._controllers],
        }
        return self._component(
            "controller-manager", "kube-controller-manager", options, self._ports.controllers, "/healthz"
        )

    def scheduler(self) -> Component:
        options = self._follower("scheduler", self._ports.scheduler)
        return self._component("scheduler", "kube-scheduler", options, self._ports.scheduler, "/readyz")

    def kwok(self) -> Component:
        """Needs its role first."""
        options: dict[str, str | int | Path] = {
            "kubeconfig": self._kubeconfigs["kwok"],
            "manage-nodes-with-label-selector": f"!{PROCESS_NODE}",
            "config": _HERE / "stages.yaml",
            "cidr": "10.1.0.0/16",
            "node-ip": "127.0.0.1",
            "node-lease-duration-seconds": 40,
            "server-address": f"127.0.0.1:{self._ports.kwok}",
        }
        url = f"http://127.0.0.1:{self._ports.kwok}"
        return Component("kwok", self._programs.path("kwok"), self._folder, options, url, "/healthz")

    def _follower(self, name: str, port: int) -> dict[str, str | int | Path]:
        """What the processes beside the API server have in common."""
        return {
            **dict.fromkeys(
                ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"), self._kubeconfigs[name]
            ),
            "bind-address": "127.0.0.1",
            "secure-port": port,
            "tls-cert-file": self._server.certificate,
            "tls-private-key-file": self._server.key,
            "leader-elect": "false",
            "profiling": "false",
        }

    def _component(
        self, name: str, program: str, options: Mapping[str, str | int | Path], port: int, health: str
    ) -> Component:
        address = f"https://127.0.0.1:{port}"
        return Component(name, self._programs.path(program), self._folder, options, address, health, self.identity())

    def _kubeconfig(self, name: str, user: Pair) -> Path:
        """A file that says where the cluster is and who asks; JSON is YAML."""
        cluster = {"server": self.address, "certificate-authority": str(self._authority.pair.certificate)}
        credentials = {"client-certificate": str(user.certificate), "client-key": str(user.key)}
        file = self._folder / f"{name}.kubeconfig"
        file.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": name, "user": credentials}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
                }
            )
        )
        return file
