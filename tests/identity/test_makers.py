"""Who made a key: what a tenant is told of the keys that act for it, also of those that staff of the platform made and that are gone.

Goal: staff act in a tenant only by a key, and no key is without its maker. Method: the edge of identity over a real database, asked as
staff, as the tenant and as a stranger; each test has a tenant of its own.
"""

import itertools

import asyncpg
import pytest

from groundswell.api.identity.v1 import identity_pb2 as pb
from groundswell.identity import model
from groundswell.identity.errors import TenantNotFound
from groundswell.identity.rpc import ApiKeyRpc
from groundswell.identity.service import ApiKeys
from groundswell.kernel import errors, ids, postgres, rpc
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import key_of
from tests.clocks import HeldClock

STAFF = Context(tenant=1, actor="apiKeys/7", permissions=frozenset({"*", "platform.*"}))
SUPPORT = "tenants/1/apiKeys/7"
NUMBERS = itertools.count(4_000)
CREATED, REVOKED = pb.ApiKeyAct.CREATED, pb.ApiKeyAct.REVOKED


class EveryTenant:
    """Tenancy's answer to staff: each tenant is there."""

    async def require(self, context: Context, tenant: int) -> None:
        if not context.allows("platform.tenants.read"):
            raise TenantNotFound


class Drawn(ids.Ids):
    """Draws the numbers that it is given."""

    def __init__(self, now: HeldClock, *numbers: int) -> None:
        super().__init__(now)
        self._numbers = list(numbers)

    def next(self, shard: int | None = None) -> int:
        return self._numbers.pop(0)


@pytest.fixture
def keys(database: postgres.Database, now: HeldClock) -> ApiKeys:
    return ApiKeys(database, EveryTenant(), ids.Ids(now), now)


@pytest.fixture
def server(keys: ApiKeys) -> ApiKeyRpc:
    return ApiKeyRpc(keys, b"k" * 32)


@pytest.fixture
def owner() -> Context:
    return Context(tenant=next(NUMBERS), actor="apiKeys/9", permissions=frozenset({"*"}))


async def create(server: ApiKeyRpc, caller: Context, tenant: int | None = None, **fields: object) -> pb.ApiKey:
    request = pb.CreateApiKeyRequest(api_key=pb.ApiKey(scopes=["links.read"], **fields))  # type: ignore[arg-type]  # any of its fields
    if tenant is not None:
        request.tenant = f"tenants/{tenant}"
    return (await server.CreateApiKey(request, rpc.Call(caller, key_of("CreateApiKey", request)))).api_key


async def revoke(server: ApiKeyRpc, caller: Context, name: str) -> None:
    request = pb.DeleteApiKeyRequest(name=name)
    await server.DeleteApiKey(request, rpc.Call(caller, key_of("DeleteApiKey", request)))


async def listed(server: ApiKeyRpc, caller: Context) -> list[pb.ApiKey]:
    request = pb.ListApiKeysRequest()
    return list((await server.ListApiKeys(request, rpc.Call(caller, key_of("ListApiKeys", request)))).api_keys)


async def acts_of(server: ApiKeyRpc, caller: Context, page_size: int = 0) -> list[pb.ApiKeyAct]:
    """All acts that the caller is told of, page by page."""
    found: list[pb.ApiKeyAct] = []
    request = pb.ListApiKeyActsRequest(page_size=page_size)
    while True:
        answer = await server.ListApiKeyActs(request, rpc.Call(caller, key_of("ListApiKeyActs", request)))
        found += answer.api_key_acts
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


@pytest.mark.promise("TENANCY-3")
async def test_a_tenant_sees_which_keys_staff_made_in_it_and_which_its_own_did(
    server: ApiKeyRpc, owner: Context
) -> None:
    own = await create(server, owner)
    staffs = await create(server, STAFF, owner.tenant)
    assert (own.maker, own.made_by_staff) == (f"tenants/{owner.tenant}/apiKeys/9", False)
    assert (staffs.maker, staffs.made_by_staff) == (SUPPORT, True)
    assert await listed(server, owner) == [staffs, own]


@pytest.mark.promise("TENANCY-3")
async def test_who_made_and_who_revoked_a_key_is_told_after_it_is_gone(
    server: ApiKeyRpc, owner: Context, now: HeldClock
) -> None:
    """What a key of staff's does in turn is told of that key, which leads on to staff."""
    made_ms, staffs = now.at_ms, await create(server, STAFF, owner.tenant)
    intruder = Context(owner.tenant, staffs.name, frozenset({"*"}))
    now.at_ms += 1_000
    next_key = await create(server, intruder)
    now.at_ms += 1_000
    await revoke(server, owner, staffs.name)
    assert [each.name for each in await listed(server, owner)] == [next_key.name]
    told = await acts_of(server, owner)
    assert [(each.kind, each.api_key, each.actor, each.by_staff) for each in told] == [
        (REVOKED, staffs.name, f"tenants/{owner.tenant}/apiKeys/9", False),
        (CREATED, next_key.name, f"tenants/{owner.tenant}/{staffs.name}", False),
        (CREATED, staffs.name, SUPPORT, True),
    ]
    assert [each.act_time.ToMilliseconds() - made_ms for each in told] == [2_000, 1_000, 0]
    assert await acts_of(server, owner, page_size=1) == told


@pytest.mark.promise("TENANCY-3")
async def test_a_foreign_tenant_is_told_of_nothing_that_was_done_here(server: ApiKeyRpc, owner: Context) -> None:
    """Neither is the one whose staff did it."""
    made = await create(server, STAFF, owner.tenant)
    for stranger in (Context(next(NUMBERS), "apiKeys/9", frozenset({"*"})), STAFF):
        assert made.name not in {each.api_key for each in await acts_of(server, stranger)}
    assert [each.api_key for each in await acts_of(server, owner)] == [made.name]


@pytest.mark.promise("TENANCY-3")
async def test_no_caller_says_who_the_maker_is(server: ApiKeyRpc, owner: Context) -> None:
    """What a request says of it is passed over, from the tenant as from staff."""
    forged = await create(server, owner, maker=SUPPORT, made_by_staff=True)
    hidden = await create(server, STAFF, owner.tenant, maker=f"tenants/{owner.tenant}/apiKeys/9", made_by_staff=False)
    assert (forged.maker, forged.made_by_staff) == (f"tenants/{owner.tenant}/apiKeys/9", False)
    assert (hidden.maker, hidden.made_by_staff) == (SUPPORT, True)


@pytest.mark.promise("TENANCY-3")
@pytest.mark.parametrize("change", ["UPDATE key_acts SET actor = 'tenants/2/apiKeys/2'", "DELETE FROM key_acts"])
async def test_what_was_done_to_a_key_can_be_neither_changed_nor_removed(
    server: ApiKeyRpc, database: postgres.Database, owner: Context, change: str
) -> None:
    """Not by the very role of identity's processes, in the tenant's own transaction. The control: the key itself may change."""
    await create(server, STAFF, owner.tenant)
    before = await acts_of(server, owner)
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
        async with database.tenant_tx(owner) as tx:
            await tx.execute(change)
    assert await acts_of(server, owner) == before != []
    async with database.tenant_tx(owner) as tx:
        assert await tx.execute("UPDATE api_keys SET display_name = 'changed'") == 1


@pytest.mark.promise("TENANCY-3")
async def test_no_key_is_made_and_none_ends_where_it_can_not_be_told_of(
    server: ApiKeyRpc, database: postgres.Database, owner: Context, now: HeldClock
) -> None:
    """Key and act are one transaction: where another act has the number that is drawn, neither is there."""
    kept = await create(server, owner)
    taken = int((await acts_of(server, owner))[0].name.removeprefix("apiKeyActs/"))
    creating = ApiKeyRpc(ApiKeys(database, EveryTenant(), Drawn(now, next(NUMBERS), taken), now), b"k" * 32)
    revoking = ApiKeyRpc(ApiKeys(database, EveryTenant(), Drawn(now, taken), now), b"k" * 32)
    with pytest.raises(asyncpg.UniqueViolationError):
        await create(creating, STAFF, owner.tenant)
    with pytest.raises(asyncpg.UniqueViolationError):
        await revoke(revoking, owner, kept.name)
    assert await listed(server, owner) == [kept]


async def test_the_first_key_of_an_installation_is_made_by_the_platform_once(
    keys: ApiKeys, server: ApiKeyRpc, owner: Context
) -> None:
    first = f"gsk_{next(NUMBERS)}_{'s' * 43}={owner.tenant}"
    for _ in range(3):
        await keys.found([first])
    assert [(each.maker, each.made_by_staff) for each in await listed(server, owner)] == [("services/identity", False)]
    assert [(each.kind, each.actor) for each in await acts_of(server, owner)] == [(CREATED, "services/identity")]


async def test_a_key_from_before_makers_were_recorded_has_none_and_works(
    keys: ApiKeys, server: ApiKeyRpc, database: postgres.Database, owner: Context
) -> None:
    """Also where it is a first key, which each start gives its secret again; only its revocation is told."""
    number = next(NUMBERS)
    secret = f"gsk_{number}_{'s' * 43}"
    parts = model.parts_of(secret)
    assert parts is not None
    async with database.tenant_tx(owner) as tx:
        await tx.execute("INSERT INTO key_tenants (id, tenant_id) VALUES ($1, $2)", number, owner.tenant)
        await tx.execute(
            "INSERT INTO api_keys (tenant_id, id, secret_hash, display_name, scopes, created_ms) VALUES ($1, $2, $3, '', $4, 0)",
            owner.tenant,
            number,
            parts[1],
            ["*"],
        )
    await keys.found([f"{secret}={owner.tenant}"])
    assert [(each.maker, each.made_by_staff) for each in await listed(server, owner)] == [("", False)]
    assert (await keys.verify(secret)).id == number
    assert await acts_of(server, owner) == []
    await revoke(server, owner, f"apiKeys/{number}")
    assert [each.kind for each in await acts_of(server, owner)] == [REVOKED]


async def test_the_token_of_another_tenants_acts_leads_nowhere(server: ApiKeyRpc, owner: Context) -> None:
    for _ in range(2):
        await create(server, owner)
    request = pb.ListApiKeyActsRequest(page_size=1)
    answer = await server.ListApiKeyActs(request, rpc.Call(owner, key_of("ListApiKeyActs", request)))
    stolen = pb.ListApiKeyActsRequest(page_token=answer.next_page_token)
    with pytest.raises(errors.Invalid):
        await server.ListApiKeyActs(stolen, rpc.Call(STAFF, key_of("ListApiKeyActs", stolen)))
