"""From one release to the next: what is made once stays, and preparation comes before new processes."""

import base64
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import helm_python
import pytest

from charts import releasing
from groundswell.engines.home import FIRST_TENANT, PLATFORM_TENANT
from groundswell.identity import model
from tests.cluster.chart import (
    BEFORE,
    FOLDER,
    NAMESPACE,
    PLACEMENTS,
    RELEASE,
    ROOT,
    VERSION,
    Object,
    Rendered,
    later,
    parsed,
    render,
)
from tests.cluster.reads import answering


def upgraded(present: Sequence[Object], values: Mapping[str, Any] | None = None) -> Rendered:
    """The objects of an upgrade over what is present."""
    with (
        answering(present) as url,
        helm_python.Config(kube_apiserver=url, namespace=NAMESPACE, storage_driver="memory") as config,
        helm_python.Chart.load(FOLDER) as chart,
    ):
        return parsed(config.render(chart, dict(values or {}), name=RELEASE, namespace=NAMESPACE, is_upgrade=True))


def as_stored(secret: Object) -> Object:
    """A Secret as the API server keeps it."""
    data = {name: base64.b64encode(value.encode()).decode() for name, value in secret["stringData"].items()}
    return {name: value for name, value in secret.items() if name != "stringData"} | {"data": data}


def test_an_upgrade_keeps_every_secret_that_is_there() -> None:
    first = render({})
    again = upgraded([as_stored(each) for each in first.of("Secret")])
    for name in ("groundswell-keys", "groundswell-engines"):
        assert again.one("Secret", name)["stringData"] == first.one("Secret", name)["stringData"], name


def test_two_installs_share_no_secret() -> None:
    """The control of the test above: what is not there is drawn."""
    first, second = render({}), upgraded([])
    for name in ("groundswell-keys", "groundswell-engines"):
        one, other = (each.one("Secret", name)["stringData"] for each in (first, second))
        assert set(one) == set(other)
        assert not set(one.values()) & set(other.values()), name


def test_a_secret_that_lacks_a_key_is_completed_and_its_other_keys_stay() -> None:
    stored = as_stored(render({}).one("Secret", "groundswell-keys"))
    kept = dict(stored["data"])
    del stored["data"]["api-key"]
    again = upgraded([stored]).one("Secret", "groundswell-keys")["stringData"]
    assert again["internal-key"] == base64.b64decode(kept["internal-key"]).decode()
    assert again["bootstrap-keys"] == base64.b64decode(kept["bootstrap-keys"]).decode()


def test_the_keys_are_what_the_services_take() -> None:
    keys = render({}).one("Secret", "groundswell-keys")["stringData"]
    assert re.fullmatch(r"[0-9a-f]{64}", keys["internal-key"])
    assert keys["bootstrap-keys"] == f"{keys['platform-key']}={PLATFORM_TENANT},{keys['api-key']}={FIRST_TENANT}"
    for name, key in {"platform-key": PLATFORM_TENANT, "api-key": FIRST_TENANT}.items():
        parts = model.parts_of(keys[name])
        assert parts is not None
        assert parts[0] == key


def test_secrets_and_volumes_outlive_the_release_and_a_secret_of_ones_own_replaces_the_charts() -> None:
    """The passwords of the databases' roles come from the internal key: the volumes are worth nothing without it."""
    rendered = render({})
    for each in rendered.of("Secret"):
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    for each in rendered.of("StatefulSet"):
        if "volumeClaimTemplates" in each["spec"]:
            assert each["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    own = render({"keys": {"existingSecret": "own"}})
    assert [each["metadata"]["name"] for each in own.of("Secret")] == ["groundswell-engines"]
    for workload in own.processes().values():
        assert own.environment(workload)["GROUNDSWELL_INTERNAL_KEY"] == "own/internal-key"


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ({"name": "other", "namespace": "there"}, "belongs to the release other in namespace there"),
        ({"name": RELEASE, "namespace": "there"}, "belongs to the release groundswell in namespace there"),
        ({}, "belongs to no release"),
    ],
    ids=["another release", "one of the same name", "a person"],
)
def test_kinds_of_another_are_not_taken_over_but_may_be_used_as_they_are(owner: Mapping[str, str], words: str) -> None:
    notes = {f"meta.helm.sh/release-{name}": value for name, value in owner.items()}
    present = [each | {"metadata": each["metadata"] | {"annotations": notes}} for each in kinds(render({}))]
    with pytest.raises(helm_python.HelmError, match=f"{words}: set operator.crds.install to false"):
        upgraded(present)
    assert not kinds(upgraded(present, {"operator": {"crds": {"install": False}}}))


def test_kinds_that_the_release_left_are_taken_up_again() -> None:
    notes = {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": NAMESPACE}
    left = [each | {"metadata": each["metadata"] | {"annotations": notes}} for each in kinds(render({}))]
    assert kinds(upgraded(left)) == kinds(render({}))


def test_what_is_raised_is_given_back_before_an_upgrade_or_a_rollback_takes_the_operator_away() -> None:
    """Helm runs the hooks of the revision that it goes to, and knows nothing of the one that it leaves."""
    off = {"operator": {"enabled": False}}
    present = [render({}).one("Deployment", "groundswell-operator")]

    def hooks(rendered: Rendered) -> set[tuple[str, str]]:
        notes = [(each, each["metadata"].get("annotations", {})) for each in rendered.objects]
        return {
            (each["kind"], found["helm.sh/hook"])
            for each, found in notes
            if each["metadata"]["name"] == "groundswell-release" and "helm.sh/hook" in found
        }

    parts = {"ServiceAccount", "Role", "RoleBinding", "Job"}
    assert hooks(upgraded(present)) == {(kind, "pre-delete") for kind in parts}
    parts |= {"NetworkPolicy"}
    assert hooks(upgraded(present, off)) == {(kind, "pre-upgrade,pre-rollback") for kind in parts}
    assert hooks(upgraded([], off)) == {(kind, "pre-rollback") for kind in parts}, "an upgrade finds none"
    assert hooks(render(off)) == {(kind, "pre-rollback") for kind in parts}


def test_the_hook_of_a_rollback_is_let_out_and_its_objects_are_gone_with_it() -> None:
    """The default of the network policies stands while it runs, and nothing of it stays in a release without an operator."""
    rendered = render({"operator": {"enabled": False}})
    found = [each for each in rendered.objects if each["metadata"]["name"] == "groundswell-release"]
    notes = {each["kind"]: each["metadata"]["annotations"] for each in found}
    assert {each["helm.sh/hook-delete-policy"] for each in notes.values()} == {"before-hook-creation,hook-succeeded"}
    weights = {kind: int(each["helm.sh/hook-weight"]) for kind, each in notes.items()}
    assert weights["Job"] > max(weight for kind, weight in weights.items() if kind != "Job")
    policy = rendered.one("NetworkPolicy", "groundswell-release")["spec"]
    assert policy == render({}).one("NetworkPolicy", "groundswell-release")["spec"]


def kinds(rendered: Rendered) -> list[Object]:
    return rendered.of("CustomResourceDefinition")


def test_preparation_runs_beside_an_install_and_before_an_upgrade() -> None:
    """At an install the engines may start beside it, and a hook would wait for them or be waited for."""
    first, before = render({}).preparation(), render({}, upgrade=True).preparation()
    assert "annotations" not in first["metadata"]
    assert before["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    assert first["spec"] == before["spec"]
    (container,) = first["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["prepare", "--wait", "600"]
    assert first["spec"]["activeDeadlineSeconds"] == 600 + 3600, "the wait for engines, and an hour for the work itself"
    assert first["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_a_job_that_would_do_something_else_has_another_name() -> None:
    """A job cannot be changed; one that stays as it is must not be made anew either."""
    one, same = render({}).preparation(), render({"public": {"port": 9000}}).preparation()
    other = render({"image": {"tag": "later"}}).preparation()
    assert one == same
    assert one["metadata"]["name"] != other["metadata"]["name"]


def test_processes_start_anew_when_and_only_when_what_they_are_told_changes() -> None:
    def checksums(values: Mapping[str, Any]) -> set[str]:
        found = render(values).processes().values()
        return {each["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for each in found}

    assert checksums({}) == checksums({"autoscaling": {"cpuPercent": 50}})
    assert checksums({}) != checksums({"settings": {"LINKS_CODE_SECRET": "x"}})


def test_another_version_of_the_chart_replaces_no_pod_but_those_of_another_image(tmp_path: Path) -> None:
    """Each engine in the chart is one pod: replaced, nobody is served. Its Secrets are drawn, and no part of a pod's template."""
    after = later(tmp_path, version="99.0.0", app_version="99.0.0")

    def replaced(values: Mapping[str, Any]) -> set[str]:
        one, other = (
            {each["metadata"]["name"]: each for each in render(values, folder=folder).of("Deployment", "StatefulSet")}
            for folder in (FOLDER, after)
        )
        assert one.keys() == other.keys()
        assert all(one[each]["metadata"]["labels"] != other[each]["metadata"]["labels"] for each in one)
        templates = [{each: json.dumps(found[each]["spec"]["template"]) for each in found} for found in (one, other)]
        return {each for each in one if templates[0][each] != templates[1][each]}

    ours = {f"groundswell-{each}" for each in (*PLACEMENTS["each"], "operator", "bridge")}
    assert replaced({}) == ours, "the image is the chart's own"
    assert replaced({"image": {"tag": "0.1.5"}}) == set()


def test_the_charts_test_asks_the_door_whether_it_is_ready_and_runs_only_when_asked() -> None:
    rendered = render({})
    pod = rendered.one("Pod", "groundswell-test")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    door = rendered.one("Service", "groundswell-door")
    url = f"http://groundswell-door.groundswell.svc.cluster.local:{door['spec']['ports'][0]['port']}/readyz"
    assert container["args"][-1] == url
    compile(container["args"][0], "door", "exec")


def test_the_notes_name_objects_that_exist() -> None:
    for values in ({}, {"public": {"service": {"type": "LoadBalancer"}}}, {"topology": "all"}):
        rendered = render(values)
        names = {each["metadata"]["name"] for each in rendered.objects}
        assert set(re.findall(r"(?:service/|secret |service )(groundswell-\S+)", rendered.notes)) <= names
        assert "helm -n groundswell test groundswell" in rendered.notes
    assert "api-key" in render({}).notes
    assert "api-key" not in render({"keys": {"existingSecret": "own"}}).notes
    stored = render({}).one("Secret", "groundswell-keys")["stringData"]
    assert not [value for value in stored.values() if value in render({}).notes]


def test_what_was_released_is_of_an_earlier_version_and_the_package_has_the_charts_version() -> None:
    """Otherwise nobody could tell what is upgraded from what; `make release` refuses to make a version twice."""
    assert all(releasing.numbers(each) < releasing.numbers(VERSION) for each in releasing.released())
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert described["project"]["version"] == VERSION


def test_the_archive_of_the_version_before_is_complete() -> None:
    """Method: it is rendered as it stands, with the topology and the kinds that it was packed with."""
    archive = releasing.archive(BEFORE)
    rendered = render({}, folder=archive)
    assert {*rendered.processes()} >= {*PLACEMENTS["each"]}
    assert {each["metadata"]["labels"]["app.kubernetes.io/version"] for each in rendered.of("Deployment")} == {BEFORE}
    assert len(kinds(rendered)) == 2
