"""ClickHouse behind HTTP, as far as the driver asks for it: the embedded engine in a process of its own, for many clients.

No package registry has a ClickHouse server of these years. The engine that stores, deduplicates and answers is the real one; only the
reading of the requests is ours, so what is proven with it is what several processes do to one store, not the server's own HTTP.

While the file FOLDER.hold lies there, statements wait that are given the value `held`; each that waits or works has a file in FOLDER.held.

`python -m tests.analytics.clickhouse_server FOLDER PORT`
"""

import ctypes
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import clickhouse_connect
from clickhouse_connect.driver import exceptions
from clickhouse_connect.driver._backend.contracts import SyncBackend
from clickhouse_connect.driver._backend.models import QueryRuntime
from clickhouse_connect.driver._backendclient import SyncBackendClient

from groundswell.engines.children import PR_SET_PDEATHSIG

INSERT = re.compile(r"INSERT INTO (\S+) \((.*)\) FORMAT (\w+)\s*", re.DOTALL)
ASIDE = frozenset(
    {"query", "database", "session_id", "query_id", "compress", "client_protocol_version", "default_format"}
)
"""Parameters of a request that are no settings; those of transport do nothing here."""


class Requests(BaseHTTPRequestHandler):
    """The requests of one connection, in order."""

    protocol_version = "HTTP/1.1"
    folder = ""
    _local = threading.local()

    def do_POST(self) -> None:
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self._body()
        try:
            answer = self._insert(given, body) if "query" in given and body else self._ask(given, body.decode())
            self._reply(200, answer, {})
        except exceptions.DatabaseError as error:
            code = str(getattr(error, "code", None) or 0)
            self._reply(500, f"Code: {code}. {error}".encode(), {"X-ClickHouse-Exception-Code": code})

    do_GET = do_POST  # noqa: N815  # the name is the library's

    def log_message(self, format: str, *values: object) -> None:
        """Says nothing."""

    def _insert(self, given: dict[str, str], body: bytes) -> bytes:
        found = INSERT.fullmatch(given["query"])
        assert found is not None, given["query"]
        names = [name.strip().strip("`") for name in found[2].split(",")]
        self._engine().raw_insert(found[1], names, body, settings=_settings(given), fmt=found[3])
        return b""

    def _ask(self, given: dict[str, str], body: str) -> bytes:
        bound = {name: value for name, value in given.items() if name.startswith("param_")}
        backend: SyncBackend = self._engine()._backend  # below the driver's own binding: these values are text already
        with _held(self.folder, bound):
            return backend.execute_raw_query(
                given.get("query", body), bound, None, QueryRuntime(settings=_settings(given)), None
            )

    def _engine(self) -> SyncBackendClient:
        if not hasattr(self._local, "engine"):
            self._local.engine = clickhouse_connect.get_client(dsn=f"chdb://{self.folder}")
        engine: SyncBackendClient = self._local.engine
        return engine

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"X-ClickHouse-Summary": json.dumps({"read_rows": "0"})} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def _held(folder: str, bound: Mapping[str, str]) -> Iterator[None]:
    if not any("'held'" in value for value in bound.values()):
        yield
        return
    here = Path(f"{folder}.held", str(threading.get_native_id()))
    here.parent.mkdir(exist_ok=True)
    here.touch()
    while Path(f"{folder}.hold").exists():
        time.sleep(0.02)
    try:
        yield
    finally:
        here.unlink()


def _settings(given: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name not in ASIDE and not name.startswith("param_")}


if __name__ == "__main__":
    if sys.platform == "linux":  # it ends with the session that wanted it, however that ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    Requests.folder = sys.argv[1]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Requests).serve_forever()
