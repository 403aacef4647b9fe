"""Settings of links."""

from groundswell.kernel import settings


@settings.section("LINKS")
class LinksSettings:
    """Where short links live."""

    base_domain: str = "localhost"
    """Every tenant's own domain is `<slug>.<base_domain>`."""
    home_slug: str = "demo"
    """Slug of the tenant whose domain also answers on `home_hosts`."""
    home_hosts: tuple[str, ...] = ("localhost",)
    """Hosts that lead to the home tenant's domain, so that a laptop needs no names; never anything else's."""
    public_scheme: str = "http"
    """`http` or `https`: how short URLs begin."""
    public_port: int = 0
    """Port in short URLs; 0 means that of `GATEWAY_ADDRESS`. The scheme's own port is left out."""
    code_secret: str = ""
    """Secret behind generated codes; empty means one derived from the platform's internal key.

    Another secret gives another order of codes: those that exist are met and skipped, so nothing breaks."""


@settings.section("GATEWAY")
class PublicDoor:
    """What links has to know of the gateway."""

    address: str = "127.0.0.1:8080"
    """`host:port` where the gateway listens."""
