"""An install of the chart, tried out: every process of the image with the environment that the chart gives it, all started at once.

Hosts of the cluster become addresses of this machine, one a process, and `/data` a folder; ports, secrets, arguments and programs are
the chart's. Not tried out: containers and their user, names of a cluster, and what network policies deny.
"""

import asyncio
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.analytics.test_late_engines import known
from tests.cluster.chart import FEW_VISITORS, Object, Rendered, render, visitors
from tests.cluster.dockerfile import Image
from tests.cluster.engines import Engines

START_S_MAX = 120.0
HOST = re.compile(r"groundswell-(\w+)\.groundswell\.svc\.cluster\.local")
OPS, HTTP = 9400, 8080
READERS = ("analytics.live", "analytics.writer")
"""Groups that join before their topic is there; the others wait for theirs."""


@dataclass
class Namespace:
    """What stands in for the cluster: where its hosts are, and the processes that run."""

    image: Image
    rendered: Rendered
    engines: Mapping[str, str]
    folder: Path
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(256)}"
        door = next(name for name, each in self.rendered.processes().items() if "gateway" in _args(each))
        names = [*self.rendered.processes()]
        self.hosts = {name: f"{net}.{number}" for number, name in enumerate(names, 1)}
        self.hosts["door"] = self.hosts[door]

    def here(self, text: str) -> str:
        return HOST.sub(lambda host: self.hosts[host[1]], text)

    async def start(self, name: str, workload: Object) -> None:
        """Starts the container of a workload as a kubelet would."""
        (data := self.folder / name).mkdir(parents=True)
        given = {
            variable: self.engines.get(variable) or self.here(self.looked_up(text))
            for variable, text in self.rendered.environment(workload).items()
        }
        if "GROUNDSWELL_DATA" in given:
            assert given["GROUNDSWELL_DATA"] == "/data"
            given["GROUNDSWELL_DATA"] = str(data)
        given = {key: text.replace("0.0.0.0:", f"{self.hosts.get(name)}:") for key, text in given.items()}
        self.running[name] = await self.container(self.image.command(*_args(workload)), given)

    async def container(self, command: Sequence[str], given: dict[str, str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command, env=self.image.environment() | given, cwd=self.image.workdir
        )

    def looked_up(self, text: str) -> str:
        """What `secret/key` names, where there is such a Secret."""
        name, _, key = text.partition("/")
        for secret in self.rendered.of("Secret"):
            if secret["metadata"]["name"] == name:
                return str(secret["stringData"][key])
        return text

    async def answers(self, name: str, probe: str) -> None:
        """Waits until the probe of a process passes."""
        (container,) = self.rendered.processes()[name]["spec"]["template"]["spec"]["containers"]
        url = f"http://{self.hosts[name]}:{OPS}{container[probe]['httpGet']['path']}"
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(START_S_MAX):
            while not await _passes(client, url):
                assert self.running[name].returncode is None, f"{name} ended while it started"
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Ends what runs, as a kubelet would; all of it must end by itself and well."""
        for process in self.running.values():
            if process.returncode is None:
                process.terminate()
        ended = {name: await process.wait() for name, process in self.running.items()}
        assert set(ended.values()) == {0}, ended


@asynccontextmanager
async def installed(image: Image, rendered: Rendered, folder: Path) -> AsyncIterator[Namespace]:
    """Everything of an install in the order that is hardest: processes, then engines, and topics only when all who read them wait."""
    engines = Engines(folder / "engines")
    namespace = Namespace(image, rendered, engines.addresses(), folder / "data")
    job = rendered.preparation()
    try:
        for name, workload in rendered.processes().items():
            await namespace.start(name, workload)
        for name in rendered.processes():
            await namespace.answers(name, "livenessProbe")
        await engines.start()
        for group in READERS:
            await known(engines.kafka.address, group)
        await namespace.start("prepare", job)
        assert await asyncio.wait_for(namespace.running["prepare"].wait(), START_S_MAX) == 0
        for name in rendered.processes():
            await namespace.answers(name, "readinessProbe")
        yield namespace
        await namespace.stop()
    finally:
        for process in namespace.running.values():
            if process.returncode is None:
                process.kill()
        await engines.stop()


async def test_an_install_comes_up_whatever_starts_first_and_writes_nothing_into_its_image(
    image: Image, loadtests_image: Image, tmp_path: Path
) -> None:
    """Goal: no order of starts is needed, and a read-only root is enough. Method: `installed`, then a link from its making to its count,
    then the visitors of the load tests' chart."""
    rendered, before, loading = render({}), image.files(), loadtests_image.files()
    async with installed(image, rendered, tmp_path) as namespace:
        test = rendered.one("Pod", "groundswell-test")["spec"]["containers"][0]
        python = shutil.which(test["command"][0], path=image.environment()["PATH"])
        assert python is not None
        asked = [namespace.here(each) for each in (*test["command"][1:], *test["args"])]
        assert await (await namespace.container([python, *asked], {})).wait() == 0, "helm test"
        await used(f"http://{namespace.hosts['door']}:{HTTP}", rendered)
        assert await loaded(namespace, loadtests_image) == 0
        assert await loaded(namespace, loadtests_image, domain="elsewhere.example") == 1, "the door refuses that"
    assert image.files() == before
    assert loadtests_image.files() == loading
    assert any((tmp_path / "data" / "gateway" / "journal").iterdir()), "journals lie where the volume is mounted"


async def used(door: str, rendered: Rendered) -> None:
    """A link is made with the key of the chart's Secret on the chart's domain, opened, and counted."""
    data = rendered.one("ConfigMap", "groundswell-config")["data"]
    key = rendered.one("Secret", "groundswell-keys")["stringData"]["api-key"]
    api = {"Host": data["LINKS_BASE_DOMAIN"], "Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=door, trust_env=False, headers=api) as client:
        made = await client.post("/v1/links", json={"destination": "https://example.com/a"})
        link = made.raise_for_status().json()
        assert f":{data['LINKS_PUBLIC_PORT']}/{link['code']}" in str(link)
        visit = await client.get(f"/{link['code']}", headers={"Host": link["domain"]})
        assert (visit.status_code, visit.headers["location"]) == (302, "https://example.com/a")
        async with asyncio.timeout(START_S_MAX):
            while (await client.get(f"/v1/{link['name']}")).json().get("clickCount") != "1":
                await asyncio.sleep(0.1)
        assert (await client.get("/", headers={"Host": data["LINKS_BASE_DOMAIN"]})).status_code == 200, "the console"


async def loaded(namespace: Namespace, image: Image, **door: str) -> int:
    """The verdict of the load tests' job, with a few visitors who come to the install's door."""
    url = f"http://{namespace.hosts['door']}:{HTTP}"
    rendered = visitors({"door": {"url": url, **door}, "load": FEW_VISITORS})
    (job,) = rendered.of("Job")
    given = {name: namespace.looked_up(text) for name, text in rendered.environment(job).items()}
    process = await asyncio.create_subprocess_exec(
        *image.command(*_args(job)), env=image.environment() | given, cwd=image.workdir
    )
    try:
        return await asyncio.wait_for(process.wait(), START_S_MAX)
    finally:
        if process.returncode is None:
            process.kill()


async def _passes(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.TransportError:
        return False


def _args(workload: Object) -> list[str]:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return list(container["args"])
