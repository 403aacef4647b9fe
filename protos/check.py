"""Holds the protos against buf's STANDARD rules, and against the last release for changes that would break a client.

buf sees compiled descriptors rather than files, because it would fetch the imports of files from the network. The last release is the
newest image that `make release` has kept; what came after it has no client yet, and may change.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import generate
import releasing

BUF = generate.PROTOS / "node_modules" / ".bin" / "buf"
CONFIG = generate.PROTOS / "buf.yaml"


def main() -> int:
    then = releasing.newest()
    with tempfile.TemporaryDirectory() as folder:
        now = Path(folder) / "now.binpb"
        generate.image(generate.PROTOS, now)
        lint = subprocess.run([BUF, "lint", now, "--config", CONFIG], check=False).returncode
        breaking = subprocess.run([BUF, "breaking", now, "--config", CONFIG, "--against", then], check=False).returncode
    if breaking:
        print(f"What {then.stem} promised its clients must stay: give the change another field, message or version.")
    return 1 if lint or breaking else 0


if __name__ == "__main__":
    sys.exit(main())
