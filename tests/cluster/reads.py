"""A port that answers reads of given objects the way an API server does, for templates that look at what is there.

It proves what the chart makes of an answer, never what an API server does with an object.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.cluster.chart import Object

KINDS = {
    "v1": {"Secret": "secrets"},
    "apps/v1": {"Deployment": "deployments"},
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition": "customresourcedefinitions"},
}
CLUSTERS = {"CustomResourceDefinition"}
"""Kinds that are in no namespace."""


@contextmanager
def answering(objects: Sequence[Object]) -> Iterator[str]:
    """The port's URL; `objects` exist, everything else does not."""
    paths = _paths(objects)

    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = paths.get(self.path.partition("?")[0])
            body = json.dumps(
                found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            )
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *values: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Requests) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _paths(objects: Sequence[Object]) -> dict[str, Mapping[str, Any]]:
    """What is answered at each path: what kinds there are, and the objects."""
    found: dict[str, Mapping[str, Any]] = {
        "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(*version.split("/")) for version in KINDS if "/" in version],
        },
    }
    for version, kinds in KINDS.items():
        resources = [
            {
                "name": plural,
                "singularName": "",
                "namespaced": kind not in CLUSTERS,
                "kind": kind,
                "verbs": ["get", "list"],
            }
            for kind, plural in kinds.items()
        ]
        base = _base(version)
        found[base] = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
    for each in objects:
        meta, plural = each["metadata"], KINDS[each["apiVersion"]][each["kind"]]
        place = "" if each["kind"] in CLUSTERS else f"/namespaces/{meta['namespace']}"
        found[f"{_base(each['apiVersion'])}{place}/{plural}/{meta['name']}"] = each
    return found


def _base(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _group(name: str, version: str) -> Mapping[str, Any]:
    spelled = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [spelled], "preferredVersion": spelled}
