"""What process nodes do as a kubelet does it, and a cluster's network and name server, each rule with containers that are made for it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cluster.control_plane.api import Api, Object, until
from tests.cluster.control_plane.handle import ControlPlane
from tests.cluster.forms import slow
from tests.cluster.objects import deployment
from tests.cluster.process_nodes import images
from tests.cluster.process_nodes.addresses import local
from tests.cluster.process_nodes.handle import ProcessNodes, running
from tests.cluster.tiny import HEALTHY, PORT, SERVING, TELLING, WAITING, Place

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def nodes(process_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNodes]:
    """Two nodes whose only image is Python."""
    with running(process_plane, tmp_path_factory.mktemp("nodes"), {"python": images.python()}, name="tiny") as made:
        yield made


@pytest.fixture
async def admin(process_plane: ControlPlane, nodes: ProcessNodes) -> AsyncIterator[Api]:
    async with process_plane.admin() as api:
        yield api


@pytest.fixture
async def place(admin: Api, namespace: str, tmp_path: Path) -> Place:
    return Place(admin, namespace, tmp_path)


async def test_a_container_gets_the_environment_of_its_manifest_and_nothing_else(place: Place) -> None:
    await place.api.create(place.path("configmaps"), {"metadata": {"name": "plain"}, "data": {"ONE": "1", "TWO": "2"}})
    await place.api.create(place.path("secrets"), {"metadata": {"name": "hidden"}, "stringData": {"key": "s3cret"}})
    env = [
        {"name": "TWO", "value": "zwei"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "key"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "no", "optional": True}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "COLOUR", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['colour']"}}},
        {"name": "BOTH", "value": "$(KEY)-$(TWO)-$$(TWO)"},
        {"name": "LISTEN", "value": "0.0.0.0:8000"},
    ]
    program = 'import json, os; open(os.environ["OUT"], "w").write(json.dumps(dict(os.environ)))'
    container = {"env": env, "envFrom": [{"configMapRef": {"name": "plain"}}]}
    await place.start("env", place.spec(program, container, restartPolicy="Never"), colour="red")
    address = local((await place.until_phase("env", "Succeeded"))["status"]["podIP"])
    told = json.loads(place.out.read_text())
    assert {name: told.pop(name, None) for name in ("ONE", "TWO", "KEY", "NONE", "NAME", "COLOUR", "BOTH")} == {
        "ONE": "1",
        "TWO": "zwei",
        "KEY": "s3cret",
        "NONE": None,
        "NAME": "env",
        "COLOUR": "red",
        "BOTH": "s3cret-zwei-$(TWO)",
    }
    assert (told.pop("IP"), told.pop("LISTEN")) == (address, f"{address}:8000")
    assert set(told) <= {"OUT", "HOSTNAME", "LC_CTYPE", *images.python().environment}


async def test_a_container_waits_for_a_secret_that_comes_later(place: Place) -> None:
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "late", "key": "key"}}}]
    await place.start("early", place.spec("pass", {"env": env}, restartPolicy="Never"))

    async def waits() -> bool:
        waiting = (await place.status("early"))["state"].get("waiting", {})
        return bool(waiting.get("reason") == "CreateContainerConfigError")

    await until(waits)
    await place.api.create(place.path("secrets"), {"metadata": {"name": "late"}, "stringData": {"key": "x"}})
    await place.until_phase("early", "Succeeded")


async def test_a_claim_outlives_its_pod_and_an_empty_folder_does_not(place: Place) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    await place.api.create(place.path("persistentvolumeclaims"), {"metadata": {"name": "kept"}, "spec": claim})
    program = (
        "import pathlib, os, sys\n"
        "for place in (os.environ['KEPT'], sys.argv[1]):\n"
        "    file = pathlib.Path(place) / 'lives'\n"
        "    file.write_text(file.read_text() + 'x' if file.exists() else 'x')\n"
        "    print(file.read_text(), file=open(os.environ['OUT'], 'a'))\n"
    )
    container = {
        "args": ["-c", program, "/scratch"],
        "env": [{"name": "KEPT", "value": "/data"}],
        "volumeMounts": [{"name": "kept", "mountPath": "/data"}, {"name": "scratch", "mountPath": "/scratch"}],
    }
    volumes = [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}, {"name": "scratch", "emptyDir": {}}]
    for name in ("first", "second"):
        await place.start(name, place.spec(program, container, restartPolicy="Never", volumes=volumes))
        await place.until_phase(name, "Succeeded")
    assert place.out.read_text().split() == ["x", "x", "xx", "x"]


async def test_secrets_and_config_maps_are_files_where_they_are_mounted(place: Place) -> None:
    await place.api.create(place.path("configmaps"), {"metadata": {"name": "plain"}, "data": {"a": "1", "b": "2"}})
    await place.api.create(place.path("secrets"), {"metadata": {"name": "hidden"}, "stringData": {"key": "s3cret"}})
    sources = [
        {"secret": {"name": "hidden"}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    volumes = [
        {"name": "plain", "configMap": {"name": "plain", "items": [{"key": "b", "path": "deep/b"}]}},
        {"name": "mixed", "projected": {"sources": sources}},
    ]
    program = (
        "import json, os, pathlib, sys\n"
        "found = {str(file.relative_to(root)): file.read_text() for root in map(pathlib.Path, sys.argv[1:])"
        " for file in root.rglob('*') if file.is_file()}\n"
        "open(os.environ['OUT'], 'w').write(json.dumps(found))"
    )
    mounts = [{"name": "plain", "mountPath": "/etc/plain"}, {"name": "mixed", "mountPath": "/etc/mixed"}]
    container = {"args": ["-c", program, "/etc/plain", "/etc/mixed"], "volumeMounts": mounts}
    await place.start("files", place.spec(program, container, restartPolicy="Never", volumes=volumes))
    await place.until_phase("files", "Succeeded")
    assert json.loads(place.out.read_text()) == {"deep/b": "2", "key": "s3cret", "name": "files"}


async def test_a_pod_with_a_token_may_ask_the_api_server_as_its_account(place: Place, nodes: ProcessNodes) -> None:
    program = """
import json, os, ssl, urllib.request
told = json.load(open(os.environ["KUBECONFIG"]))
cluster, user = told["clusters"][0]["cluster"], told["users"][0]["user"]
review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
asked = urllib.request.Request(
    cluster["server"] + "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    json.dumps(review).encode(),
    {"Authorization": "Bearer " + user["token"], "Content-Type": "application/json"},
)
context = ssl.create_default_context(cafile=cluster["certificate-authority"])
answer = json.load(urllib.request.urlopen(asked, context=context))
open(os.environ["OUT"], "w").write(answer["status"]["userInfo"]["username"])
"""
    scratch = {"env": [{"name": "OUT", "value": "/tmp/out"}], "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    spec = place.spec(program, scratch, volumes=[{"name": "tmp", "emptyDir": {}}])
    await place.start("asks", spec | {"restartPolicy": "Never", "automountServiceAccountToken": True})
    pod = await place.until_phase("asks", "Succeeded")
    told = nodes.folder / "pods" / pod["metadata"]["uid"] / "volumes" / "tmp" / "out"
    assert told.read_text() == f"system:serviceaccount:{place.namespace}:default"


@slow
async def test_endpoints_names_and_doors_follow_readiness(place: Place, nodes: ProcessNodes) -> None:
    probe = {"httpGet": {"path": "/ready", "port": "web"}, "periodSeconds": 1, "failureThreshold": 2}
    container = {"readinessProbe": probe, "ports": [{"name": "web", "containerPort": PORT}]}
    for name in ("one", "two"):
        await place.start(name, place.spec(SERVING, container, terminationGracePeriodSeconds=1), app="web")
    for name, address in {"door": {}, "all": {"clusterIP": "None"}}.items():
        spec = {"selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": "web"}], **address}
        await place.api.create(place.path("services"), {"metadata": {"name": name}, "spec": spec})
    for name in ("one", "two"):
        await place.until_ready(name)
    one, two = [local((await place.pod(name))["status"]["podIP"]) for name in ("one", "two")]
    door = local((await place.api.get(place.path("services", "door")))["spec"]["clusterIP"])
    await until(lambda: _opens(f"http://{door}:8080/"))
    assert await _resolved(place, "all", {one, two})
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.put(f"http://{one}:{PORT}/ready")
        await place.until_ready("one", ready=False)
        assert await _resolved(place, "all", {two})
        await client.put(f"http://{two}:{PORT}/ready")
        await place.until_ready("two", ready=False)
    assert await _resolved(place, "all", set())
    await until(lambda: _closed(f"http://{door}:8080/"))
    assert any(line.startswith(f"{place.namespace}/door:8080") for line in nodes.refusals())


async def _resolved(place: Place, name: str, wanted: set[str]) -> bool:
    """Waits until the name server, found by what a pod is told, answers the addresses."""
    server = await _name_server(place)
    full = f"{name}.{place.namespace}.svc.cluster.local"

    async def reached() -> bool:
        return await asyncio.to_thread(_asked, server, full) == wanted

    return await until(reached)


async def _name_server(place: Place) -> tuple[str, int]:
    """Told to gRPC in `dns://host:port/name`, which is what the name of a headless Service becomes."""
    if "asks" not in {each["metadata"]["name"] for each in await place.api.items(place.path("pods"))}:
        target = f"all.{place.namespace}.svc.cluster.local:8080"
        env = [{"name": "TARGET", "value": f"web={target}"}]
        program = "import os; open(os.environ['OUT'] + '.dns', 'w').write(os.environ['TARGET'])"
        await place.start("asks", place.spec(program, {"env": env}, restartPolicy="Never"))
        await place.until_phase("asks", "Succeeded")
    told = Path(f"{place.out}.dns").read_text()
    assert told.startswith("web=dns://127.0.0.1:")
    host, _, port = told.removeprefix("web=dns://").partition("/")[0].rpartition(":")
    return host, int(port)


def _asked(server: tuple[str, int], name: str) -> set[str]:
    """The addresses of a name, asked as RFC 1035 says."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(2)
        asking.sendto(struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question, server)
        answer = asking.recv(512)
    (count,) = struct.unpack_from(">H", answer, 6)
    records = answer[12 + len(question) :]
    return {socket.inet_ntoa(records[at * 16 + 12 : at * 16 + 16]) for at in range(count)}


async def _opens(url: str) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


async def _closed(url: str) -> bool:
    return not await _opens(url)


@slow
async def test_what_is_alive_no_more_is_started_again_and_a_slow_start_is_no_death(place: Place) -> None:
    probes = {
        "startupProbe": {"httpGet": {"path": "/up", "port": PORT}, "periodSeconds": 1, "failureThreshold": 30},
        "livenessProbe": {"httpGet": {"path": "/alive", "port": PORT}, "periodSeconds": 1, "failureThreshold": 2},
    }
    slow = "import time; time.sleep(3)\n" + SERVING
    await place.start("web", place.spec(slow, probes, terminationGracePeriodSeconds=2))

    async def started() -> bool:
        return bool((await place.status("web")).get("started"))

    await until(started)
    assert (await place.status("web"))["restartCount"] == 0
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.put(f"{await place.url('web')}/alive")
    await place.told("begin", times=2)
    assert await place.told("term"), "it was asked to stop"

    async def again() -> bool:
        status = await place.status("web")
        return bool(status["restartCount"] == 1 and status.get("started"))

    await until(again)


async def test_a_probe_by_grpc_asks_for_health(place: Place) -> None:
    container = {
        "readinessProbe": {"grpc": {"port": PORT}, "periodSeconds": 1},
        "env": [{"name": "BAD_S", "value": "2"}],
    }
    await place.start("rpc", place.spec(HEALTHY, container, terminationGracePeriodSeconds=1))
    await until(lambda: _listens(place, "rpc"))
    assert not (await place.status("rpc"))["ready"]
    await place.until_ready("rpc")


async def _listens(place: Place, name: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((local((await place.pod(name))["status"].get("podIP", "10.0.0.1")), PORT)) == 0


async def test_a_pod_that_is_deleted_first_pauses_then_is_told_and_ends_before_its_grace_does(place: Place) -> None:
    container = {"lifecycle": {"preStop": {"sleep": {"seconds": 2}}}}
    await place.start("web", place.spec(WAITING, container, terminationGracePeriodSeconds=20))
    await place.told("begin")
    asked_s = time.time()
    await place.api.delete(place.path("pods", "web"))
    (told_s,) = await place.told("term")
    assert 2.0 <= told_s - asked_s < 4.0
    await place.until_gone("web")
    assert time.time() - asked_s < 10


async def test_who_does_not_end_within_the_grace_is_killed(place: Place) -> None:
    container = {"env": [{"name": "STUBBORN", "value": "yes"}]}
    await place.start("web", place.spec(WAITING, container, terminationGracePeriodSeconds=3))
    await place.told("begin")
    asked_s = time.time()
    await place.api.delete(place.path("pods", "web"))
    await place.told("term")
    await place.until_gone("web")
    assert 2.5 <= time.time() - asked_s < 8


async def test_what_crashes_is_started_again_at_once_and_then_with_a_pause(place: Place) -> None:
    await place.start("web", place.spec(TELLING + "sys.exit(3)"))
    await place.told("begin", times=2)

    async def pauses() -> Object:
        status = await place.status("web")
        return status if status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" else {}

    status = await until(pauses)
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert (await place.pod("web"))["status"]["phase"] == "Running"
    assert len(await place.told("begin")) == 2


async def test_a_killed_process_is_started_again_in_its_pod(place: Place) -> None:
    await place.start("web", place.spec(WAITING, terminationGracePeriodSeconds=1))
    await place.told("begin")

    async def runs() -> bool:
        return "running" in (await place.status("web"))["state"]

    await until(runs)
    before = await place.pod("web")
    psutil.Process(int((await place.status("web"))["containerID"].removeprefix("process://"))).kill()
    await place.told("begin", times=2)

    async def restarted() -> bool:
        return bool((await place.status("web"))["restartCount"] == 1)

    await until(restarted)
    after = await place.pod("web")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert (await place.status("web"))["lastState"]["terminated"]["exitCode"] == 128 + 9


async def test_a_job_runs_to_its_end_after_what_prepares_it_and_one_that_fails_is_tried_again(place: Place) -> None:
    first = place.spec("print('first', 0, file=open(__import__('os').environ['OUT'], 'a'))")["containers"][0]
    second = place.spec(TELLING, restartPolicy="Never") | {"initContainers": [first | {"name": "first"}]}
    failing = place.spec("raise SystemExit(1)", restartPolicy="Never")
    for name, spec in {"good": second, "bad": failing}.items():
        job = {"template": {"spec": spec}, "backoffLimit": 0}
        await place.api.create(place.path("jobs", group="batch/v1"), {"metadata": {"name": name}, "spec": job})

    async def ended(name: str) -> str:
        status = (await place.api.get(place.path("jobs", name, group="batch/v1")))["status"]
        return next(
            (
                each["type"]
                for each in status.get("conditions", [])
                if each["status"] == "True" and each["type"] in ("Complete", "Failed")
            ),
            "",
        )

    assert await until(lambda: ended("good")) == "Complete"
    assert await until(lambda: ended("bad")) == "Failed"
    assert [line.split()[0] for line in place.out.read_text().splitlines()] == ["first", "begin"]


async def test_a_deployment_is_replaced_one_by_one_and_no_pod_is_missed(place: Place) -> None:
    probe = {"readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1}}
    path = place.path("deployments", group="apps/v1")
    made = deployment("web", 2, place.spec(SERVING, probe, terminationGracePeriodSeconds=2))
    made["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await place.api.create(path, made)

    async def reached(generation: int) -> bool:
        status = (await place.api.get(f"{path}/web"))["status"]
        assert status.get("availableReplicas", 0) >= (2 if generation > 1 else 0)
        figures = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
        return status.get("observedGeneration") == generation and figures == [2, 2, 2]

    await until(lambda: reached(1))
    await place.api.patch(f"{path}/web", {"spec": {"template": {"metadata": {"annotations": {"again": "1"}}}}})
    await until(lambda: reached(2))


async def test_what_is_not_done_fails_with_a_sentence(place: Place) -> None:
    hook = {"lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}
    await place.start("hooked", place.spec("pass", hook))
    await place.start("elsewhere", place.spec("pass", {"image": "registry.example/other"}))
    for name, sentence in {"hooked": "main has a postStart hook", "elsewhere": "there is no image"}.items():
        status = (await place.until_phase(name, "Failed"))["status"]
        assert (status["reason"], status["message"][: len(sentence)]) == ("Unsupported", sentence)
