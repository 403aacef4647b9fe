"""How operator and bridge find the API server in a pod, where a kubelet keeps their token new."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from groundswell_operator.applying import connecting
from groundswell_operator.applying.errors import Refused
from groundswell_operator.applying.requests import Pace, Requests
from tests.cluster.forms import slow
from tests.cluster.operating import ACCOUNT, Operated


def mounted(place: Operated, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """The operator's account as a pod has it; returns the file of its token."""
    said = json.loads(place.kubeconfigs[ACCOUNT].read_text())
    cluster, token = said["clusters"][0]["cluster"], folder / "token"
    (folder / "ca.crt").write_bytes(Path(cluster["certificate-authority"]).read_bytes())
    token.write_text(said["users"][0]["user"]["token"] + "\n")
    server = urlsplit(cluster["server"])
    patch.setenv("KUBERNETES_SERVICE_HOST", server.hostname or "")
    patch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    patch.delenv("KUBECONFIG", raising=False)
    return token


@slow
async def test_a_pod_asks_by_number_with_the_token_that_its_account_has_at_that_moment(
    place: Operated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a token that ends within the hour stops nothing. Method: one that is none is put in its place, and then the right one again."""
    token = mounted(place, tmp_path, monkeypatch)
    right, autoscalers = token.read_text(), place.path("autoscaling/v2", "horizontalpodautoscalers")
    async with connecting.session("in-test", tmp_path) as session:
        requests = Requests(session, Pace())
        assert "items" in await requests.get(autoscalers)
        token.write_text("none")
        with pytest.raises(Refused):
            await requests.get(autoscalers)
        token.write_text(right)
        assert "items" in await requests.get(autoscalers)
