"""GatewayService: what the door knows of itself."""

from groundswell.api.gateway.v1 import gateway_pb2 as pb
from groundswell.api.gateway.v1 import gateway_pb2_grpc
from groundswell.gateway.clients import Health, Upstreams
from groundswell.gateway.http.routes import Route, RouteTable
from groundswell.gateway.store import SupervisorState
from groundswell.kernel import access, rpc


class GatewayRpc(gateway_pb2_grpc.GatewayServiceServicer):
    """Answers from the route table, the supervisor's file and health checks made now."""

    def __init__(self, table: RouteTable, upstreams: Upstreams, state: SupervisorState) -> None:
        self._table = table
        self._upstreams = upstreams
        self._state = state
        self._modules = sorted({route.upstream for route in table.routes})

    async def ListRoutes(self, request: pb.ListRoutesRequest, call: rpc.Call) -> pb.ListRoutesResponse:
        return pb.ListRoutesResponse(routes=[_route(route) for route in self._table.routes])

    async def ListUpstreams(self, request: pb.ListUpstreamsRequest, call: rpc.Call) -> pb.ListUpstreamsResponse:
        healths = await self._upstreams.healths(self._modules)
        answer = pb.ListUpstreamsResponse(upstreams=[_upstream(health) for health in healths])
        for process in self._state.read():
            entry = answer.processes.add(
                name=process.name,
                state=process.state,
                pid=process.pid,
                restarts=process.restarts,
                resident_bytes=process.resident_bytes,
            )
            if process.started_ms:
                entry.start_time.FromMilliseconds(process.started_ms)
        return answer


def _route(route: Route) -> pb.Route:
    return pb.Route(
        http_method=route.http_method,
        path=route.template.text,
        rpc=route.method.full_name,
        access=route.rule.permission
        if route.rule.audience is access.Audience.PERMISSION
        else route.rule.audience.value,
    )


def _upstream(health: Health) -> pb.Upstream:
    states = {True: pb.Upstream.SERVING, False: pb.Upstream.NOT_SERVING, None: pb.Upstream.UNREACHABLE}
    return pb.Upstream(module=health.module, health=states[health.serving], latency_ms=health.latency_ms)
