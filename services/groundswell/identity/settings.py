"""Settings of identity."""

from groundswell.kernel import settings


@settings.section("IDENTITY")
class IdentitySettings:
    """What an installation starts with."""

    bootstrap_keys: tuple[str, ...] = ()
    """`gsk_<id>_<secret>=<tenant>`: keys that hold every permission of their tenant (of the platform too, for tenant 1)."""
