"""Who this process is, and to which API server: as kopf reads it, so that its watches and our requests are of one mind."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import kopf
import yaml

from groundswell_operator.settings import SettingMissing

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Of the pod; a kubelet puts a new token there before the old one ends."""

KEPT_S = 75.0
"""How long a connection may rest: calm passes are 60 s apart, and the raise after a calm is to find theirs; API servers end them after
90 s."""


def connection(account: Path = ACCOUNT) -> kopf.ConnectionInfo:
    """Whom KUBECONFIG names, else the pod's service `account`; raises `SettingMissing` where there is neither."""
    settings = kopf.OperatorSettings()
    if os.environ.get("KUBECONFIG"):
        try:
            named = kopf.login_with_kubeconfig(settings=settings)
            if named is not None and named.server:
                named.as_ssl_context()
                return named
        except (OSError, LookupError, TypeError, AttributeError, ValueError, yaml.YAMLError, kopf.LoginError) as error:
            raise SettingMissing(f"KUBECONFIG must name files that say where the API server is: {error!r}") from error
    elif (account / "token").exists():
        return kopf.ConnectionInfo(server=_address(), ca_path=account / "ca.crt", token=_token(account))
    raise SettingMissing("KUBECONFIG must say where the API server is, unless this is a pod with a service account")


def _token(account: Path) -> str:
    return (account / "token").read_text().strip()


def _address() -> str:
    """The API server by its number, as every pod is told: nobody has to resolve a name."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    return f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else "https://kubernetes.default.svc"


@asynccontextmanager
async def session(identity: str, account: Path = ACCOUNT) -> AsyncIterator[aiohttp.ClientSession]:
    """Requests to the API server; the token of a service `account` is read anew for each."""
    at = connection(account)
    is_account = not os.environ.get("KUBECONFIG")

    async def authorized(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        who = dataclasses.replace(at, token=_token(account)) if is_account else at
        request.headers.update(who.as_http_headers())
        return await handler(request)

    async with aiohttp.ClientSession(
        at.server.rstrip("/") + "/",
        proxy=at.proxy_url,
        connector=aiohttp.TCPConnector(ssl=at.as_ssl_context(), keepalive_timeout=KEPT_S),
        headers={"User-Agent": f"groundswell-operator/{identity}"},
        middlewares=[authorized],
    ) as made:
        yield made
