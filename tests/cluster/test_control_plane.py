"""The control plane of the tests is a real one: it runs pods as far as simulated nodes go, refuses, and writes down what it did."""

from __future__ import annotations

import pytest

from tests.cluster.control_plane.api import Api, Object, Refused, until
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.control_plane.keeper import NODES
from tests.cluster.forms import slow
from tests.cluster.objects import deployment, pod


async def test_every_simulated_node_is_ready_and_takes_pods(admin: Api) -> None:
    nodes = await admin.items("/api/v1/nodes")
    assert len(nodes) == NODES
    for node in nodes:
        assert "taints" not in node["spec"]
        assert {"type": "Ready", "status": "True"}.items() <= _condition(node, "Ready").items()


async def test_a_deployment_of_three_gets_ready_on_different_nodes(admin: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await admin.create(path, deployment("web", 3, pod()))

    async def ready() -> bool:
        return bool((await admin.get(f"{path}/web"))["status"].get("readyReplicas") == 3)

    await until(ready)
    pods = await admin.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector="app=web")
    assert len({each["spec"]["nodeName"] for each in pods}) == 3
    assert len({each["status"]["podIP"] for each in pods}) == 3


@pytest.mark.alone
@slow
async def test_a_pod_is_as_slow_as_its_annotation_says(admin: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    for name, delay in {"slow": "4s", "quick": "0s"}.items():
        metadata = {"name": name, "annotations": {"pod-ready.stage.kwok.x-k8s.io/delay": delay}}
        await admin.create(path, {"metadata": metadata, "spec": pod()})

    async def ready(name: str) -> bool:
        return _condition(await admin.get(f"{path}/{name}"), "Ready").get("status") == "True"

    await until(lambda: ready("quick"))
    assert not await ready("slow")
    await until(lambda: ready("slow"))


async def test_a_job_comes_to_its_end(admin: Api, namespace: str) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    spec = {"template": {"spec": pod(restartPolicy="Never")}}
    await admin.create(path, {"metadata": {"name": "once"}, "spec": spec})

    async def complete() -> bool:
        return _condition(await admin.get(f"{path}/once"), "Complete").get("status") == "True"

    await until(complete)


async def test_a_stateful_pod_gets_a_volume_that_goes_with_its_claim(admin: Api, namespace: str) -> None:
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    stateful = deployment("store", 1, pod())
    stateful["spec"] |= {"serviceName": "store", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": size}]}
    sets = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    await admin.create(sets, stateful)

    async def ready() -> bool:
        return bool((await admin.get(f"{sets}/store"))["status"].get("readyReplicas") == 1)

    await until(ready)
    claim = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/data-store-0"
    volume = f"/api/v1/persistentvolumes/{(await admin.get(claim))['spec']['volumeName']}"
    assert (await admin.get(volume))["status"]["phase"] == "Bound"
    await admin.delete(f"{sets}/store")
    await admin.delete(claim)
    await until(lambda: _gone(admin, volume))


@slow
async def test_a_deleted_namespace_goes_with_its_pods(admin: Api, namespace: str) -> None:
    await admin.create("/api/v1/namespaces", {"metadata": {"name": f"{namespace}-more"}})
    path = f"/api/v1/namespaces/{namespace}-more"
    await until(lambda: admin.items(f"{path}/serviceaccounts"))
    await admin.create(f"{path}/pods", {"metadata": {"name": "one"}, "spec": pod()})
    await admin.delete(path)
    await until(lambda: _gone(admin, path))


async def test_who_has_no_role_is_refused_and_the_audit_log_says_so(
    control_plane: ControlPlane, admin: Api, namespace: str
) -> None:
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    async with await control_plane.account(namespace, "default") as account:
        with pytest.raises(Refused, match='cannot list resource "secrets"') as refusal:
            await account.items(secrets)
    assert refusal.value.status == 403
    asked = [each for each in control_plane.audit(namespace) if each["requestURI"] == secrets]
    assert [(each["user"]["username"], each["verb"], each["responseStatus"]["code"]) for each in asked] == [
        (f"system:serviceaccount:{namespace}:default", "list", 403)
    ]


async def test_a_role_lets_an_account_do_what_it_names_and_no_more(
    control_plane: ControlPlane, admin: Api, namespace: str
) -> None:
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
    await admin.create(f"{roles}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    await admin.create(f"{roles}/rolebindings", binding)
    async with await control_plane.account(namespace, "default") as account:
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        await until(lambda: _answers(account, path))
        with pytest.raises(Refused, match='cannot create resource "configmaps"'):
            await account.create(path, {"metadata": {"name": "mine"}})


async def test_a_pod_that_may_be_root_is_refused_by_name(admin: Api, namespace: str) -> None:
    root = {"metadata": {"name": "root"}, "spec": pod(securityContext={})}
    with pytest.raises(Refused, match=r"violates PodSecurity .*runAsNonRoot != true") as refusal:
        await admin.create(f"/api/v1/namespaces/{namespace}/pods", root)
    assert refusal.value.status == 403


async def test_a_write_onto_an_older_version_is_refused(admin: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = await admin.create(path, {"metadata": {"name": "shared"}, "data": {"by": "one"}})
    await admin.patch(f"{path}/shared", {"data": {"by": "two"}})
    with pytest.raises(Refused, match="the object has been modified") as refusal:
        await admin.replace(f"{path}/shared", made)
    assert refusal.value.status == 409


def _condition(value: Object, kind: str) -> Object:
    return next((each for each in value["status"].get("conditions", []) if each["type"] == kind), {})


async def _gone(api: Api, path: str) -> bool:
    try:
        await api.get(path)
    except Refused as refused:
        return refused.status == 404
    return False


async def _answers(api: Api, path: str) -> bool:
    """Whether the API server lets it read: a role takes a moment to be heard of."""
    try:
        await api.items(path)
    except Refused:
        return False
    return True
