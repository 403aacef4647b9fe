"""The addresses of short links: how a short URL reads, and which hosts are the platform's own."""

from dataclasses import dataclass

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The public names of an installation."""

    base_domain: str
    home_slug: str
    home_hosts: tuple[str, ...]
    scheme: str
    port: int

    def short_url(self, host: str, code: str) -> str:
        """The URL to share."""
        port = "" if self.port == _PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{host}{port}/{code}"

    def default_host(self, slug: str) -> str:
        """The host of a tenant's own domain."""
        return f"{slug}.{self.base_domain}"

    def hosts_of(self, slug: str) -> tuple[str, ...]:
        """All hosts that lead to a tenant's own domain, its own name first."""
        return (self.default_host(slug), *(self.home_hosts if slug == self.home_slug else ()))

    def is_platforms(self, host: str) -> bool:
        """Whether `host` is the platform's to give, so that no tenant may claim it."""
        return host == self.base_domain or host in self.home_hosts or host.endswith(f".{self.base_domain}")

    def serves_port(self, port: int | None) -> bool:
        """Whether a request to `port` of a short domain reaches the gateway: directly, or by the usual way from outside.

        None, which only an app knows, counts as reaching it: many open `https://host/x` for their own `app://host/x`.
        """
        return port is None or port == self.port or port in _PORTS.values()
