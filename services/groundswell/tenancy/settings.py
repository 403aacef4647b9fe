"""Settings of tenancy."""

from groundswell.kernel import settings


@settings.section("TENANCY")
class TenancySettings:
    """What an installation starts with."""

    first_slug: str = "demo"
    """Slug of the tenant that exists from the first start on; its id is 2."""
