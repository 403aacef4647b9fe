"""The chart on a real API server with Helm itself: whole releases, in a namespace that admits restricted pods only."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import releasing
from tests.cluster.chart import BEFORE, FOLDER, LOADTESTS, PROFILES, RELEASE, Rendered, render, shown, visitors
from tests.cluster.control_plane.api import Api, until
from tests.cluster.control_plane.handle import ControlPlane, ProgramFailed, running
from tests.cluster.forms import form, slow
from tests.cluster.tools.families import Shelf

LIMIT = ("--wait", "--wait-for-jobs", "--timeout", "120s")
KINDS_THERE = ("--set", "operator.crds.install=false")
"""The tests' control plane has the kinds already, and they belong to no release."""
SMALL = ("--set", "topology=all")
"""Where it does not matter what else is installed."""
Helm = Callable[..., Awaitable[None]]


def helm_in(plane: ControlPlane, namespace: str) -> Helm:
    async def helm(*command: str) -> None:
        await asyncio.to_thread(plane.helm, *command, "--namespace", namespace)

    return helm


def objects(plane: ControlPlane, namespace: str) -> set[str]:
    """Everything in a namespace, as `kind.group/name`; Events go by themselves, and pods with what made them."""
    kinds = set(plane.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split())
    passing = {"events", "events.events.k8s.io", "pods"}
    listed = plane.kubectl("get", ",".join(sorted(kinds - passing)), "-n", namespace, "-o", "name")
    return set(listed.split())


async def keys(admin: Api, namespace: str) -> dict[str, str]:
    """Of a release, which outlive it."""
    return dict((await admin.get(f"/api/v1/namespaces/{namespace}/secrets/groundswell-keys"))["data"])


@pytest.mark.promise("OPERATOR-13")
@pytest.mark.usefixtures("kinds")
async def test_a_release_of_the_version_before_is_upgraded_tested_and_uninstalled_and_leaves_its_keys_and_volumes(
    control_plane: ControlPlane, namespace: str, admin: Api
) -> None:
    """Goal: nothing is refused, by a schema or by Pod Security, and every pod finds a node. What the pods run is another test's matter."""
    helm, before = helm_in(control_plane, namespace), objects(control_plane, namespace)
    await helm("install", RELEASE, str(releasing.archive(BEFORE)), *KINDS_THERE, *LIMIT)
    first = await keys(admin, namespace)
    for name, replicas in {"operator": 2, "bridge": 1}.items():
        deployment = await admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/groundswell-{name}")
        assert deployment["status"]["readyReplicas"] == replicas
    await helm("upgrade", RELEASE, str(FOLDER), "--set", "public.port=9000", *KINDS_THERE, *LIMIT)
    assert await keys(admin, namespace) == first
    data = (await admin.get(f"/api/v1/namespaces/{namespace}/configmaps/groundswell-config"))["data"]
    assert data["LINKS_PUBLIC_PORT"] == "9000"
    assert not await admin.items(f"/apis/batch/v1/namespaces/{namespace}/jobs"), "the hook has ended and is gone"
    await helm("test", RELEASE, "--timeout", "60s")
    await helm("uninstall", RELEASE, "--wait", "--timeout", "120s")
    assert await keys(admin, namespace) == first
    claims = await admin.items(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
    kept = {each["metadata"]["name"].removeprefix("data-groundswell-").rpartition("-")[0] for each in claims}
    assert kept == {"gateway", "analytics", "kafka", "postgres", "clickhouse"}
    await until(lambda: _is_left(control_plane, namespace, before))


@pytest.mark.usefixtures("kinds")
@slow
async def test_the_operator_of_a_release_goes_and_comes_and_an_install_of_the_same_name_takes_up_its_keys(
    control_plane: ControlPlane, namespace: str, admin: Api
) -> None:
    helm = helm_in(control_plane, namespace)
    await helm("install", RELEASE, str(FOLDER), *KINDS_THERE, *LIMIT)
    first = await keys(admin, namespace)
    await helm("upgrade", RELEASE, str(FOLDER), "--set", "operator.enabled=false")
    assert not _of_the_operator(objects(control_plane, namespace)), "nor is a hook of it left"
    await helm("upgrade", RELEASE, str(FOLDER), *KINDS_THERE)
    assert len(_of_the_operator(objects(control_plane, namespace))) > len(PARTS)
    await helm("uninstall", RELEASE, "--wait", "--timeout", "120s")
    await helm("install", RELEASE, str(FOLDER), *KINDS_THERE, *LIMIT)
    assert await keys(admin, namespace) == first


@pytest.mark.usefixtures("kinds")
@slow
async def test_what_is_scaled_stays_over_an_upgrade_whose_hook_takes_its_time_and_over_a_rollback(
    control_plane: ControlPlane, namespace: str, admin: Api
) -> None:
    """Method: the hook's pod is kept out by a quota until the scaling is done, so Helm has rendered before and writes after it."""
    helm, links = helm_in(control_plane, namespace), f"/apis/apps/v1/namespaces/{namespace}/deployments/{RELEASE}-links"

    async def replicas() -> int:
        return int((await admin.get(links))["spec"]["replicas"])

    async def is_at_the_least() -> bool:
        return await replicas() == 2

    async def hook_waits() -> bool:
        jobs = await admin.items(f"/apis/batch/v1/namespaces/{namespace}/jobs")
        return any("helm.sh/hook" in each["metadata"].get("annotations", {}) for each in jobs)

    await helm("install", RELEASE, str(FOLDER), *KINDS_THERE, *LIMIT)
    await until(is_at_the_least)
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await admin.create(quotas, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    upgrade = asyncio.ensure_future(helm("upgrade", RELEASE, str(FOLDER), *KINDS_THERE, "--set", "public.port=9000"))
    await until(hook_waits, 120)
    await admin.patch(f"{links}/scale", {"spec": {"replicas": 7}})
    assert not upgrade.done()
    await admin.delete(f"{quotas}/none")
    await upgrade
    assert await replicas() == 7
    await helm("rollback", RELEASE, "1")
    assert await replicas() == 7


@pytest.mark.usefixtures("kinds")
@slow
async def test_a_rollback_to_a_revision_without_the_operator_runs_the_hook_before_the_operator_goes(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Goal: Helm runs it, though the revision that it leaves has no such hook; a further rollback does not wait for what is not there."""
    helm = helm_in(control_plane, namespace)
    await helm("install", RELEASE, str(FOLDER), *SMALL, "--set", "operator.enabled=false")
    await helm("upgrade", RELEASE, str(FOLDER), *SMALL, *KINDS_THERE)
    assert _of_the_operator(objects(control_plane, namespace))
    await helm("rollback", RELEASE, "1")
    hook = ("create", "jobs", f"{RELEASE}-release")
    done = _by_helm(control_plane, namespace)
    assert done.index(hook) < done.index(("delete", "deployments", f"{RELEASE}-operator"))
    assert not _of_the_operator(objects(control_plane, namespace)), "nor is the hook left"
    await helm("rollback", RELEASE, "1")
    assert not _of_the_operator(objects(control_plane, namespace))


def _by_helm(plane: ControlPlane, namespace: str) -> list[tuple[str, str, str]]:
    """What Helm has asked for, as (verb, resource, name)."""
    return [
        (each["verb"], each["objectRef"]["resource"], each["objectRef"].get("name", ""))
        for each in plane.audit(namespace)
        if each.get("userAgent", "").startswith("Helm/") and each.get("objectRef", {}).get("namespace") == namespace
    ]


PARTS = ("operator", "bridge", "release")


def _of_the_operator(names: set[str]) -> set[str]:
    return {each for each in names if each.partition("/")[2].removeprefix("groundswell-").startswith(PARTS)}


async def _is_left(plane: ControlPlane, namespace: str, before: set[str]) -> bool:
    """Whether nothing is left of a release but what it keeps: accounts, rights, hooks and leases are gone."""
    left = await asyncio.to_thread(objects, plane, namespace)
    kept = {"secret/groundswell-keys", "secret/groundswell-engines"}
    return {each for each in left - before if not each.startswith("persistentvolumeclaim/")} == kept


@slow
async def test_the_kinds_come_with_the_first_release_are_upgraded_with_it_and_outlive_it(
    programs: Shelf, tmp_path: Path
) -> None:
    """On a control plane of its own, since they are the cluster's. Taken over by another release, they are as docs/deploy.md says."""
    with running() as plane:
        async with plane.admin() as admin:
            for name in ("first", "second"):
                await admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
            first, second = helm_in(plane, "first"), helm_in(plane, "second")
            await first("install", RELEASE, str(FOLDER), *SMALL)
            made = await _kinds(admin)
            assert {*made} == {"viralspikes.groundswell.dev", "viralspikepolicies.groundswell.dev"}

            with pytest.raises(
                ProgramFailed, match="belongs to the release groundswell in namespace first: set operator"
            ):
                await second("install", RELEASE, str(FOLDER), *SMALL)
            await second("install", RELEASE, str(FOLDER), *SMALL, *KINDS_THERE)

            await first("upgrade", RELEASE, str(_with_a_column(tmp_path)), *SMALL)
            columns = (await _kinds(admin))["viralspikes.groundswell.dev"]["spec"]["versions"][0][
                "additionalPrinterColumns"
            ]
            assert columns[-1]["name"] == "Tenant"

            await second("uninstall", RELEASE)
            await first("uninstall", RELEASE)
            kept = await _kinds(admin)
            assert {name: each["metadata"]["uid"] for name, each in kept.items()} == {
                name: each["metadata"]["uid"] for name, each in made.items()
            }
            await first("install", RELEASE, str(FOLDER), *SMALL)
            assert (await _kinds(admin))["viralspikes.groundswell.dev"]["spec"] == made["viralspikes.groundswell.dev"][
                "spec"
            ]

            await first("uninstall", RELEASE)
            for command in shown("## Viral spikes")[-1]:
                text = command.replace("release-namespace=groundswell", "release-namespace=second")
                await asyncio.to_thread(plane.kubectl, *shlex.split(text)[1:])
            await second("install", RELEASE, str(FOLDER), *SMALL)


async def _kinds(admin: Api) -> dict[str, Any]:
    found = await admin.items("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
    return {each["metadata"]["name"]: each for each in found}


def _with_a_column(folder: Path) -> Path:
    """A later chart, whose kind shows one column more."""
    later = folder / "groundswell"
    shutil.copytree(FOLDER, later)
    file = later / "kinds" / "viralspikes.yaml"
    kind = yaml.safe_load(file.read_text())
    kind["spec"]["versions"][0]["additionalPrinterColumns"].append(
        {"name": "Tenant", "type": "string", "jsonPath": ".spec.tenant"}
    )
    file.write_text(yaml.safe_dump(kind))
    return later


@pytest.mark.parametrize("profile", form(["everything given"], [*PROFILES]))
@pytest.mark.usefixtures("kinds")
async def test_every_object_and_every_pod_is_taken_by_an_api_server_that_admits_restricted_pods_only(
    control_plane: ControlPlane, namespace: str, profile: str
) -> None:
    """Method: a server-side dry run. Pods are asked for one by one, since what makes them is let in whatever they are."""
    assert_taken(control_plane, namespace, render(PROFILES[profile]))


async def test_every_object_of_the_load_tests_is_taken_there_too(control_plane: ControlPlane, namespace: str) -> None:
    assert_taken(control_plane, namespace, visitors({}))


@slow
async def test_every_revision_of_the_load_tests_has_a_job_of_its_own(
    control_plane: ControlPlane, namespace: str, admin: Api
) -> None:
    """A job cannot be changed; whether this one could begin does not matter here."""
    helm = helm_in(control_plane, namespace)

    async def jobs() -> set[str]:
        return {each["metadata"]["name"] for each in await admin.items(f"/apis/batch/v1/namespaces/{namespace}/jobs")}

    async def is_replaced() -> bool:
        return await jobs() == {"loadtests-2"}

    await helm("install", "loadtests", str(LOADTESTS))
    assert await jobs() == {"loadtests-1"}
    await helm("upgrade", "loadtests", str(LOADTESTS), "--set", "load.peak=10")
    await until(is_replaced)
    await helm("uninstall", "loadtests", "--wait", "--timeout", "60s")
    assert not await jobs()


def assert_taken(plane: ControlPlane, namespace: str, rendered: Rendered) -> None:
    own = [each for each in rendered.objects if each["kind"] not in ("CustomResourceDefinition", "Pod")]
    pods = [_pod(component, spec) for component, _, spec in rendered.pods()]
    given = yaml.safe_dump_all([_in(namespace, each) for each in [*own, *pods]])
    taken = plane.kubectl("create", "--dry-run=server", "-o", "name", "-f", "-", given=given)
    assert len(taken.split()) == len(own) + len(pods)


def _pod(component: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A pod that a workload would make, with its claim; its account is one that is there, for admission asks for that too."""
    volumes = list(spec.get("volumes", []))
    if {"data"} & {each["name"] for each in spec["containers"][0].get("volumeMounts", [])} - {
        each["name"] for each in volumes
    }:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": f"data-{component}-0"}})
    own = {**spec, "serviceAccountName": "default", "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"dry-{component}"}, "spec": own}


def _in(namespace: str, value: dict[str, Any]) -> dict[str, Any]:
    return value | {"metadata": value["metadata"] | {"namespace": namespace}}
