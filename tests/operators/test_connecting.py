"""Where the API server is not said, or not rightly: a sentence, and what is said in a pod."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundswell_operator.applying import connecting
from groundswell_operator.settings import SettingMissing

CONFIG = "{current-context: here, contexts: [{name: here, context: {cluster: one, user: me}}], "


def test_without_a_file_or_an_account_it_is_said_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(SettingMissing, match="KUBECONFIG must say where"):
        connecting.connection(tmp_path)


@pytest.mark.parametrize("text", [None, "[", "{}", "just words", CONFIG + "clusters: []}", CONFIG + "clusters: 7}"])
def test_a_file_that_says_nothing_of_use_is_told_of(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(SettingMissing, match="KUBECONFIG must name files"):
        connecting.connection()


@pytest.mark.parametrize(
    ("host", "address"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_a_pod_needs_no_name_server_to_find_the_api_server(
    host: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("a-token\n")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = connecting.connection(tmp_path)
    assert found.server == address
    assert found.as_http_headers() == {"Authorization": "Bearer a-token"}
