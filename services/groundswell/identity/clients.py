"""What identity asks of tenancy, in its own words."""

import grpc

from groundswell.api.tenancy.v1 import tenancy_pb2, tenancy_pb2_grpc
from groundswell.identity import errors
from groundswell.kernel import errors as kernel_errors
from groundswell.kernel import rpc
from groundswell.kernel.context import Context


class Tenants:
    """The tenants of the installation."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = tenancy_pb2_grpc.TenantServiceStub(channel)

    async def require(self, context: Context, tenant: int) -> None:
        """Raises `TenantNotFound` when the caller may not see the tenant, or there is none."""
        try:
            await rpc.call(
                self._stub.GetTenant, tenancy_pb2.GetTenantRequest(name=f"tenants/{tenant}"), context, idempotent=True
            )
        except kernel_errors.NotFound as error:
            raise errors.TenantNotFound from error
