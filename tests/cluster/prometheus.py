"""A Prometheus on loopback that scrapes what it is told to and evaluates the chart's rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from groundswell.engines import ports
from tests.cluster.control_plane.api import until
from tests.cluster.observed import RULES
from tests.cluster.tools.families import Shelf

EVERY = "1s"
"""How often it scrapes and evaluates."""
START_S_MAX = 60.0


@dataclass(frozen=True)
class Prometheus:
    """Its API."""

    client: httpx.AsyncClient

    async def ask(self, expression: str) -> list[dict[str, str]]:
        """The labels of each sample that an expression has now; raises what Prometheus says against it."""
        told = await self._get("query", query=expression)
        return [sample["metric"] for sample in told["result"]]

    async def rules(self) -> list[dict[str, Any]]:
        """Each rule with its `health` and `lastError`."""
        return [rule for group in (await self._get("rules"))["groups"] for rule in group["rules"]]

    async def targets(self) -> list[dict[str, Any]]:
        """Each target with its `health` and `lastError`."""
        found: list[dict[str, Any]] = (await self._get("targets", state="active"))["activeTargets"]
        return found

    async def _get(self, what: str, **query: str) -> dict[str, Any]:
        answer = (await self.client.get(f"/api/v1/{what}", params=query)).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        data: dict[str, Any] = answer["data"]
        return data


@asynccontextmanager
async def scraping(monitoring: Shelf, folder: Path, addresses: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """One that reads `addresses`, `host:port` by the name that becomes the label `pod`; returns once it has read all."""
    address = f"127.0.0.1:{ports.draw(1)[0]}"
    with (folder / "prometheus.log").open("wb") as log:
        server = await asyncio.create_subprocess_exec(
            monitoring.path("prometheus"),
            f"--config.file={_configuration(folder, addresses)}",
            f"--storage.tsdb.path={folder / 'blocks'}",
            f"--web.listen-address={address}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=30, trust_env=False) as client:
            made = Prometheus(client)

            async def read() -> bool:
                assert server.returncode is None, (folder / "prometheus.log").read_text()
                try:
                    if (await client.get("/-/ready")).is_error:
                        return False
                except httpx.TransportError:
                    return False
                targets = await made.targets()
                return len(targets) == len(addresses) and all(each["health"] == "up" for each in targets)

            await until(read, START_S_MAX)
            yield made
    finally:
        server.terminate()
        await server.wait()


def _configuration(folder: Path, addresses: Mapping[str, str]) -> Path:
    targets = [{"targets": [address], "labels": {"pod": pod}} for pod, address in addresses.items()]
    value = {
        "global": {"scrape_interval": EVERY, "evaluation_interval": EVERY},
        "rule_files": [str(each) for each in RULES],
        "scrape_configs": [{"job_name": "groundswell", "static_configs": targets}],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(value))
    return file
