"""A running control plane, as a test holds it."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.cluster.control_plane.api import Api, Object, Refused, until
from tests.cluster.tools.families import shelf

ROOT = Path(__file__).parents[3]
STOP_S_MAX = 60.0
PROGRAM_S_MAX = 330.0


class NotStarted(Exception):
    """A control plane did not come up, or went down by itself; the message is what its keeper said."""


class ProgramFailed(Exception):
    """kubectl or Helm failed; the message is what it said."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where it is and what it says; gone with the keeper that runs it."""

    folder: Path
    address: str
    etcd: str
    """The URL of its etcd, which asks nobody who they are."""
    kubeconfig: Path
    """The administrator's."""
    keeper: int
    pids: dict[str, int]
    """Of its processes by name: etcd, api-server, controller-manager, scheduler, kwok; as they were at the start."""

    def admin(self) -> Api:
        """Requests as the administrator, who may do everything."""
        identity = self._trust()
        identity.load_cert_chain(self.folder / "keys" / "admin.crt", self.folder / "keys" / "admin.key")
        return Api(self.address, identity)

    async def account(self, namespace: str, name: str) -> Api:
        """Requests as a service account, by a token like that of its pods; it may do what RBAC says."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        async with self.admin() as admin:
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
            answer = await admin.create(path, asked)
        return Api(self.address, self._trust(), answer["status"]["token"])

    def audit(self, namespace: str) -> list[Object]:
        """Every answered request so far that names a namespace, in its path or as its sender's, as audit.k8s.io/v1 events; not what was
        given up before it was known whose it was."""
        with (self.folder / "audit.log").open() as log:
            events = [json.loads(line) for line in log if namespace in line and line.endswith("\n")]
        return [each for each in events if each["user"].get("username")]

    def api_server(self) -> psutil.Process:
        """The API server's process at this moment."""
        return next(each for each in psutil.Process(self.keeper).children() if each.name() == "kube-apiserver")

    async def restart_api_server(self) -> None:
        """Has it killed, and returns once another one answers."""
        killed = self.api_server()
        os.kill(self.keeper, signal.SIGUSR1)
        async with self.admin() as admin:

            async def answers() -> bool:
                try:
                    return not killed.is_running() and await admin.text("/readyz") == "ok"
                except (Refused, httpx.TransportError):
                    return False

            await until(answers, STOP_S_MAX)

    async def compact(self) -> None:
        """Has etcd forget everything but what is true now, so that nobody can follow on from an earlier version."""
        async with httpx.AsyncClient(base_url=self.etcd) as etcd:
            first = {"key": base64.b64encode(b"/").decode()}
            revision = (await etcd.post("/v3/kv/range", json=first)).json()["header"]["revision"]
            (await etcd.post("/v3/kv/compaction", json={"revision": revision, "physical": True})).raise_for_status()

    def kubectl(self, *words: str, given: str = "") -> str:
        """What kubectl answers the administrator, with `given` on its input; raises `ProgramFailed`."""
        return self._run("kubectl", words, given)

    def helm(self, *words: str) -> str:
        """What Helm answers the administrator; raises `ProgramFailed`."""
        return self._run("helm", words, "")

    def _run(self, program: str, words: tuple[str, ...], given: str) -> str:
        own = {
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        done = subprocess.run(
            [shelf().path(program), *words],
            input=given,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=PROGRAM_S_MAX,
            check=False,
        )
        if done.returncode:
            raise ProgramFailed(f"{program} {' '.join(words)} ended with code {done.returncode}: {done.stderr}")
        return done.stdout

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / "keys" / "authority.crt")


@contextmanager
def running(*words: str, temporary: Path | None = None) -> Iterator[ControlPlane]:
    """A control plane of one's own, with words for its keeper's command line; its folder is made in `temporary`. Raises `NotStarted`.

    It ends when the context does, or this process, however that dies: its keeper sees the pipe close.
    """
    command = [sys.executable, "-m", "tests.cluster.control_plane.keeper", "--until-stdin-closes", *words]
    keeper = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary or tempfile.gettempdir())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a Ctrl-C is the session's, which ends its tests first
    )
    assert keeper.stdin
    assert keeper.stdout
    said = ""
    try:
        said = keeper.stdout.readline()
        if said.startswith("{"):
            yield _handle(keeper.pid, json.loads(said))
    finally:
        keeper.stdin.close()
        try:
            code = keeper.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            keeper.kill()
            raise
    if code or not said:
        raise NotStarted(said + keeper.stdout.read() or "its keeper was told to end before it had started one")


def _handle(keeper: int, described: Object) -> ControlPlane:
    return ControlPlane(
        folder=Path(described["folder"]),
        address=described["address"],
        etcd=described["etcd"],
        kubeconfig=Path(described["KUBECONFIG"]),
        keeper=keeper,
        pids=described["pids"],
    )
