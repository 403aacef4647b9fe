"""The edge of tenancy: proto in, use case, proto out."""

from groundswell.api.tenancy.v1 import tenancy_pb2 as pb
from groundswell.api.tenancy.v1 import tenancy_pb2_grpc
from groundswell.kernel import pagination, rpc
from groundswell.tenancy import errors
from groundswell.tenancy.events import to_proto
from groundswell.tenancy.service import Tenants


class TenantRpc(tenancy_pb2_grpc.TenantServiceServicer):
    """TenantService."""

    def __init__(self, tenants: Tenants, page_key: bytes) -> None:
        self._tenants = tenants
        self._page_key = page_key

    async def CreateTenant(self, request: pb.CreateTenantRequest, call: rpc.Call) -> pb.Tenant:
        made = await self._tenants.create(call.context, request.tenant.slug, request.tenant.display_name, call.request)
        return to_proto(made)

    async def GetTenant(self, request: pb.GetTenantRequest, call: rpc.Call) -> pb.Tenant:
        return to_proto(await self._tenants.get(call.context, _id(request.name)))

    async def ListTenants(self, request: pb.ListTenantsRequest, call: rpc.Call) -> pb.ListTenantsResponse:
        size = pagination.size(request.page_size)
        after = pagination.position(request.page_token, "tenants", self._page_key) or [0]
        found = await self._tenants.page(call.context, int(after[0]), size + 1)
        page, token = pagination.cut(found, size, lambda tenant: [tenant.id], "tenants", self._page_key)
        return pb.ListTenantsResponse(tenants=[to_proto(tenant) for tenant in page], next_page_token=token)

    async def SuspendTenant(self, request: pb.SuspendTenantRequest, call: rpc.Call) -> pb.Tenant:
        return to_proto(await self._tenants.suspend(call.context, _id(request.name), call.request))

    async def ResumeTenant(self, request: pb.ResumeTenantRequest, call: rpc.Call) -> pb.Tenant:
        return to_proto(await self._tenants.resume(call.context, _id(request.name), call.request))


def _id(name: str) -> int:
    return rpc.id_of(name, "tenants", errors.TenantNotFound)
