"""API keys: what a secret opens, what scopes may be given, and how a key ends."""

import pytest

from groundswell.api.identity.v1 import identity_pb2 as pb
from groundswell.identity import model
from groundswell.identity.errors import ExpiryPast, KeyNotFound, ScopeNotHeld, ScopesInvalid, TenantNotFound
from groundswell.identity.rpc import ApiKeyRpc
from groundswell.identity.service import ApiKeys
from groundswell.kernel import ids, postgres, rpc
from groundswell.kernel.access import InvalidCredential
from groundswell.kernel.context import Context
from groundswell.kernel.idempotency import RequestIdReused, RequestKey, key_of
from tests.clocks import HeldClock

STAFF = Context(tenant=1, actor="apiKeys/1", permissions=frozenset({"*", "platform.*"}))
OWNER = Context(tenant=20, actor="apiKeys/9", permissions=frozenset({"*"}))
WRITER = Context(tenant=20, actor="apiKeys/10", permissions=frozenset({"links.*", "identity.apiKeys.create"}))
FIRST_SECRET = "gsk_77_" + "s" * 43


class KnownTenants:
    """Tenancy's answer for a caller: tenants 1 and 20 exist."""

    async def require(self, context: Context, tenant: int) -> None:
        if tenant not in {1, 20}:
            raise TenantNotFound


@pytest.fixture
def keys(database: postgres.Database, now: HeldClock) -> ApiKeys:
    return ApiKeys(database, KnownTenants(), ids.Ids(now), now)


async def test_a_new_secret_opens_its_tenant_with_its_scopes(keys: ApiKeys) -> None:
    key, secret = await keys.create(OWNER, None, "robot", ["links.*", "analytics.read"], None)
    assert await keys.verify(secret) == key
    assert (key.tenant, key.scopes) == (20, ("links.*", "analytics.read"))


async def test_the_database_does_not_hold_the_secret(keys: ApiKeys, database: postgres.Database) -> None:
    """IDENTITY-11, as far as keys go: a dump shows nothing that opens a door."""
    _, secret = await keys.create(OWNER, None, "robot", ["*"], None)
    async with database.tenant_tx(OWNER) as tx:
        dump = str([tuple(row) for row in await tx.fetch("SELECT * FROM api_keys")])
    assert secret.rpartition("_")[2] not in dump


async def test_every_wrong_secret_gets_the_same_answer(keys: ApiKeys, now: HeldClock) -> None:
    key, secret = await keys.create(OWNER, None, "robot", ["*"], now.at_ms + 1_000)
    with pytest.raises(InvalidCredential):
        await keys.verify(secret.replace("gsk_", "gsk_0"))
    wrong = [
        secret[:-1] + ("0" if secret[-1] != "0" else "1"),
        "gsk_1_x",
        f"gsk_{key.id + 1}_" + "a" * 64,
        "gsk_" + "9" * 19 + "_" + "a" * 64,
        "",
        "x",
    ]
    now.at_ms += 2_000
    messages = set()
    for each in [secret, *wrong]:
        with pytest.raises(InvalidCredential) as refused:
            await keys.verify(each)
        messages.add(refused.value.message)
    assert len(messages) == 1


@pytest.mark.promise("IDENTITY-5")
async def test_a_revoked_key_opens_nothing_and_the_news_leaves_with_it(
    keys: ApiKeys, database: postgres.Database
) -> None:
    key, secret = await keys.create(OWNER, None, "robot", ["*"], None)
    await keys.revoke(OWNER, key.id, RequestKey())
    with pytest.raises(InvalidCredential):
        await keys.verify(secret)
    async with database.platform_tx() as tx:
        assert await tx.fetchval("SELECT count(*) FROM outbox WHERE key = $1", f"key/{key.id}".encode()) == 1
    with pytest.raises(KeyNotFound):
        await keys.revoke(OWNER, key.id, RequestKey())


@pytest.mark.promise("GATEWAY-11")
async def test_a_revocation_that_is_asked_for_again_gets_the_answer_that_it_got(
    keys: ApiKeys, database: postgres.Database
) -> None:
    """Whoever lost the answer and asks again under the same id does not hear that there is no such key; nothing is told twice. Another key
    under that id is refused and lives on; without an id, or under another one, a revoked key is not found."""
    server, (key, _), (other, secret) = (
        ApiKeyRpc(keys, b"k" * 32),
        await keys.create(OWNER, None, "robot", ["*"], None),
        await keys.create(OWNER, None, "another", ["*"], None),
    )

    async def delete(name: int, request_id: str) -> None:
        request = pb.DeleteApiKeyRequest(name=f"apiKeys/{name}", request_id=request_id)
        await server.DeleteApiKey(request, rpc.Call(OWNER, key_of("DeleteApiKey", request)))

    for _ in range(3):
        await delete(key.id, "once")
    async with database.platform_tx() as tx:
        assert await tx.fetchval("SELECT count(*) FROM outbox WHERE key = $1", f"key/{key.id}".encode()) == 1
    with pytest.raises(RequestIdReused):
        await delete(other.id, "once")
    assert await keys.verify(secret) == other
    for request_id in ("", "later"):
        with pytest.raises(KeyNotFound):
            await delete(key.id, request_id)


@pytest.mark.parametrize("scopes", [[], ["links create"], ["*.links"], ["LINKS"], [""], ["l" * 101], ["links.*"] * 51])
async def test_what_is_no_scope_is_refused(keys: ApiKeys, scopes: list[str]) -> None:
    with pytest.raises(ScopesInvalid):
        await keys.create(OWNER, None, "", scopes, None)


@pytest.mark.parametrize("scope", ["*", "analytics.read", "identity.*", "platform.*", "platform.tenants.create"])
async def test_nobody_gives_more_than_he_holds(keys: ApiKeys, scope: str) -> None:
    with pytest.raises(ScopeNotHeld):
        await keys.create(WRITER, None, "", [scope], None)


async def test_staff_makes_keys_for_other_tenants_but_none_of_the_platform(keys: ApiKeys) -> None:
    key, secret = await keys.create(STAFF, 20, "", ["*"], None)
    assert (await keys.verify(secret)).tenant == 20 == key.tenant
    with pytest.raises(ScopeNotHeld):
        await keys.create(STAFF, 20, "", ["platform.*"], None)
    with pytest.raises(TenantNotFound):
        await keys.create(STAFF, 555, "", ["*"], None)


@pytest.mark.promise("TENANCY-3")
async def test_a_tenant_neither_makes_nor_ends_another_ones_keys(keys: ApiKeys) -> None:
    key, _ = await keys.create(STAFF, 20, "", ["*"], None)
    stranger = Context(tenant=21, permissions=frozenset({"*"}))
    with pytest.raises(TenantNotFound):
        await keys.create(stranger, 20, "", ["*"], None)
    with pytest.raises(KeyNotFound):
        await keys.revoke(stranger, key.id, RequestKey())
    assert key.id not in [each.id for each in await keys.page(stranger, 1 << 62, 100)]


async def test_an_expiry_must_lie_ahead(keys: ApiKeys, now: HeldClock) -> None:
    with pytest.raises(ExpiryPast):
        await keys.create(OWNER, None, "", ["*"], now.at_ms)


async def test_the_first_keys_of_an_installation_are_made_once_and_hold_everything_of_their_tenant(
    keys: ApiKeys,
) -> None:
    for _ in range(2):
        await keys.found([f"{FIRST_SECRET}=20"])
    assert (await keys.verify(FIRST_SECRET)).scopes == ("*",)


def test_secrets_are_shaped_alike_and_never_equal() -> None:
    made = {model.new_secret(5) for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(model.parts_of(secret) for secret in made)
