"""What can be set, from the environment of the pod. Outside of one KUBECONFIG says where the API server is."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class SettingMissing(Exception):
    """A variable of the environment is missing or is not what it must be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of all commands."""

    namespace: str
    """GROUNDSWELL_NAMESPACE: whose policies and spikes are acted upon; the pod's own."""
    identity: str
    """GROUNDSWELL_IDENTITY: who this process is in the Lease and in the API server's log; the pod's name."""
    port: int
    """GROUNDSWELL_HEALTH_PORT: where /healthz, /readyz and /metrics are; 8080."""
    bind: str
    """GROUNDSWELL_HEALTH_BIND: the address for them; all of the pod's."""
    kafka: str
    """KAFKA_BOOTSTRAP_SERVERS: for the bridge only."""
    bridge: str
    """GROUNDSWELL_BRIDGE: the name of the bridge's Deployment, which a release stops first; empty where there is none."""
    deployment: str
    """GROUNDSWELL_DEPLOYMENT: the name of this process's own Deployment, with which its Lease goes; empty where there is none."""
    log_level: str
    """GROUNDSWELL_LOG_LEVEL: DEBUG, INFO, WARNING or ERROR."""

    @classmethod
    def of(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings in an environment; raises `SettingMissing`."""
        env = os.environ if environment is None else environment
        if not env.get("GROUNDSWELL_NAMESPACE"):
            raise SettingMissing("GROUNDSWELL_NAMESPACE must name the namespace whose spikes are acted upon")
        port = env.get("GROUNDSWELL_HEALTH_PORT", "8080")
        if not port.isdigit():
            raise SettingMissing("GROUNDSWELL_HEALTH_PORT must be a port, such as 8080")
        level = env.get("GROUNDSWELL_LOG_LEVEL", "INFO")
        if level not in LEVELS:
            raise SettingMissing(f"GROUNDSWELL_LOG_LEVEL must be one of {', '.join(LEVELS)}")
        return cls(
            namespace=env["GROUNDSWELL_NAMESPACE"],
            identity=env.get("GROUNDSWELL_IDENTITY") or f"{socket.gethostname()}-{os.getpid()}",
            port=int(port),
            bind=env.get("GROUNDSWELL_HEALTH_BIND", ""),
            kafka=env.get("KAFKA_BOOTSTRAP_SERVERS", ""),
            bridge=env.get("GROUNDSWELL_BRIDGE", ""),
            deployment=env.get("GROUNDSWELL_DEPLOYMENT", ""),
            log_level=level,
        )
