"""The environment of a container, as a kubelet makes it out of the manifest."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from tests.cluster.control_plane.api import Api, Object, Refused
from tests.cluster.process_nodes.addresses import local
from tests.cluster.process_nodes.errors import NotThere, Unsupported

_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_NOT_FOUND = 404


async def resolved(api: Api, pod: Object, container: Object) -> dict[str, str]:
    """The variables of the manifest in their order; raises `NotThere` and `Unsupported`."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        prefix = source.get("prefix", "")
        (reference,) = [source[kind] for kind in ("configMapRef", "secretRef") if kind in source]
        held = await keys_of(api, pod, "configMapRef" in source, reference)
        found |= {f"{prefix}{name}": value.decode() for name, value in held.items()}
    for variable in container.get("env", []):
        value = await _value(api, pod, variable, found)
        if value is not None:
            found[variable["name"]] = value
    return found


async def keys_of(api: Api, pod: Object, is_config: bool, reference: Mapping[str, object]) -> dict[str, bytes]:
    """What a ConfigMap or a Secret holds; nothing where an optional one is absent."""
    kind = "configmaps" if is_config else "secrets"
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/{kind}/{reference['name']}"
    try:
        held = await api.get(path)
    except Refused as refused:
        if refused.status == _NOT_FOUND and reference.get("optional"):
            return {}
        if refused.status == _NOT_FOUND:
            raise NotThere(f"{kind} {reference['name']!r} not found") from refused
        raise
    encoded = held.get("data" if not is_config else "binaryData") or {}
    plain = (held.get("data") or {}) if is_config else {}
    return {name: base64.b64decode(each) for name, each in encoded.items()} | {
        name: each.encode() for name, each in plain.items()
    }


def field_of(pod: Object, path: str) -> str:
    """What the downward API says of a pod; its addresses are those that processes can use."""
    if keyed := _KEYED.fullmatch(path):
        return str(pod["metadata"].get(keyed[1], {}).get(keyed[2], ""))
    if path in ("status.podIP", "status.podIPs"):
        return local(pod["status"]["podIP"])
    group, _, name = path.partition(".")
    if (group, name) == ("status", "hostIP"):
        return "127.0.0.1"
    if group == "metadata" and name in ("name", "namespace", "uid"):
        return str(pod["metadata"][name])
    if group == "spec" and name in ("nodeName", "serviceAccountName"):
        return str(pod["spec"][name])
    raise Unsupported(f"the field {path} is not known to process nodes")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by the variable where there is one, `$$` by `$`."""

    def one(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return _VARIABLE.sub(one, text)


async def _value(api: Api, pod: Object, variable: Object, so_far: Mapping[str, str]) -> str | None:
    if "valueFrom" not in variable:
        return expanded(variable.get("value", ""), so_far)
    ((kind, source),) = variable["valueFrom"].items()
    if kind == "fieldRef":
        return field_of(pod, source["fieldPath"])
    if kind not in ("secretKeyRef", "configMapKeyRef"):
        raise Unsupported(f"{variable['name']} comes from a {kind}")
    held = await keys_of(api, pod, kind == "configMapKeyRef", source)
    if source["key"] not in held:
        if source.get("optional"):
            return None
        raise NotThere(f"couldn't find key {source['key']} in {source['name']}")
    return held[source["key"]].decode()
