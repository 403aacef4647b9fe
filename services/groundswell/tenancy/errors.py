"""What can go wrong with tenants, in words for the caller."""

from groundswell.kernel import errors


class SlugInvalid(errors.Invalid):
    def __init__(self) -> None:
        super().__init__(
            "A slug has 3 to 40 of a-z, 0-9 and -, and neither begins nor ends with -.", field="tenant.slug"
        )


class SlugReserved(errors.Unprocessable):
    def __init__(self, slug: str) -> None:
        super().__init__(f"The slug {slug!r} is reserved. Choose another.", field="tenant.slug")


class SlugTaken(errors.AlreadyExists):
    def __init__(self, slug: str) -> None:
        super().__init__(f"A tenant with the slug {slug!r} exists. Choose another.", field="tenant.slug")


class DisplayNameTooLong(errors.Invalid):
    def __init__(self, most: int) -> None:
        super().__init__(f"A display name has at most {most} characters.", field="tenant.display_name")


class TenantNotFound(errors.NotFound):
    def __init__(self) -> None:
        super().__init__("There is no such tenant.")


class PlatformStays(errors.FailedPrecondition):
    def __init__(self) -> None:
        super().__init__("The platform's own tenant can not be suspended.")
