"""The thin edge to kopf: whatever changes in the namespace wakes the reconciler, which looks for itself.

kopf keeps the watches: it lists, follows, and begins anew after errors and gaps. It writes nothing: its handlers only observe, so it needs
no finalizers, annotations or Events of its own, and what it would put into them is under our prefix all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from groundswell_operator.applying.reading import PREFIX

KINDS = (
    (PREFIX, "v1alpha1", "viralspikepolicies"),
    (PREFIX, "v1alpha1", "viralspikes"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("apps", "v1", "deployments"),
    ("apps", "v1", "statefulsets"),
)
REQUEST_S_MAX = 30.0
SILENCE_S_MAX = 30.0
"""A watch on which nothing was heard for so long is begun anew."""
BACKOFF_S = 1.0


async def watch(namespace: str, wake: Callable[[], None]) -> None:
    """Calls `wake` at every change until the process is told to end."""
    registry = kopf.OperatorRegistry()

    async def changed(**_: Any) -> None:
        wake()

    async def login(**words: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**words) or kopf.login_with_kubeconfig(**words)

    kopf.on.login(registry=registry)(login)
    for kind in KINDS:
        kopf.on.event(*kind, id=f"{kind[2]}-changed", registry=registry)(changed)
    await kopf.operator(registry=registry, settings=_settings(), standalone=True, namespaces=[namespace])


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # it would ask for all namespaces and kinds, which the Role does not let it see
    settings.posting.enabled = False
    settings.execution.default_backoff = BACKOFF_S
    settings.networking.request_timeout = REQUEST_S_MAX
    settings.networking.error_backoffs = (BACKOFF_S,) * 5
    settings.watching.inactivity_timeout = SILENCE_S_MAX
    settings.persistence.finalizer = f"{PREFIX}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=PREFIX)
    return settings
