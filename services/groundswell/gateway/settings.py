"""Settings of the gateway."""

from groundswell.kernel import settings


@settings.section("GATEWAY")
class GatewaySettings:
    """Settings of the public door."""

    address: str = "127.0.0.1:8080"
    """`host:port` of the public port."""
    hosts: tuple[str, ...] = ("localhost", "*.localhost")
    """Hosts whose API is served here; `*.` covers one more label, `*` alone any host. Short domains need no entry."""
    host_aliases: tuple[str, ...] = ("127.0.0.1=localhost", "[::1]=localhost")
    """Other names of a host, `alias=host`: links made on one are found on the other."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) whose `X-Forwarded-For` is believed, and whose connections are not counted; none unless a proxy of yours stands in
    front."""
    connections_max: int = 16_384
    """Open connections, those included on which nothing happens; more wait. Fewer where the process may not have so many descriptors. While
    more than half are taken, visitors who are redirected are asked to close theirs."""
    requests_max: int = 4_096
    """Requests under way, however few connections they come over; the next is answered 503. Half of them may be streams. Answers that are
    in memory are given all the same, however they are asked for: the bound is for those that would wait."""
    connections_per_address_max: int = 200
    """Open connections of one address, of IPv6 one /64; those that come beyond it are closed within about a second."""
    connections_uncounted: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks (CIDR), beside the trusted proxies, whose addresses may have any number of connections. This machine's own by default: a
    sidecar that passes everybody on is there, and who runs programs beside the door needs no connection to overload it. Name the nodes
    of a cluster here that hide their visitors' addresses."""
    cors_origins: tuple[str, ...] = ()
    """Origins of browsers that may call the API, `https://app.example.com`; `*` for any. Same-origin pages need none."""
    console: str = "console/dist"
    """Folder of the built console; when it is absent, `/` says how to build it."""
    cache_bytes_max: int = 256 << 20
    """Memory of the near cache."""
    feed_lag_s_max: float = 0.9
    """Beyond this lag of the purge feed the near cache is bypassed, and forgets what it has. A change is promised within a second, and
    its event needs up to a tenth to be in the log."""
    headers_s_max: float = 10.0
    """Within this a connection must have sent the headers of its next request (HTTP/1) or its preface (HTTP/2), or it is closed."""
    idle_s_max: float = 75.0
    """A connection on which nothing has come or gone for so long is closed, whatever it is in; streams thump more often."""
    heartbeat_s: float = 15.0
    """A stream that has nothing to say sends a comment this often, so that both sides notice a dead line."""
    body_stall_s_max: float = 30.0
    """A body of which nothing comes for so long is given up with 408."""
    upstream_timeout_s: float = 10.0
    """Longest time for one unary call, retries and the wait for a service that starts again included."""
    cached_upstream_timeout_s: float = 2.0
    """Longest time for one call of a method with a near cache, whose visitors are better served stale than late. Where nothing may stand
    in, they wait up to three seconds more for a service that starts again."""
    drain_accept_s: float = 1.0
    """After SIGTERM new requests are still served for this long, so that balancers notice the failing readiness first."""
    drain_s: float = 20.0
    """Longest wait for requests in flight after that; streams are closed at once."""
