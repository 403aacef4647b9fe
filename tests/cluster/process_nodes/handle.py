"""Process nodes, as a test holds them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from groundswell.engines.children import log_end
from tests.cluster.control_plane.handle import ROOT, ControlPlane, NotStarted
from tests.cluster.process_nodes import images
from tests.cluster.process_nodes.images import FolderImage

STOP_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class ProcessNodes:
    """A running agent."""

    folder: Path
    pid: int

    def refusals(self) -> list[str]:
        """Every connection to a ClusterIP that was reset, a line each."""
        file = self.folder / "refusals.log"
        return file.read_text().splitlines() if file.exists() else []

    def logs(self, lines: int = 15) -> str:
        """The end of what the agent and each life of each container have said."""
        files = [self.folder / "agent.log", *sorted((self.folder / "pods").glob("*/logs/*.log"))]
        return "\n".join(f"--- {file.relative_to(self.folder)}\n{log_end(file, lines)}" for file in files)


@contextmanager
def running(
    plane: ControlPlane, folder: Path, named: Mapping[str, FolderImage], *, nodes: int = 2, name: str = "process-node"
) -> Iterator[ProcessNodes]:
    """Nodes `<name>-<number>` on which pods with these images run; they and their processes end with the block. Raises `NotStarted`."""
    images.save(named, folder / "images.json")
    command = [sys.executable, "-m", "tests.cluster.process_nodes.agent", f"--kubeconfig={plane.kubeconfig}"]
    command += [f"--images={folder / 'images.json'}", f"--folder={folder}", f"--nodes={nodes}", f"--name={name}"]
    with (folder / "agent.log").open("ab") as log:
        agent = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert agent.stdin
    assert agent.stdout
    try:
        if agent.stdout.readline() != "ready\n":
            raise NotStarted(log_end(folder / "agent.log"))
        yield ProcessNodes(folder, agent.pid)
    finally:
        agent.stdin.close()
        try:
            agent.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            agent.kill()
            raise
