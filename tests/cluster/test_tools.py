"""How the cluster's programs are built, shown on a small module out of a folder that serves as module proxy: Go itself does all of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from groundswell.engines import ports
from tests.cluster.tools import build
from tests.cluster.tools.families import (
    CLUSTER,
    ETCD,
    FOLDER_VARIABLE,
    HELM,
    KUBERNETES,
    KWOK,
    MONITORING,
    PROMETHEUS,
    Family,
    Shelf,
    shelf,
)
from tests.cluster.tools.pin import pin
from tests.cluster.tools.schema import Schema

MODULE, VERSION = "example.test/hello", "v1.2.3"
GO_MOD = f"module {MODULE}\n\ngo 1.21.0\n"
MAIN = '//go:build !small\n\npackage main\n\nvar version = "unstamped"\n\nfunc main() { println(version) }\n'
ROOT = Path(__file__).parents[2]

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")


@dataclass
class Workshop:
    """A family of two programs, where they are fetched from, and what was said while they were built."""

    folder: Path
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.publish(MAIN)
        module = self.folder / "hello"
        module.mkdir()
        (module / "go.mod").write_text(f"go 1.21.0\nrequire {MODULE} {VERSION}\n")
        programs = {name: f"{MODULE}/cmd/{name}" for name in ("hello", "bye")}
        self.family = Family(module, MODULE, programs, stamps={"main.version": "{version}"})
        pin(self.family, VERSION, self.environment)

    @property
    def environment(self) -> Mapping[str, str]:
        """A Go that knows this proxy only, and has compiled what everybody else has."""
        proxy = (self.folder / "proxy").as_uri()
        modules = str(self.folder / "modules")
        return {"GOPROXY": proxy, "GOMODCACHE": modules, "GONOSUMDB": MODULE, "GOFLAGS": "-modcacherw"}

    @property
    def shelf(self) -> Shelf:
        return Shelf.of([self.family], self.folder / "shelf")

    def publish(self, main: str) -> None:
        """Puts the module on the proxy, and forgets the one that was fetched."""
        folder = self.folder / "proxy" / MODULE / "@v"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "modules", ignore_errors=True)
        (folder / f"{VERSION}.info").write_text(json.dumps({"Version": VERSION}))
        (folder / f"{VERSION}.mod").write_text(GO_MOD)
        with zipfile.ZipFile(folder / f"{VERSION}.zip", "w") as archive:
            for name, text in {"go.mod": GO_MOD, "cmd/hello/main.go": main, "cmd/bye/main.go": main}.items():
                archive.writestr(f"{MODULE}@{VERSION}/{name}", text)

    def mention(self, old: str, new: str, file: str = "go.mod") -> None:
        """Changes a module file."""
        path = self.family.folder / file
        path.write_text(path.read_text().replace(old, new))

    async def build(self, **environment: str) -> None:
        self.said.clear()
        await build.build(self.shelf, self.said.append, {**self.environment, **environment})


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@needs_go
def test_programs_are_built_and_know_their_version(workshop: Workshop) -> None:
    asyncio.run(workshop.build())
    for name in ("hello", "bye"):
        answer = subprocess.run([workshop.shelf.path(name)], capture_output=True, text=True, check=True)
        assert answer.stderr.strip() == VERSION
    assert [line for line in workshop.said if line.startswith("building")] == [
        f"building {name} ({MODULE} {VERSION})" for name in ("hello", "bye")
    ]


@needs_go
async def test_a_second_build_says_at_once_that_it_is_done_and_needs_no_go(workshop: Workshop) -> None:
    await workshop.build()
    await workshop.build(PATH="")
    assert workshop.said == [f"the cluster's programs are built: {workshop.shelf.folder / 'bin'}"]


@needs_go
async def test_a_build_that_was_interrupted_goes_on_with_what_is_missing(workshop: Workshop) -> None:
    class Impatient(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            if line.startswith("building bye"):
                interrupted.cancel()

    workshop.said = Impatient()
    interrupted = asyncio.create_task(workshop.build())
    with pytest.raises(asyncio.CancelledError):
        await interrupted
    assert [name for _, name in workshop.shelf.missing()] == ["bye"]
    workshop.said = []
    await workshop.build()
    assert workshop.said[0].startswith("building bye")
    assert not workshop.shelf.missing()


@needs_go
async def test_two_builds_at_once_build_everything_once(workshop: Workshop) -> None:
    said: list[str] = []
    await asyncio.gather(*(build.build(workshop.shelf, said.append, workshop.environment) for _ in range(2)))
    assert sum(line.startswith("building") for line in said) == 2
    assert "another build is under way: waiting for it" in said


@needs_go
async def test_a_module_with_another_checksum_is_not_used(workshop: Workshop) -> None:
    workshop.publish(MAIN.replace("println", "print"))
    with pytest.raises(build.BuildError, match="not the one whose checksum is recorded, so it was not used"):
        await workshop.build()
    assert len(workshop.shelf.missing()) == 2


@needs_go
async def test_a_module_without_a_checksum_is_not_used(workshop: Workshop) -> None:
    workshop.mention((workshop.family.folder / "go.sum").read_text(), "", file="go.sum")
    with pytest.raises(build.BuildError, match=r"`python -m tests\.cluster\.tools\.pin` writes both anew"):
        await workshop.build()


@needs_go
async def test_without_a_go_or_with_an_old_one_the_user_hears_which_is_needed(
    workshop: Workshop, tmp_path: Path
) -> None:
    with pytest.raises(
        build.BuildError, match=r"Go was not found, and hello v1\.2\.3 needs Go 1\.21\.0 or newer: install"
    ):
        await workshop.build(PATH=str(tmp_path))
    workshop.mention("go 1.21.0", "go 1.99.0")
    with pytest.raises(
        build.BuildError, match=r"needs Go 1\.99\.0 or newer, and the one on the PATH is go1\.[\d.]+: inst"
    ):
        await workshop.build()


@needs_go
def test_another_version_or_checksum_is_another_folder(workshop: Workshop) -> None:
    folders = [workshop.shelf.folder]
    workshop.mention(VERSION, "v1.2.4")
    folders.append(workshop.shelf.folder)
    workshop.mention("h1:", "h1:x", file="go.sum")
    folders.append(workshop.shelf.folder)
    assert len(set(folders)) == 3


@needs_go
async def test_a_build_tag_leaves_out_what_it_names_and_is_another_folder(workshop: Workshop) -> None:
    await workshop.build()
    whole = workshop.shelf.folder
    workshop.family = replace(workshop.family, tags="small")
    assert workshop.shelf.folder != whole
    with pytest.raises(build.BuildError, match="build constraints exclude all Go files"):
        await workshop.build()


@needs_go
def test_a_file_of_a_module_is_kept_once_its_checksum_is_the_recorded_one(workshop: Workshop) -> None:
    surroundings = {**workshop.environment, FOLDER_VARIABLE: str(workshop.folder / "kept")}
    wanted = Schema(MODULE, VERSION, "h1:another", "go.mod")
    with pytest.raises(build.BuildError, match="not the one whose checksum is recorded, so it was not used"):
        wanted.fetch(workshop.said.append, surroundings)
    assert not wanted.file(surroundings).exists()
    recorded = (workshop.family.folder / "go.sum").read_text().split()[2]
    replace(wanted, sum=recorded).fetch(workshop.said.append, surroundings)
    assert wanted.file(surroundings).read_text() == GO_MOD
    shutil.rmtree(workshop.folder / "proxy")
    wanted.fetch(workshop.said.append, surroundings)


def test_a_new_promtool_builds_nothing_of_the_cluster_again() -> None:
    assert PROMETHEUS not in CLUSTER
    assert shelf(CLUSTER).folder != shelf(MONITORING).folder


@needs_go
def test_without_a_network_the_command_says_what_a_first_build_needs(tmp_path: Path) -> None:
    with _command(tmp_path, f"http://127.0.0.1:{ports.draw(1)[0]}") as command:
        said, _ = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "Modules could not be fetched: a first build needs the network, or in GOPROXY a module proxy" in said
    assert "Traceback" not in said


@needs_go
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_told_to_end_leaves_no_go_behind(tmp_path: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        with _command(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}") as command:
            asked, _ = silent.accept()  # Go is at work
            with asked:
                started = psutil.Process(command.pid).children(recursive=True)
                command.send_signal(number)
                said, _ = command.communicate(timeout=60)
    assert command.returncode == build.INTERRUPTED
    assert "`make cluster-tools` goes on where it stopped." in said
    assert started
    assert not [each for each in started if each.is_running()]


def _command(folder: Path, proxy: str) -> subprocess.Popen[str]:
    """The command of `make cluster-tools`, with a cache of its own and modules from `proxy` only. It heeds SIGINT, which a shell makes what
    it runs in the background ignore, the tests included."""
    own = {FOLDER_VARIABLE: str(folder / "shelf"), "GOPROXY": proxy, "GOMODCACHE": str(folder / "modules")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.tools.build"],
        cwd=ROOT,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def test_the_programs_of_the_cluster_know_their_versions(programs: Shelf, tmp_path: Path) -> None:
    def said(program: str, *words: str) -> str:
        return subprocess.run(
            [programs.path(program), *words], capture_output=True, text=True, check=True, timeout=30
        ).stdout

    assert f"etcd Version: {ETCD.version.removeprefix('v')}\n" in said("etcd", "--version")
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        assert said(name, "--version") == f"Kubernetes {KUBERNETES.version}\n"
    assert f"Client Version: {KUBERNETES.version}\n" in said("kubectl", "version", "--client")
    assert KWOK.version.removeprefix("v") in said("kwok", "--version")
    assert said("helm", "version", "--template", "{{.Version}}") == HELM.version


def test_promtool_and_prometheus_know_their_version(monitoring: Shelf) -> None:
    for name in PROMETHEUS.programs:
        said = subprocess.run(
            [monitoring.path(name), "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        assert said.startswith(f"{name}, version {PROMETHEUS.version} ")


def test_charts_are_rendered_for_the_kubernetes_that_runs_them(programs: Shelf, tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (tmp_path / "Chart.yaml").write_text('apiVersion: v2\nname: asks\nversion: 1.0.0\nkubeVersion: ">=1.30-0"\n')
    (templates / "version.yaml").write_text("version: {{ .Capabilities.KubeVersion.Version }}\n")
    command = [str(programs.path("helm")), "template", "asks", str(tmp_path)]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert f"version: v{'.'.join(KUBERNETES.numbers)}.0\n" in rendered
