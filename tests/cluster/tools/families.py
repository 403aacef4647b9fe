"""Which programs there are, from which modules, and what is stamped into them."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER_VARIABLE = "GROUNDSWELL_CLUSTER_TOOLS"
"""Names the folder under which the programs are kept; the user's cache unless it is set."""
MODULE_FILES = ("go.mod", "go.sum", "tools.go")
FLAGS = ("-mod=readonly", "-trimpath")


@dataclass(frozen=True, slots=True)
class Family:
    """Programs of one module."""

    folder: Path
    """Holds `MODULE_FILES`."""
    module: str
    programs: Mapping[str, str]
    """Package by name of the program."""
    stamps: Mapping[str, str]
    """Values by variable of the programs, which they take for their own version: `{version}`, `{major}` and `{minor}` of `module`,
    or as they stand."""
    tags: str = ""
    """Build tags, by comma: what is left out."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def version(self) -> str:
        """The version that go.mod pins, such as v1.36.3."""
        return self._in_go_mod(rf"^require {re.escape(self.module)} (v\S+)$")

    @property
    def numbers(self) -> tuple[str, str]:
        """Major and minor of that version."""
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        return major, minor

    @property
    def go_version(self) -> str:
        """The oldest Go that builds it, such as 1.26.0."""
        return self._in_go_mod(r"^go (\S+)$")

    def linker_flags(self) -> str:
        """Leaves out what only debuggers read, and stamps."""
        major, minor = self.numbers
        values = {
            name: value.format(version=self.version, major=major, minor=minor) for name, value in self.stamps.items()
        }
        return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])

    def _in_go_mod(self, pattern: str) -> str:
        found = re.search(pattern, (self.folder / "go.mod").read_text(), re.MULTILINE)
        assert found, f"{self.folder / 'go.mod'} has no line like {pattern}"
        return found[1]


_HERE = Path(__file__).parent

ETCD = Family(
    _HERE / "etcd",
    module="go.etcd.io/etcd/server/v3",
    programs={"etcd": "go.etcd.io/etcd/server/v3"},
    stamps={},
)
KUBERNETES = Family(
    _HERE / "kubernetes",
    module="k8s.io/kubernetes",
    programs={
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    },
    stamps={
        "k8s.io/component-base/version.gitVersion": "{version}",
        "k8s.io/component-base/version.gitMajor": "{major}",
        "k8s.io/component-base/version.gitMinor": "{minor}",
    },
)
KWOK = Family(
    _HERE / "kwok",
    module="sigs.k8s.io/kwok",
    programs={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
    stamps={},
)
_MAJOR, _MINOR = KUBERNETES.numbers
HELM = Family(
    _HERE / "helm",
    module="helm.sh/helm/v3",
    programs={"helm": "helm.sh/helm/v3/cmd/helm"},
    stamps={  # the Kubernetes that templates are told of without a cluster: unstamped, it is 1.20
        "helm.sh/helm/v3/internal/version.version": "{version}",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": _MAJOR,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": _MINOR,
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor": _MAJOR,
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor": _MINOR,
    },
)
PROMETHEUS = Family(
    _HERE / "prometheus",
    module="github.com/prometheus/prometheus",
    programs={name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("promtool", "prometheus")},
    stamps={"github.com/prometheus/common/version.Version": "{version}"},
    tags="remove_all_sd",  # the ways to ask clouds for targets, which are most of the code; files and HTTP stay
)
CLUSTER: Sequence[Family] = (ETCD, KUBERNETES, KWOK, HELM)
"""What tests of a cluster run, on one shelf."""
MONITORING: Sequence[Family] = (PROMETHEUS,)
"""What judges rules and dashboards, on a shelf of its own: neither is built again for the other's sake."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the programs of some families lie, or will."""

    families: Sequence[Family]
    folder: Path

    @classmethod
    def of(cls, families: Sequence[Family], root: Path) -> Shelf:
        """Their place under `root`: another version, checksum, stamp or machine is another place."""
        return cls(families, root / _digest(families))

    def path(self, program: str) -> Path:
        """Where that program is kept."""
        return self.folder / "bin" / program

    def missing(self) -> list[tuple[Family, str]]:
        """What has not been built yet."""
        return [(family, name) for family in self.families for name in family.programs if not self.path(name).exists()]


def shelf(families: Sequence[Family] = CLUSTER, environment: Mapping[str, str] = os.environ) -> Shelf:
    """Where these programs are on this machine."""
    return Shelf.of(families, cache(environment))


def cache(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder on this machine under which all of it is kept."""
    users = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environment.get(FOLDER_VARIABLE) or users / "groundswell" / "cluster-tools")


def _digest(families: Iterable[Family]) -> str:
    found = hashlib.sha256(f"{platform.system()} {platform.machine()} {FLAGS}".encode())
    for family in families:
        found.update(f"{family.name} {family.programs} {family.linker_flags()}{family.tags}".encode())
        for name in MODULE_FILES:
            found.update((family.folder / name).read_bytes())
    return found.hexdigest()[:16]
