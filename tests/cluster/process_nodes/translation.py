"""What containers are told, put into the terms of this machine: its folders, its loopback addresses, the agent's name server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.process_nodes.addresses import local
from tests.cluster.process_nodes.names import Services

DOMAIN = "svc.cluster.local"
_HOST = re.compile(rf"(?<![\w.-])([a-z0-9-]+)\.([a-z0-9-]+)\.{re.escape(DOMAIN)}(?![\w.-])")


@dataclass(frozen=True)
class Translation:
    """For one container: where its mounts are, which address is its pod's, and who knows names."""

    mounts: Mapping[str, Path]
    """Folders by mount path."""
    address: str
    """The pod's, as the cluster knows it."""
    services: Services
    name_server: str
    """`host:port`."""

    def here(self, text: str) -> str:
        """The text for a process of this machine."""
        named = _HOST.sub(self._host, text)
        return self._path(named).replace("0.0.0.0:", f"{local(self.address)}:")

    def _path(self, text: str) -> str:
        for mount in sorted(self.mounts, key=len, reverse=True):
            if text == mount or text.startswith(f"{mount}/"):
                return f"{self.mounts[mount]}{text.removeprefix(mount)}"
        return text

    def _host(self, match: re.Match[str]) -> str:
        """A name as it is where no Service has it: then it is known to nobody, as in a cluster."""
        address = self.services.cluster_address(f"{match[2]}/{match[1]}")
        if address is None:
            return match[0]
        if address:
            return local(address)
        is_in_url = match.string[: match.start()].endswith("/")
        return match[0] if is_in_url else f"dns://{self.name_server}/{match[0]}"
