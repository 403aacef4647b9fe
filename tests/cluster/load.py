"""An external metric that a test sets: what autoscalers of the tests' cluster believe of the load."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.cluster.control_plane.api import Api, Refused, until
from tests.cluster.control_plane.certificates import Authority

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
METRIC = "load"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


class Load:
    """The whole load; a pod is to have one of it."""

    def __init__(self, total: int) -> None:
        self.total = total

    async def described(self, _: web.Request) -> web.Response:
        resource = {"name": METRIC, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList"}
        found = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}"}
        return web.json_response({**found, "resources": [{**resource, "verbs": ["get"]}]})

    async def measured(self, _: web.Request) -> web.Response:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        value = {"metricName": METRIC, "metricLabels": {}, "timestamp": now, "value": str(self.total)}
        found = {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}}
        return web.json_response({**found, "items": [value]})


@asynccontextmanager
async def served(admin: Api, namespace: str, folder: Path, port: int, total: int) -> AsyncIterator[Load]:
    """The metric, known to the API server."""
    load, name = Load(total), "load-metrics"
    authority = Authority(folder, "load-authority")
    pair = authority.server("load-server", f"{name}.{namespace}.svc")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    application = web.Application()
    application.router.add_get(f"/apis/{GROUP}/{VERSION}", load.described)
    application.router.add_get(f"/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/{METRIC}", load.measured)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    await admin.create(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": name}, "spec": service})
    try:
        await _registered(admin, namespace, name, port, authority.pair.certificate)
        yield load
    finally:
        await admin.delete(f"{SERVICES}/{VERSION}.{GROUP}")
        await runner.cleanup()


async def _registered(admin: Api, namespace: str, name: str, port: int, authority: Path) -> None:
    spec = {
        "group": GROUP,
        "version": VERSION,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"namespace": namespace, "name": name, "port": port},
        "caBundle": base64.b64encode(authority.read_bytes()).decode(),
    }
    await admin.create(SERVICES, {"metadata": {"name": f"{VERSION}.{GROUP}"}, "spec": spec})

    async def answers() -> bool:
        try:
            await admin.get(f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{METRIC}")
        except Refused:
            return False
        return True

    await until(answers)
