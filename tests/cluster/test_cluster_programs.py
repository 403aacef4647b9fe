"""The programs that people use on a cluster work on the tests' own: Helm with a hook that is a Job, and kubectl."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from tests.cluster.control_plane.api import Api
from tests.cluster.control_plane.handle import ControlPlane, ProgramFailed
from tests.cluster.objects import deployment, pod


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A Deployment, and a Job before it."""
    templates = tmp_path / "templates"
    templates.mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: small\nversion: 1.0.0\n")
    hook = {"name": "before", "annotations": {"helm.sh/hook": "pre-install"}}
    job = {"metadata": hook, "spec": {"template": {"spec": pod(restartPolicy="Never")}}}
    for file, value in {
        "job": {"apiVersion": "batch/v1", "kind": "Job", **job},
        "web": {"apiVersion": "apps/v1", "kind": "Deployment", **deployment("web", 2, pod())},
    }.items():
        (templates / f"{file}.yaml").write_text(yaml.safe_dump(value))
    return tmp_path


async def test_a_chart_is_ready_after_its_hook_and_leaves_with_its_release(
    control_plane: ControlPlane, admin: Api, namespace: str, chart: Path
) -> None:
    helm = ("--namespace", namespace, "--wait", "--timeout", "60s")
    await asyncio.to_thread(control_plane.helm, "install", "small", str(chart), *helm)
    job = await admin.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/before")
    assert job["status"]["succeeded"] == 1
    web = await admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/web")
    assert web["status"]["readyReplicas"] == 2
    assert web["metadata"]["creationTimestamp"] >= job["status"]["completionTime"]
    await asyncio.to_thread(control_plane.helm, "uninstall", "small", *helm)
    assert not await admin.items(f"/apis/apps/v1/namespaces/{namespace}/deployments")


async def test_kubectl_applies_and_says_what_the_server_refused(control_plane: ControlPlane, namespace: str) -> None:
    def apply(spec: object) -> str:
        value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}
        return control_plane.kubectl("apply", "-n", namespace, "-f", "-", given=json.dumps(value))

    with pytest.raises(ProgramFailed, match="violates PodSecurity"):
        await asyncio.to_thread(apply, pod(hostNetwork=True))
    assert await asyncio.to_thread(apply, pod()) == "pod/one created\n"
