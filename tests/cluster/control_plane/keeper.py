"""Starts a control plane in a temporary folder, says where it is, and keeps it: `python -m tests.cluster.control_plane.keeper`.

It is a process of its own so that nothing is left behind whatever becomes of a test session: it ends its processes and removes its folder
at SIGTERM, at Ctrl-C, when one of its processes dies (an API server without its etcd would stay for ever), and, with
`--until-stdin-closes`, when the process that started it is gone. Should it be killed itself, the kernel ends its processes, and the next
keeper removes the folder. At SIGUSR1 it kills the API server and starts another one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import psutil
import yaml

from groundswell.engines import ports, running
from groundswell.engines.children import POLL_S, Child, log_end
from groundswell.engines.errors import EngineError
from tests.cluster.control_plane.api import Api, Object, until
from tests.cluster.control_plane.components import CONTROLLERS, Component, Plan, Ports
from tests.cluster.tools.families import shelf

PREFIX = "groundswell-control-plane-"
NODES = 20
ZONES = 3
READY_S_MAX = 60.0
PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "StorageClass": "storageclasses",
}
NODE_CAPACITY = {"cpu": "32", "memory": "256Gi", "pods": "110"}
_HERE = Path(__file__).parent


@asynccontextmanager
async def started(plan: Plan, nodes: int) -> AsyncIterator[dict[str, Child]]:
    """The running processes by name, once every node is ready and takes pods; they end in the reverse order of their start."""
    children: dict[str, Child] = {}
    async with AsyncExitStack() as stack:

        async def stop(name: str) -> None:
            await children[name].stop()

        async def start(component: Component) -> None:
            child = children[component.name] = Child(component.launch())
            stack.push_async_callback(stop, component.name)
            await running.until_healthy(component, child)

        await start(plan.etcd())
        await start(plan.api_server())  # the others give up when it does not answer
        api = await stack.enter_async_context(Api(plan.address, plan.identity()))
        for each in yaml.safe_load_all((_HERE / "simulation.yaml").read_text()):
            await api.create(f"/apis/{each['apiVersion']}/{PLURALS[each['kind']]}", each)
        async with asyncio.TaskGroup() as group:
            for component in (plan.controller_manager(), plan.scheduler(), plan.kwok()):
                group.create_task(start(component))
            for number in range(nodes):
                group.create_task(api.create("/api/v1/nodes", _node(number)))
        await until(lambda: _ready(api, nodes), READY_S_MAX)
        yield children


async def _ready(api: Api, nodes: int) -> bool:
    """Whether every node takes pods, and a pod would find the account that it runs under unless it names another."""
    found = await api.items("/api/v1/nodes")
    accounts = await api.items("/api/v1/namespaces/default/serviceaccounts")
    return sum(map(_takes_pods, found)) == nodes and any(each["metadata"]["name"] == "default" for each in accounts)


def _takes_pods(node: Object) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


def _node(number: int) -> Object:
    name = f"node-{number}"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": f"zone-{number % ZONES}",
    }
    status = {"capacity": NODE_CAPACITY, "allocatable": NODE_CAPACITY}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


async def keep(nodes: int, api_port: int | None, controllers: str, until_stdin_closes: bool) -> None:
    """Runs one until it shall end; raises `EngineError` when it cannot start, or one of its processes ended by itself."""
    _end_with_signals(until_stdin_closes)
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as folder:
        etcd, peers, api, *others = ports.draw(6)
        plan = Plan(Path(folder), shelf(), Ports(etcd, peers, api_port or api, *others), controllers)
        async with started(plan, nodes) as children:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _start_anew, plan.api_server(), children)
            print(json.dumps(_described(plan, folder, children)), flush=True)
            await _until_one_ends(children)


def _start_anew(component: Component, children: dict[str, Child]) -> None:
    """Kills a process as the kernel would, and puts another one into its place."""
    killed = children[component.name]
    killed.kill()
    while killed.exit_code is None:  # so that no look in between finds it ended
        time.sleep(POLL_S)
    children[component.name] = Child(component.launch())


def _end_with_signals(until_stdin_closes: bool) -> None:
    """Cancels the current task at the first reason to end; a second one would cut its cleaning up short."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task
    reasons = (signal.SIGTERM, signal.SIGINT)

    def end() -> None:
        for number in reasons:
            loop.add_signal_handler(number, lambda: None)
        loop.remove_reader(sys.stdin)
        task.cancel()

    for number in reasons:
        loop.add_signal_handler(number, end)
    if until_stdin_closes:
        loop.add_reader(sys.stdin, end)


def _described(plan: Plan, folder: str, children: dict[str, Child]) -> dict[str, object]:
    """What a user of the control plane has to know."""
    return {
        "folder": folder,
        "address": plan.address,
        "etcd": plan.etcd().address,
        "KUBECONFIG": str(plan.kubeconfig),
        "pids": {name: child.pid for name, child in children.items()},
    }


async def _until_one_ends(children: dict[str, Child]) -> None:
    while True:
        for name, child in children.items():
            if child.exit_code is not None:
                raise EngineError(
                    f"{name} ended with code {child.exit_code}. Its log ends with:\n{log_end(child.launch.log)}"
                )
        await asyncio.sleep(POLL_S * 10)


def _sweep() -> None:
    """Removes the folders of keepers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.control_plane.keeper", description=__doc__)
    parser.add_argument("--nodes", type=int, default=NODES, help=f"simulated nodes ({NODES})")
    parser.add_argument("--api-port", type=int, help="where the API server listens; drawn unless given")
    parser.add_argument(
        "--controllers", choices=list(CONTROLLERS), default="hastened", help="how quick the controller manager is"
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with who holds the other end")
    options = parser.parse_args()
    if missing := shelf().missing():
        print(f"{missing[0][1]} is not built: run `make cluster-tools`", file=sys.stderr)
        return 1
    code = 0
    try:
        with suppress(asyncio.CancelledError):
            asyncio.run(keep(options.nodes, options.api_port, options.controllers, options.until_stdin_closes))
    except* (EngineError, TimeoutError, OSError) as errors:
        print(*errors.exceptions, sep="\n", file=sys.stderr)
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
