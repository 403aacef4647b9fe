"""Objects that tests of a cluster make."""

from __future__ import annotations

from tests.cluster.control_plane.api import Object

SECURE_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
SECURE_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod(**spec: object) -> Object:
    """The spec of a pod that the Restricted standard lets in."""
    container = {"name": "main", "image": "registry.example/none", "securityContext": SECURE_CONTAINER}
    return {"securityContext": SECURE_POD, "containers": [container], **spec}


def deployment(name: str, replicas: int, spec: Object) -> Object:
    """A Deployment of such pods, or what a StatefulSet has in common with it."""
    labels = {"app": name}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
