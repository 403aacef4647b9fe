"""Generates `services/groundswell/api` from the protos beside this file.

The generated code is committed, so that a clone needs no compiler and a review shows what a change of an interface does to its
callers. `--check` generates into a temporary folder and compares: what is committed is always what the protos say. Type stubs
describe the asyncio API only, because no other is used.
"""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import google.api

PROTOS = Path(__file__).resolve().parent
API = PROTOS.parent / "services" / "groundswell" / "api"
GOOGLE_APIS = Path(next(iter(google.api.__path__))).parents[1]
"""Import root of `google/api/annotations.proto`; it comes with googleapis-common-protos."""
SCRIPTS = Path(sys.executable).parent
PACKAGE_DOCSTRING = '"""GENERATED from protos/ by `make proto`; never edited."""\n'


def generate(out: Path) -> None:
    """Writes the package `groundswell.api` into `out/groundswell/api`; raises `CalledProcessError` when protoc refuses a file."""
    files = _files(PROTOS)
    with_services = [each for each in files if "\nservice " in each.read_text()]
    _protoc(files, f"--python_out={out}", f"--mypy_out=quiet:{out}")
    _protoc(with_services, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet,only_async:{out}")
    api = out / "groundswell" / "api"
    for folder in [api, *(each for each in api.rglob("*") if each.is_dir())]:
        (folder / "__init__.py").write_text(PACKAGE_DOCSTRING)


def image(protos: Path, out: Path, *, comments: bool = True) -> None:
    """Writes the compiled descriptors of the protos under `protos`, with their imports, to the file `out`; without their `comments` and
    places in the files it is a fifth of the size."""
    told = ["--include_source_info"] if comments else []
    _protoc(_files(protos), "--include_imports", *told, f"--descriptor_set_out={out}", protos=protos)


def _files(protos: Path) -> list[Path]:
    return sorted((protos / "groundswell").rglob("*.proto"))


def _protoc(files: list[Path], *outputs: str, protos: Path = PROTOS) -> None:
    plugins = [f"--plugin={name}={SCRIPTS / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"-I{GOOGLE_APIS}", *plugins, *outputs]
    subprocess.run([*command, *map(str, files)], check=True)


def differences(fresh: Path, committed: Path) -> list[str]:
    """Paths, relative to the package, that are missing, left over or different in `committed`."""
    wanted = {each.relative_to(fresh) for each in fresh.rglob("*.py*") if each.is_file()}
    present = {each.relative_to(committed) for each in committed.rglob("*.py*") if "__pycache__" not in each.parts}
    changed = {each for each in wanted & present if not filecmp.cmp(fresh / each, committed / each, shallow=False)}
    return sorted(str(each) for each in (wanted ^ present) | changed)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "groundswell" / "api"
        if arguments != ["--check"]:
            shutil.rmtree(API, ignore_errors=True)
            shutil.copytree(fresh, API)
            return 0
        stale = differences(fresh, API)
    if stale:
        print(
            f"The generated code is not what protos/ says; run `make proto` and commit. Differing: {', '.join(stale)}."
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
