"""Holds the protos against buf's STANDARD rules, and against the last release for changes that would break a client.

buf sees compiled descriptors rather than files, because it would fetch the imports of files from the network. Until there is a
release, the last commit takes its place.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import generate

BUF = generate.PROTOS / "node_modules" / ".bin" / "buf"
CONFIG = generate.PROTOS / "buf.yaml"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        now, then = Path(folder) / "now.binpb", Path(folder) / "then.binpb"
        generate.image(generate.PROTOS, now)
        released = _export(_last_release(), Path(folder) / "then")
        generate.image(released, then)
        lint = subprocess.run([BUF, "lint", now, "--config", CONFIG], check=False).returncode
        breaking = subprocess.run([BUF, "breaking", now, "--config", CONFIG, "--against", then], check=False).returncode
    return 1 if lint or breaking else 0


def _last_release() -> str:
    """The newest tag that this commit comes from, else the commit itself."""
    described = _git("describe", "--tags", "--abbrev=0", check=False)
    return described.stdout.decode().strip() or "HEAD"


def _export(commit: str, folder: Path) -> Path:
    """The folder of the protos as they were at `commit`."""
    archive = _git("archive", commit, "protos").stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "protos"


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=generate.PROTOS.parent, capture_output=True, check=check)


if __name__ == "__main__":
    sys.exit(main())
