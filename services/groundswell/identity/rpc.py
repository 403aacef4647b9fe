"""The edge of identity: proto in, use case, proto out."""

from google.protobuf import empty_pb2

from groundswell.api.identity.v1 import identity_pb2 as pb
from groundswell.api.identity.v1 import identity_pb2_grpc
from groundswell.identity import errors, model
from groundswell.identity.model import ApiKey, KeyAct, Kind
from groundswell.identity.service import ApiKeys
from groundswell.kernel import pagination, rpc

_NEWEST = (1 << 63) - 1
_KINDS = {Kind.CREATED: pb.ApiKeyAct.CREATED, Kind.REVOKED: pb.ApiKeyAct.REVOKED}


class ApiKeyRpc(identity_pb2_grpc.ApiKeyServiceServicer):
    """ApiKeyService."""

    def __init__(self, keys: ApiKeys, page_key: bytes) -> None:
        self._keys = keys
        self._page_key = page_key

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, call: rpc.Call) -> pb.CreateApiKeyResponse:
        asked = request.api_key
        expires_ms = rpc.moment_ms(asked, "expire_time", "api_key.")
        tenant = rpc.id_of(request.tenant, "tenants", errors.TenantNotFound) if request.tenant else None
        key, secret = await self._keys.create(call.context, tenant, asked.display_name, asked.scopes, expires_ms)
        return pb.CreateApiKeyResponse(api_key=_to_proto(key), secret=secret)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, call: rpc.Call) -> pb.ListApiKeysResponse:
        size, scope = pagination.size(request.page_size), f"apiKeys/{call.context.tenant}"
        before = pagination.position(request.page_token, scope, self._page_key) or [_NEWEST]
        found = await self._keys.page(call.context, int(before[0]), size + 1)
        page, token = pagination.cut(found, size, lambda key: [key.id], scope, self._page_key)
        return pb.ListApiKeysResponse(api_keys=[_to_proto(key) for key in page], next_page_token=token)

    async def DeleteApiKey(self, request: pb.DeleteApiKeyRequest, call: rpc.Call) -> empty_pb2.Empty:
        await self._keys.revoke(call.context, rpc.id_of(request.name, "apiKeys", errors.KeyNotFound), call.request)
        return empty_pb2.Empty()

    async def ListApiKeyActs(self, request: pb.ListApiKeyActsRequest, call: rpc.Call) -> pb.ListApiKeyActsResponse:
        size, scope = pagination.size(request.page_size), f"apiKeyActs/{call.context.tenant}"
        before = pagination.position(request.page_token, scope, self._page_key) or [_NEWEST]
        found = await self._keys.acts(call.context, int(before[0]), size + 1)
        page, token = pagination.cut(found, size, lambda act: [act.id], scope, self._page_key)
        return pb.ListApiKeyActsResponse(api_key_acts=[_act_to_proto(act) for act in page], next_page_token=token)

    async def VerifyApiKey(self, request: pb.VerifyApiKeyRequest, call: rpc.Call) -> pb.VerifyApiKeyResponse:
        key = await self._keys.verify(request.secret, call.context.deadline_s)
        answer = pb.VerifyApiKeyResponse(key_id=key.id, tenant_id=key.tenant, scopes=key.scopes)
        if key.expires_ms is not None:
            answer.expire_time.FromMilliseconds(key.expires_ms)
        return answer


def _to_proto(key: ApiKey) -> pb.ApiKey:
    message = pb.ApiKey(
        name=f"apiKeys/{key.id}",
        display_name=key.display_name,
        scopes=key.scopes,
        tenant=f"tenants/{key.tenant}",
        maker=key.maker,
        made_by_staff=model.is_staff(key.maker, key.tenant),
    )
    message.create_time.FromMilliseconds(key.created_ms)
    if key.expires_ms is not None:
        message.expire_time.FromMilliseconds(key.expires_ms)
    return message


def _act_to_proto(act: KeyAct) -> pb.ApiKeyAct:
    message = pb.ApiKeyAct(
        name=f"apiKeyActs/{act.id}",
        kind=_KINDS[act.kind],
        api_key=f"apiKeys/{act.key}",
        actor=act.actor,
        by_staff=model.is_staff(act.actor, act.tenant),
    )
    message.act_time.FromMilliseconds(act.acted_ms)
    return message
