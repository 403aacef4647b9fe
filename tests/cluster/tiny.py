"""Pods of one small Python program each, on process nodes, and what a test asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.control_plane.api import Api, Object, until
from tests.cluster.objects import SECURE_CONTAINER, pod
from tests.cluster.process_nodes.addresses import local

PORT = 8000
TELLING = """
import os, signal, sys, time
def tell(word):
    with open(os.environ["OUT"], "a") as file:
        file.write(f"{word} {time.time():.3f}\\n")
def on_term(*_):
    tell("term")
    if os.environ.get("STUBBORN") != "yes":
        sys.exit(0)
signal.signal(signal.SIGTERM, on_term)
tell("begin")
"""
"""Says when it begins and is told to stop; ends then, unless it is stubborn."""
WAITING = TELLING + "\nwhile True: time.sleep(0.05)\n"
SERVING = (
    TELLING
    + """
import http.server
bad = set()
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if self.path in bad else 200)
        self.send_header("content-length", "0")
        self.end_headers()
    def do_PUT(self):
        bad.add(self.path)
        self.do_GET()
    def do_DELETE(self):
        bad.discard(self.path)
        self.do_GET()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((os.environ["IP"], 8000), Answers).serve_forever()
"""
)
"""Answers 200, or 503 at paths that were put."""
HEALTHY = """
import os, time
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
server, servicer = grpc.server(futures.ThreadPoolExecutor(2)), health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
assert server.add_insecure_port(os.environ["IP"] + ":8000")
server.start()
time.sleep(float(os.environ["BAD_S"]))
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
server.wait_for_termination()
"""
"""Serves gRPC's health, which is bad at first."""


class Place:
    """A namespace in which a test makes pods."""

    def __init__(self, api: Api, namespace: str, folder: Path) -> None:
        self.api, self.namespace, self.out = api, namespace, folder / "out"

    def path(self, plural: str, *rest: str, group: str = "v1") -> str:
        root = "/api/v1" if group == "v1" else f"/apis/{group}"
        return "/".join([f"{root}/namespaces/{self.namespace}/{plural}", *rest])

    def spec(self, program: str, container: Mapping[str, Any] | None = None, **spec: object) -> Object:
        """A pod of one container that runs a Python program."""
        ip = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        added = dict(container or {})
        own = {
            "name": "main",
            "image": "python",
            "args": ["-c", program],
            "securityContext": SECURE_CONTAINER,
            **added,
            "env": [ip, {"name": "OUT", "value": str(self.out)}, *added.get("env", [])],
        }
        nodes = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": TINY}}}
        return pod(automountServiceAccountToken=False, **nodes) | {"containers": [own]} | spec

    async def start(self, name: str, spec: Object, **labels: str) -> None:
        await self.api.create(self.path("pods"), {"metadata": {"name": name, "labels": labels}, "spec": spec})

    async def pod(self, name: str) -> Object:
        return await self.api.get(self.path("pods", name))

    async def status(self, name: str) -> Object:
        """Of its one container."""
        statuses = (await self.pod(name))["status"].get("containerStatuses") or [{"state": {}, "ready": False}]
        return dict(statuses[0])

    async def until_ready(self, name: str, *, ready: bool = True) -> None:
        async def reached() -> bool:
            return bool((await self.status(name))["ready"] is ready)

        await until(reached)

    async def until_phase(self, name: str, phase: str) -> Object:
        async def reached() -> Object:
            found = await self.pod(name)
            return found if found["status"]["phase"] == phase else {}

        return await until(reached)

    async def url(self, name: str) -> str:
        return f"http://{local((await self.pod(name))['status']['podIP'])}:{PORT}"

    async def told(self, word: str, times: int = 1) -> list[float]:
        """When a container said the word, once it has said it so often."""

        async def reached() -> list[float]:
            lines = self.out.read_text().splitlines() if self.out.exists() else []
            found = [float(line.split()[1]) for line in lines if line.split()[0] == word]
            return found if len(found) >= times else []

        return await until(reached)

    async def until_gone(self, name: str) -> None:
        async def gone() -> bool:
            return name not in {each["metadata"]["name"] for each in await self.api.items(self.path("pods"))}

        await until(gone)


TINY = {
    "nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["tiny-0", "tiny-1"]}]}
    ]
}
