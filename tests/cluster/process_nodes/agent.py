"""The agent: `python -m tests.cluster.process_nodes.agent`. Says "ready" once its nodes take pods, and ends when its standard input does.

Whatever becomes of it, its pods' processes end with it: the kernel kills them when it dies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import ssl
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import uvloop

from tests.cluster.control_plane.api import Api, Object, Refused, until
from tests.cluster.process_nodes import images, nodes
from tests.cluster.process_nodes.addresses import PodAddresses
from tests.cluster.process_nodes.doors import Doors
from tests.cluster.process_nodes.names import NameServer, Services
from tests.cluster.process_nodes.pods import House, PodRun
from tests.cluster.process_nodes.volumes import Volumes
from tests.cluster.process_nodes.watching import Reflector

log = logging.getLogger(__name__)

NODE_S_MAX = 30.0


class Pods:
    """Every pod that is bound to one of the nodes, running."""

    def __init__(self, house: House, names: frozenset[str]) -> None:
        self._house, self._names = house, names
        self._runs: dict[str, PodRun] = {}
        """By `namespace/name`: a name may be taken again by another pod, once the first is gone."""
        self._tasks: set[asyncio.Task[None]] = set()

    def heard(self, key: str, pod: Object | None) -> None:
        """The API server tells of a pod, or that it is gone."""
        run = self._runs.get(key)
        if run is not None and (pod is None or pod["metadata"]["uid"] != run.uid):
            self._runs.pop(key).vanish()
            run = None
        if pod is None or pod["spec"].get("nodeName") not in self._names:
            return
        if run is None:
            run = self._runs[key] = PodRun(self._house, pod)
            task = asyncio.create_task(self._run(key, run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        run.update(pod)

    async def _run(self, key: str, run: PodRun) -> None:
        try:
            await run.run()
        except Exception:  # one pod's trouble is not the others'
            log.exception("the pod %s is given up", key)

    async def stop(self) -> None:
        """Kills what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def serve(options: argparse.Namespace) -> None:
    """Registers the nodes and runs their pods until it is cancelled."""
    told = json.loads(options.kubeconfig.read_text())
    async with _api(told) as api, asyncio.TaskGroup() as group:
        slices = Reflector(api, "/apis/discovery.k8s.io/v1/endpointslices")
        behind = Services(Reflector(api, "/api/v1/services"), slices)
        doors = Doors(behind, options.folder / "refusals.log")
        behind.services.changed = lambda *_: doors.note()
        names = [f"{options.name}-{number}" for number in range(options.nodes)]
        volumes = Volumes(api, options.folder, Path(told["clusters"][0]["cluster"]["certificate-authority"]))
        name_server = await NameServer(behind).start()
        house = House(api, images.load(options.images), volumes, PodAddresses(), behind, name_server)
        pods = Pods(house, frozenset(names))
        watching = Reflector(api, "/api/v1/pods", pods.heard)
        try:
            for number, name in enumerate(names):
                await nodes.register(api, name, number)
                group.create_task(nodes.keep(api, name))
            for work in (behind.services.run(), slices.run(), watching.run(), doors.run()):
                group.create_task(work)
            await until(lambda: _take_pods(api, names), NODE_S_MAX)
            print("ready", flush=True)
            await asyncio.Event().wait()
        finally:
            await pods.stop()
            for name in names:  # or the scheduler would go on choosing them
                with suppress(Refused, httpx.HTTPError):
                    await api.delete(f"/api/v1/nodes/{name}")


async def _take_pods(api: Api, names: list[str]) -> bool:
    found = [await api.get(f"/api/v1/nodes/{name}") for name in names]
    return not any(each["spec"].get("taints") for each in found)


def _api(told: Object) -> Api:
    """Requests as who the kubeconfig names."""
    cluster, user = told["clusters"][0]["cluster"], told["users"][0]["user"]
    identity = ssl.create_default_context(cafile=cluster["certificate-authority"])
    identity.load_cert_chain(user["client-certificate"], user["client-key"])
    return Api(cluster["server"], identity)


async def _until_told(options: argparse.Namespace) -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task

    def end() -> None:
        """Once: what is closed stays readable, and would cut short what the end has to do."""
        loop.remove_reader(sys.stdin)
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_reader(sys.stdin, end)
    await serve(options)


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.process_nodes.agent", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="in JSON, with files for certificates")
    parser.add_argument("--images", type=Path, required=True, help="a file of `images.save`")
    parser.add_argument("--folder", type=Path, required=True, help="volumes, logs and refusals")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--name", default="process-node", help="what the nodes' names begin with")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_told(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
