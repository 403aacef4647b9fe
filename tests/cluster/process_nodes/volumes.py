"""Volumes as folders. An emptyDir goes with its pod; a claim's folder is found again by the claim's name, as its volume would be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.control_plane.api import Api, Object
from tests.cluster.process_nodes.environment import field_of, keys_of
from tests.cluster.process_nodes.errors import NotThere, Unsupported

KINDS = ("emptyDir", "persistentVolumeClaim", "secret", "configMap", "projected", "downwardAPI")
TOKEN_S = 3607
"""How long the token of a service account is good, unless its volume says; it is not renewed."""
KUBECONFIG = "kubeconfig"
"""Written beside a token: where the API server is, and that the token tells who asks."""


@dataclass(frozen=True)
class Volumes:
    """Makes the volumes of pods below a folder."""

    api: Api
    folder: Path
    authority: Path
    """The certificate by which the API server is known."""

    async def made(self, pod: Object) -> dict[str, Path]:
        """A folder for each volume by its name; raises `NotThere` and `Unsupported`."""
        found = {}
        for volume in pod["spec"].get("volumes", []):
            kind = next((each for each in volume if each != "name"), "emptyDir")
            if kind not in KINDS:
                raise Unsupported(f"the volume {volume['name']} is a {kind}")
            if kind == "persistentVolumeClaim":
                found[volume["name"]] = await self._claim(pod, volume[kind]["claimName"])
            else:
                found[volume["name"]] = await self._own(pod, volume["name"], kind, volume.get(kind) or {})
        return found

    def of(self, pod: Object) -> Path:
        """The folder of all that goes with a pod."""
        return self.folder / "pods" / str(pod["metadata"]["uid"])

    async def _claim(self, pod: Object, name: str) -> Path:
        namespace = pod["metadata"]["namespace"]
        claim = await self.api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
        if claim.get("status", {}).get("phase") != "Bound":
            raise NotThere(f"the claim {name} is not bound")
        return _folder(self.folder / "claims" / namespace / claim["metadata"]["uid"])

    async def _own(self, pod: Object, name: str, kind: str, source: Mapping[str, object]) -> Path:
        place = _folder(self.of(pod) / "volumes" / name)
        if kind == "projected":
            for each in source.get("sources") or []:  # type: ignore[attr-defined]  # a list, by the API's schema
                ((part, told),) = each.items()
                await self._write(pod, place, part, told)
        elif kind != "emptyDir":
            await self._write(pod, place, kind, source)
        return place

    async def _write(self, pod: Object, place: Path, kind: str, source: Mapping[str, object]) -> None:
        if kind == "serviceAccountToken":
            await self._token(pod, place, source)
        elif kind == "downwardAPI":
            items: Sequence[Object] = source["items"]  # type: ignore[assignment]  # so the API's schema
            for item in items:
                _put(place, item["path"], field_of(pod, item["fieldRef"]["fieldPath"]).encode())
        elif kind in ("secret", "configMap"):
            reference = {"name": source.get("secretName", source.get("name")), "optional": source.get("optional")}
            held = await keys_of(self.api, pod, kind == "configMap", reference)
            for file, key in _chosen(held, source).items():
                _put(place, file, held[key])
        else:
            raise Unsupported(f"a volume is projected from a {kind}")

    async def _token(self, pod: Object, place: Path, source: Mapping[str, object]) -> None:
        namespace, account = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        asked = {"expirationSeconds": source.get("expirationSeconds", TOKEN_S), "boundObjectRef": bound}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        made = await self.api.create(path, {"kind": "TokenRequest", "spec": asked})
        token = made["status"]["token"]
        _put(place, str(source["path"]), token.encode())
        _put(place, KUBECONFIG, json.dumps(self._kubeconfig(namespace, token)).encode())

    def _kubeconfig(self, namespace: str, token: str) -> Object:
        cluster = {"server": self.api.address, "certificate-authority": str(self.authority)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "pod",
            "clusters": [{"name": "pod", "cluster": cluster}],
            "users": [{"name": "pod", "user": {"token": token}}],
            "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod", "namespace": namespace}}],
        }


def _chosen(held: Mapping[str, bytes], source: Mapping[str, object]) -> dict[str, str]:
    """Files and the keys that fill them."""
    items: Sequence[Mapping[str, str]] = source.get("items") or []  # type: ignore[assignment]  # so the API's schema
    if not items:
        return {name: name for name in held}
    if missing := [each["key"] for each in items if each["key"] not in held]:
        raise NotThere(f"couldn't find key {missing[0]} for a volume")
    return {each["path"]: each["key"] for each in items}


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _put(place: Path, name: str, content: bytes) -> None:
    file = place / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
