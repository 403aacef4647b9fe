"""A home, the operator that acts upon it, and the spikes that it is told of."""

from __future__ import annotations

import copy
import json
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiokafka import AIOKafkaProducer
from google.protobuf.message import Message

from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell_operator.bridge.records import TOPIC, object_name
from groundswell_operator.policies import Object
from tests.engines.homes import Platform

POLICY: Object = {
    "apiVersion": "groundswell.dev/v1alpha1",
    "kind": "ViralSpikePolicy",
    "metadata": {"name": "default"},
    "spec": {
        "mode": "Enforce",
        "actions": [
            {"name": "readers", "order": 0, "scale": {"targetRef": {"kind": "Deployment", "name": "links"}, "multiplier": 3, "max": 50}}
        ],
        "cooldown": {"quietPeriod": "1s", "stepFactor": 0.5, "stepInterval": "1s", "minHold": "1s"},
    },
}  # fmt: skip
QUIET_S_MAX = 60.0


@dataclass
class Laptop:
    """One home with a policy for the spikes of one tenant, which is nobody else's."""

    platform: Platform
    kafka: str
    tenant: str = field(default_factory=lambda: f"tenant-{secrets.token_hex(4)}")
    identifier: str = field(default_factory=lambda: secrets.token_hex(8))
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.platform.home / "policy.yaml"

    @property
    def spike_name(self) -> str:
        return object_name("default", self.identifier)

    def write_policy(self, annotations: Mapping[str, str] | None = None, **changes: Any) -> None:
        """The policy with some members of its spec changed."""
        value = copy.deepcopy(dict(POLICY))
        value["spec"] |= {"match": {"tenants": [self.tenant]}, **changes}
        value["metadata"] |= {"annotations": dict(annotations or {})}
        draft = self.file.with_suffix(".new")
        draft.write_text(yaml.safe_dump(value))
        draft.replace(self.file)

    def start(self, module: str = "groundswell_operator", *words: str) -> subprocess.Popen[bytes]:
        """The operator, beside what runs."""
        verb = ["laptop"] if module == "groundswell_operator" else []
        with (self.platform.home / "logs" / "operator.log").open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, "-m", module, *verb, f"--home={self.platform.home}", *words, str(self.file)],
                stdout=log,
                stderr=log,
            )
        self.started.append(made)
        return made

    def end(self) -> None:
        """Nothing of it is left."""
        for each in self.started:
            if each.poll() is None:
                each.send_signal(signal.SIGTERM)
                try:
                    each.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    each.kill()
                    each.wait()

    async def publish(self, kind: type[Message], level: Spike.Level.ValueType = Spike.VIRAL) -> None:
        """What the log says of the one spike of this laptop."""
        spike = Spike(
            name=f"spikes/{self.identifier}",
            tenant=self.tenant,
            kind="link",
            item="links/7",
            level=level,
            projected_views_hour=1_000_000,
        )
        spike.detected_time.GetCurrentTime()
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
        await producer.start()
        try:
            headers = [("ce_type", kind.DESCRIPTOR.full_name.encode())]
            body = kind(spike=spike, sequence=1).SerializeToString()
            await producer.send_and_wait(TOPIC, body, partition=0, headers=headers)
        finally:
            await producer.stop()

    def spike(self) -> Object:
        """As the book has it; empty while it does not."""
        try:
            found: Object = json.loads((self.platform.home / "spikes.json").read_text())["spikes"].get(
                self.spike_name, {}
            )
        except FileNotFoundError:
            return {}
        return found

    def phase(self) -> str:
        return str(self.spike().get("status", {}).get("phase", ""))

    def wanted(self) -> int:
        return self.platform.state().replicas["links"].desired

    def ordered(self) -> list[int]:
        """All numbers of replicas that the operator asked the supervisor for, in their order."""
        text = (self.platform.home / "logs" / "supervisor.log").read_text()
        return [int(number) for number in re.findall(r"links: (\d+) wanted by groundswell-spike", text)]

    def log(self) -> str:
        return (self.platform.home / "logs" / "operator.log").read_text()

    def wait_for(self, condition: Any) -> None:
        """With what the operator said when it was waited for in vain."""
        ends_s = time.monotonic() + QUIET_S_MAX
        while not condition():
            assert time.monotonic() < ends_s, f"waited in vain: {self.spike()}\n{self.log()}"
            time.sleep(0.02)
