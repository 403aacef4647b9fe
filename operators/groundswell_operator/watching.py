"""The thin edge to kopf: what changes in the namespace wakes the reconciler, which looks for itself.

kopf keeps the watches: it lists, follows, and begins anew after errors and gaps. It writes nothing: its handlers only observe, so it needs
no finalizers, annotations or Events of its own, and what it would put into them is under our prefix all the same.

ScaledObjects are not among the kinds, since a cluster may not serve them: KEDA changes the autoscaler that it keeps whenever one changes,
and that tells of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from groundswell_operator.applying import connecting
from groundswell_operator.applying.reading import PREFIX

KINDS = (
    (PREFIX, "v1alpha1", "viralspikepolicies"),
    (PREFIX, "v1alpha1", "viralspikes"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("apps", "v1", "deployments"),
    ("apps", "v1", "statefulsets"),
)
REQUEST_S_MAX = 30.0
SILENCE_S_MAX = 70.0
"""A watch on which nothing was heard for so long is begun anew; where nothing changes, one is told of that once a minute."""
LISTED_MAX = 100
"""Objects in one answer when watches begin: a thousand at once would stay in the process's memory."""
BACKOFF_S = 1.0


async def watch(
    namespace: str, wake: Callable[[], None], stir: Callable[[], None], heard: Callable[[str], None]
) -> None:
    """Calls `wake` at every change that may call for something, and `stir` where a target is not as it was, until it is told to end.
    `heard` is called with the kind, in the plural, of every object that it is told of.

    What calls for nothing is kept away: consistent lists are answered as often as each 100 ms, and the next raise would wait for that.
    """
    registry = kopf.OperatorRegistry()
    known: dict[str, object] = {}

    async def policy_changed(type: str | None, meta: Any, resource: Any, **_: Any) -> None:
        heard(resource.plural)
        asked = meta.get("generation"), dict(meta.get("annotations", {})), meta.get("deletionTimestamp")
        if known.get(meta["uid"]) == asked and type != "DELETED":
            return  # only its status, which this process and the bridge write
        known[meta["uid"]] = asked
        if type == "DELETED":
            del known[meta["uid"]]
        wake()

    async def spike_changed(resource: Any, **_: Any) -> None:
        heard(resource.plural)
        wake()

    async def target_changed(type: str | None, resource: Any, **_: Any) -> None:
        heard(resource.plural)
        (stir if type == "MODIFIED" else wake)()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return connecting.connection()

    own = {"viralspikepolicies": policy_changed, "viralspikes": spike_changed}
    kopf.on.login(registry=registry)(login)
    for kind in KINDS:
        kopf.on.event(*kind, id=f"{kind[2]}-changed", registry=registry)(own.get(kind[2], target_changed))
    await kopf.operator(registry=registry, settings=_settings(), standalone=True, namespaces=[namespace])


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # it would ask for all namespaces and kinds, which the Role does not let it see
    settings.posting.enabled = False
    settings.execution.default_backoff = BACKOFF_S
    settings.networking.request_timeout = REQUEST_S_MAX
    settings.networking.error_backoffs = (BACKOFF_S,) * 5
    settings.watching.inactivity_timeout = SILENCE_S_MAX
    settings.watching.chunk_size = LISTED_MAX
    settings.persistence.finalizer = f"{PREFIX}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=PREFIX)
    return settings
