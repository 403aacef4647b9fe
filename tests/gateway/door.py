"""A whole door for tests: a real upstream over gRPC, a real journal, a real public port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
from aiokafka.errors import KafkaConnectionError
from google.api import httpbody_pb2
from google.protobuf import empty_pb2

from groundswell.engines import ports
from groundswell.gateway.clients import Upstreams
from groundswell.gateway.events import Views
from groundswell.gateway.http import console, descriptors
from groundswell.gateway.http.application import Application
from groundswell.gateway.http.openapi import document
from groundswell.gateway.http.places import Stay
from groundswell.gateway.http.routes import RouteTable
from groundswell.gateway.http.server import PublicPort
from groundswell.gateway.model.answers import NearCache
from groundswell.gateway.model.visitors import Visitors, crawler_patterns
from groundswell.gateway.module import CRAWLERS
from groundswell.gateway.service.answers import Answers
from groundswell.gateway.service.patience import Patience
from groundswell.gateway.settings import GatewaySettings
from groundswell.kernel import access, errors, pagination, rpc, tenants
from groundswell.kernel.bus import frames
from groundswell.kernel.clock import SystemClock
from groundswell.kernel.context import Context
from groundswell.kernel.rpc.client import Signer
from tests.gateway.compiled import library
from tests.gateway.wire import Wire

pb, pb_grpc = library()

KEY = b"k" * 32
SECRET = "gsk_1_good"
READER = "gsk_2_reader"
Check = Callable[[str], Awaitable[access.Credential]]
ALICE = Context(tenant=7, actor="apiKeys/1", permissions=frozenset({"library.*"}))
BOB = Context(tenant=8, actor="apiKeys/2", permissions=frozenset({"library.read"}))


async def check(secret: str) -> access.Credential:
    holders = {SECRET: access.Credential(1, ALICE, None), READER: access.Credential(2, BOB, None)}
    if secret not in holders:
        raise access.InvalidCredential
    return holders[secret]


class BookNotFound(errors.NotFound):
    def __init__(self) -> None:
        super().__init__("There is no such book.")


FAILURES: dict[str, errors.Error] = {
    "unprocessable": errors.Unprocessable("This title is taken by a ghost.", field="book.title"),
    "gone": errors.Gone("The book was burnt."),
    "taken": errors.AlreadyExists("There is such a book."),
    "conflict": errors.Conflict("Somebody else changed it."),
    "precondition": errors.FailedPrecondition("The book is lent."),
    "exhausted": errors.Exhausted("Too many books.", retry_after_s=2.2),
    "unavailable": errors.Unavailable("The shelf is being moved.", retry_after_s=0.2),
    "denied": errors.Denied("Not for you."),
    "late": errors.DeadlineExceeded("Too late."),
}


@dataclass
class Library(pb_grpc.LibraryServiceServicer):  # type: ignore[misc,name-defined]  # compiled when the test starts
    """Remembers its calls; fails when the last part of a name says so."""

    calls: list[Any] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    locations: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0
    position: str = ""
    down: bool = False

    async def _take(self, request: Any, call: rpc.Call, name: str = "") -> None:
        self.calls.append(request)
        self.contexts.append(call.context)
        if call.context.reached is not None:
            call.context.reached.position = self.position
        await asyncio.sleep(self.delay_s)
        if self.down:
            raise errors.Unavailable("The library is closed.")
        last = name.rpartition("/")[2]
        if last == "bug":
            raise KeyError("secret internals")
        if last in FAILURES:
            raise FAILURES[last]
        if last == "missing":
            raise BookNotFound

    async def CreateBook(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.book.title)
        book = pb.Book()
        book.CopyFrom(request.book)
        book.name = f"{request.parent}/books/1"
        return book

    async def GetBook(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.name)
        return pb.Book(name=request.name, title=f"Title {len(self.calls)}", pages=2**40, secret="hidden")

    async def ListBooks(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.parent)
        pagination.size(request.page_size)
        return pb.ListBooksResponse(
            books=[pb.Book(title="A" * 3000)] if request.page_size == 3000 else [], echo=request
        )

    async def UpdateBook(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.book.name)
        changed = pb.Book(title="kept")
        changed.MergeFrom(request.book)
        return changed

    async def MoveBook(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.name)
        return pb.Book(name=request.name, title=request.shelf)

    async def DeleteBook(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.name)
        return empty_pb2.Empty()

    async def GetTitle(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.name)
        return pb.Book(title="Momo")

    async def ReadFile(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call)
        return httpbody_pb2.HttpBody(content_type="text/plain", data=request.path.encode())

    async def StoreFile(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call)
        return pb.Book(title=request.path, cover=request.content.data, note=request.content.content_type and None)

    async def AuditBook(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.name)
        return pb.Book(title="audited")

    async def WatchBooks(self, request: Any, call: rpc.Call) -> AsyncIterator[Any]:
        await self._take(request, call)
        if request.count < 0:
            raise errors.Invalid("count must not be negative.", field="count")
        for number in range(request.count or 1_000_000):
            yield pb.Book(title="tick\ntock", pages=number)
            if not request.count:
                await asyncio.sleep(0.01)

    async def AuditAll(self, request: Any, call: rpc.Call) -> Any:
        return empty_pb2.Empty()

    async def FollowCode(self, request: Any, call: rpc.Call) -> Any:
        await self._take(request, call, request.code)
        found = self.locations.get(request.code)
        if found is None:
            raise BookNotFound
        answer = pb.FollowCodeResponse(host=request.host, code=request.code, item=42, tenant=7)
        answer.MergeFrom(found)
        return answer

    async def FollowCounted(self, request: Any, call: rpc.Call) -> Any:
        return await self.FollowCode(request, call)


class Log:
    """A log of frames that keeps what it is sent; stands in for the broker where Kafka is not what is tested."""

    def __init__(self) -> None:
        self.rows = 0
        self.users: set[int] = set()
        self.up = True

    async def send(self, partition: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        if not self.up:
            raise KafkaConnectionError("the log is away")
        columns = frames.decode(value, headers).columns
        self.rows += columns.num_rows
        self.users |= set(columns.column("user").to_pylist())

    async def close(self) -> None:
        pass


class Service:
    """The library's server, which a test may stop and start again."""

    def __init__(self, serve: Callable[[], AbstractAsyncContextManager[object]]) -> None:
        self._serve = serve
        self._served = AsyncExitStack()

    async def start(self) -> None:
        await self._served.enter_async_context(self._serve())

    async def stop(self) -> None:
        await self._served.aclose()

    async def __aenter__(self) -> None:
        await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


class Rested(SystemClock):
    """The clocks of a machine that has slept for an hour since it was started."""

    def lasting_s(self) -> float:
        return super().lasting_s() + 3_600


@dataclass
class Door:
    """What a test holds of a running door."""

    url: str
    port: int
    client: httpx.AsyncClient
    library: Library
    answers: Answers
    application: Application
    public: PublicPort
    log: Log
    lag_s: list[float]
    suspended: set[int]
    verifier: access.Verifier
    channel: grpc.aio.Channel
    """To the library itself, past the door."""
    service: Service

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """GET with Alice's key."""
        return await self.client.get(path, headers={"authorization": f"Bearer {SECRET}", **headers})

    async def raw(self, request: bytes, *, timeout_s: float = 5.0) -> bytes:
        """What comes back for bytes on the wire, until the server closes or `timeout_s` is over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        received = b""
        try:
            async with asyncio.timeout(timeout_s):
                while chunk := await reader.read(65_536):
                    received += chunk
                    if b"\r\n\r\n" in received and b"connection: close" not in received.lower():
                        break
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
        return received


@asynccontextmanager
async def opened(
    folder: Path,
    config: GatewaySettings | None = None,
    services: Any = None,
    journal_bytes: int = 1 << 20,
    sender: frames.Sender | None = None,
    wire: Wire | None = None,
    check: Check = check,
) -> AsyncIterator[Door]:
    """A door in front of a library, on a port of its own; its rows go to `sender`, else to the door's own log.

    A `wire` lies between the two; `check` knows the keys.
    """
    Signer.key = KEY
    rpc_port, port = ports.draw(2)
    config = replace(config or GatewaySettings(drain_accept_s=0.05), address=f"127.0.0.1:{port}")
    upstream, log = Library(), Log()
    table = RouteTable(services or {"library": [pb.DESCRIPTOR.services_by_name["LibraryService"]]})
    verifier = access.Verifier(check)
    lag_s = [0.0]
    journal = frames.Journal(folder / "journal", 4, bytes_max=journal_bytes, segment_bytes=journal_bytes // 4)
    producer = frames.FrameProducer(journal, sender or log, frames.FrameSettings())
    producer.start()
    directory = tenants.Directory()
    address = f"127.0.0.1:{rpc_port}"
    service = Service(lambda: rpc.serve([upstream], address, KEY, verifier, directory.refuse_suspended))
    async with service, rpc.channel(await wire.open(address) if wire else address) as channel:
        patience, clock = Patience(SystemClock()), Rested()
        cache = NearCache(config.cache_bytes_max)
        answers = Answers(cache, patience, clock, lambda: lag_s[0], config.feed_lag_s_max, directory.suspended)
        views = Views(producer, Visitors(KEY, crawler_patterns(CRAWLERS.read_text())), clock)
        application = Application(
            table=table,
            upstreams=Upstreams(lambda module: channel),
            verifier=verifier,
            refuse=directory.refuse_suspended,
            answers=answers,
            patience=patience,
            views=views,
            config=config,
            openapi=document(table),
            files=console.load(Path(config.console)),
            stay=Stay(descriptors.room(config.connections_max)),
        )
        public = PublicPort(application, config)
        serving = asyncio.create_task(public.run())
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=10) as client:
                await _listening(client, serving)
                suspended = directory.suspended
                yield Door(
                    url, port, client, upstream, answers, application, public, log, lag_s, suspended, verifier, channel, service
                )  # fmt: skip
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await producer.close(1.0)


async def _listening(client: httpx.AsyncClient, serving: asyncio.Task[None]) -> None:
    async with asyncio.timeout(5):
        while not serving.done():
            try:
                await client.get("/healthz")
                return
            except httpx.TransportError:
                await asyncio.sleep(0.01)
    serving.result()
