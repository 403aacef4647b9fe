"""The RPC edge over real sockets: what a caller sees of access, contexts, errors and deadlines."""

import asyncio
import socket
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf import empty_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from groundswell.api.analytics.v1 import analytics_pb2, live_pb2, live_pb2_grpc
from groundswell.api.identity.v1 import identity_pb2 as pb
from groundswell.api.identity.v1 import identity_pb2_grpc
from groundswell.identity.errors import KeyNotFound
from groundswell.kernel import access, errors, rpc
from groundswell.kernel.context import Context
from groundswell.kernel.rpc import status, wire
from groundswell.kernel.rpc.client import Signer

KEY = b"k" * 32
ALICE = Context(tenant=7, actor="apiKeys/1", permissions=frozenset({"identity.*"}))


class TooManyKeys(errors.Exhausted):
    pass


class NoSuchTenant(errors.Unprocessable):
    pass


class Keys(identity_pb2_grpc.ApiKeyServiceServicer):
    """A servicer that answers with what it was told, and fails as it is asked to."""

    def __init__(self) -> None:
        self.calls: list[rpc.Call] = []

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, call: rpc.Call) -> pb.CreateApiKeyResponse:
        match request.tenant:
            case "invalid":
                raise errors.Invalid("The name is too long.", field="api_key.display_name")
            case "exhausted":
                raise TooManyKeys("You have enough keys.", retry_after_s=2.5)
            case "gone":
                raise errors.Gone("It was here.")
            case quoted if quoted.startswith("quoted "):
                raise NoSuchTenant(f"There is no tenant {quoted!r}.", field="tenant")
            case "bug":
                raise KeyError("secret internals")
        self.calls.append(call)
        return pb.CreateApiKeyResponse(secret=f"{call.context.tenant} {call.context.actor}")

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, call: rpc.Call) -> pb.ListApiKeysResponse:
        return pb.ListApiKeysResponse()

    async def DeleteApiKey(self, request: pb.DeleteApiKeyRequest, call: rpc.Call) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    async def ListApiKeyActs(self, request: pb.ListApiKeyActsRequest, call: rpc.Call) -> pb.ListApiKeyActsResponse:
        return pb.ListApiKeyActsResponse()

    async def VerifyApiKey(self, request: pb.VerifyApiKeyRequest, call: rpc.Call) -> pb.VerifyApiKeyResponse:
        return pb.VerifyApiKeyResponse(key_id=call.context.tenant)


async def check(secret: str) -> access.Credential:
    if secret != "gsk_1_good":
        raise access.InvalidCredential
    return access.Credential(1, ALICE, None)


@pytest.fixture
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    Signer.key = KEY
    async with rpc.serve([Keys()], address, KEY, access.Verifier(check)), rpc.channel(address) as made:
        yield made


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> identity_pb2_grpc.ApiKeyServiceStub:
    return identity_pb2_grpc.ApiKeyServiceStub(channel)


async def create(stub: identity_pb2_grpc.ApiKeyServiceStub, tenant: str = "", context: Context = ALICE) -> str:
    answer = await rpc.call(stub.CreateApiKey, pb.CreateApiKeyRequest(tenant=tenant), context)
    return str(answer.secret)


async def test_the_context_arrives_as_it_was_sent(stub: identity_pb2_grpc.ApiKeyServiceStub) -> None:
    assert await create(stub) == "7 apiKeys/1"


async def test_errors_arrive_with_their_fields_reason_and_waiting_time(
    stub: identity_pb2_grpc.ApiKeyServiceStub,
) -> None:
    with pytest.raises(errors.Invalid, match="too long") as invalid:
        await create(stub, "invalid")
    assert invalid.value.fields == (errors.FieldViolation("api_key.display_name", "The name is too long."),)
    with pytest.raises(errors.Exhausted) as exhausted:
        await create(stub, "exhausted")
    assert (exhausted.value.reason, exhausted.value.retry_after_s) == ("TOO_MANY_KEYS", 2.5)
    with pytest.raises(errors.Gone):
        await create(stub, "gone")


async def test_what_an_error_quotes_of_the_caller_is_cut_so_that_the_error_arrives(
    stub: identity_pb2_grpc.ApiKeyServiceStub,
) -> None:
    """gRPC takes 16 KB of headers; beyond that it sends another error in the place of ours. Each letter here is three bytes, and nine
    where gRPC writes it into a header."""
    with pytest.raises(errors.Unprocessable) as refused:
        await create(stub, "quoted " + "あ" * 100_000)
    assert refused.value.reason == "NO_SUCH_TENANT"
    assert refused.value.message.endswith("…")
    assert len(refused.value.fields[0].description) <= len(refused.value.message) <= errors.MESSAGE_LENGTH_MAX


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED]
)
def test_words_of_grpcs_own_are_told_to_nobody(code: grpc.StatusCode) -> None:
    error = status.from_status(status_pb2.Status(code=code.value[0], message="Stream removed (received metadata)"))
    assert "Stream" not in error.message


async def test_a_mistake_of_ours_tells_nothing_of_its_insides(stub: identity_pb2_grpc.ApiKeyServiceStub) -> None:
    with pytest.raises(errors.Error) as mistake:
        await create(stub, "bug")
    assert "secret internals" not in mistake.value.message
    assert type(mistake.value) is errors.Error


async def test_a_caller_without_the_permission_is_refused(stub: identity_pb2_grpc.ApiKeyServiceStub) -> None:
    with pytest.raises(errors.Denied, match=r"identity\.apiKeys\.create"):
        await create(stub, context=Context(tenant=7, permissions=frozenset({"links.*"})))
    with pytest.raises(errors.Unauthenticated):
        await create(stub, context=Context())


@pytest.mark.promise("TENANCY-3")
async def test_a_forged_context_is_refused(stub: identity_pb2_grpc.ApiKeyServiceStub) -> None:
    """A caller that does not hold the internal key cannot name its own tenant."""
    forged = wire.encode(ALICE, b"x" * 32)
    for signed in (forged, forged[:16] + wire.encode(Context(tenant=8), KEY)[16:], b"", b"short"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CreateApiKey(pb.CreateApiKeyRequest(), metadata=((wire.CONTEXT, signed),))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_bearer_key_is_checked_where_no_gateway_stands_before(
    stub: identity_pb2_grpc.ApiKeyServiceStub,
) -> None:
    answer = await stub.CreateApiKey(pb.CreateApiKeyRequest(), metadata=(("authorization", "Bearer gsk_1_good"),))
    assert answer.secret == "7 apiKeys/1"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.CreateApiKey(pb.CreateApiKeyRequest(), metadata=(("authorization", "Bearer gsk_1_bad"),))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_internal_methods_are_closed_to_credentials(stub: identity_pb2_grpc.ApiKeyServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.VerifyApiKey(pb.VerifyApiKeyRequest(), metadata=(("authorization", "Bearer gsk_1_good"),))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.promise("IDENTITY-15")
async def test_an_unmarked_method_keeps_the_server_from_starting(address: str) -> None:
    """A missing rule is a mistake, not a default."""

    class HealthServicer(health_pb2_grpc.HealthServicer):
        async def Check(self, request: object, call: rpc.Call) -> object: ...

    with pytest.raises(access.UnmarkedMethod, match=r"Health\.Check"):
        async with rpc.serve([HealthServicer()], address, KEY, access.Verifier(check)):
            pass


async def test_health_and_reflection_answer(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="groundswell.api.identity.v1.ApiKeyService")
    answer = await health.Check(request)  # type: ignore[attr-defined]  # its stubs name no methods
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


class Silent(live_pb2_grpc.LiveServiceServicer):
    """A stream that never ends by itself."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def WatchLive(
        self, request: live_pb2.WatchLiveRequest, call: rpc.Call
    ) -> AsyncIterator[analytics_pb2.LiveMetrics]:
        self.asked.set()
        await asyncio.Event().wait()
        yield analytics_pb2.LiveMetrics()


async def test_a_server_that_stops_ends_its_streams_and_does_not_wait_for_them(address: str) -> None:
    """What is cut off when the grace is over, during which nothing else is served, has another error."""
    Signer.key = KEY
    silent = Silent()
    async with rpc.channel(address) as channel:
        async with rpc.serve([silent], address, KEY, access.Verifier(check)):
            metadata = ((wire.CONTEXT, wire.encode(ALICE, KEY)),)
            stream = live_pb2_grpc.LiveServiceStub(channel).WatchLive(live_pb2.WatchLiveRequest(), metadata=metadata)
            reading = asyncio.create_task(stream.read())
            await silent.asked.wait()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await reading
    assert status.error_from(ended.value).message == errors.Stopping().message


async def test_an_absent_server_is_unavailable_within_the_time(address: str) -> None:
    Signer.key = KEY
    async with rpc.channel(address) as nobody:
        with pytest.raises((errors.Unavailable, errors.DeadlineExceeded)):
            await rpc.call(
                identity_pb2_grpc.ApiKeyServiceStub(nobody).ListApiKeys,
                pb.ListApiKeysRequest(),
                ALICE,
                timeout_s=0.5,
                idempotent=True,
            )


@pytest.mark.parametrize(("spent", "tries"), [(0.1, 2), (0.9, 1)], ids=["time is left", "too late"])
async def test_what_failed_is_tried_once_more_only_where_there_is_time_for_it(spent: float, tries: int) -> None:
    """Else a caller hears that its time is over, and neither why nor when to come again."""
    tried: list[float] = []

    async def method(request: object, *, timeout: float, metadata: object) -> object:
        tried.append(timeout)
        await asyncio.sleep(2.0 * spent if len(tried) == 1 else 0)
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())

    Signer.key = KEY
    with pytest.raises(errors.Unavailable):
        await rpc.call(method, pb.ListApiKeysRequest(), ALICE, timeout_s=2.0, idempotent=True)
    assert len(tried) == tries


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(253_402_300_800, 0), (-62_135_596_801, 0), (1 << 62, 0), (0, -1), (0, 1_000_000_000)]
)
def test_a_time_that_no_answer_could_tell_is_refused(seconds: int, nanos: int) -> None:
    """Over gRPC any 64-bit second comes in; kept in a row, it would break every list that shows the row."""
    key = pb.ApiKey(expire_time=Timestamp(seconds=seconds, nanos=nanos))
    with pytest.raises(errors.Invalid, match="must be a time in the years 1 to 9999"):
        rpc.moment_ms(key, "expire_time", "api_key.")


def test_a_time_is_told_in_milliseconds_and_an_unset_one_as_none() -> None:
    key = pb.ApiKey(expire_time=Timestamp(seconds=253_402_300_799, nanos=999_999_999))
    assert rpc.moment_ms(key, "expire_time") == 253_402_300_799_999
    assert rpc.moment_ms(pb.ApiKey(), "expire_time") is None


@pytest.mark.parametrize(
    "name", ["apiKeys/07", "apiKeys/", "apiKeys/-1", "apiKeys/\u0661", "apiKeys/9223372036854775808", "links/7", "7"]
)
def test_a_name_has_one_spelling(name: str) -> None:
    with pytest.raises(KeyNotFound):
        rpc.id_of(name, "apiKeys", KeyNotFound)
    assert rpc.id_of("apiKeys/7", "apiKeys", KeyNotFound) == 7
