"""What can go wrong with credentials, in words for the caller."""

from groundswell.kernel import errors


class ScopesInvalid(errors.Invalid):
    def __init__(self, most: int) -> None:
        super().__init__(
            f"A key has 1 to {most} scopes such as `links.create`, `links.*` or `*`.", field="api_key.scopes"
        )


class ScopeNotHeld(errors.Denied):
    def __init__(self, scope: str) -> None:
        super().__init__(f"You can not give the scope `{scope}`: you do not hold it, or it is not this tenant's.")


class ExpiryPast(errors.Invalid):
    def __init__(self) -> None:
        super().__init__("expire_time must lie in the future.", field="api_key.expire_time")


class DisplayNameTooLong(errors.Invalid):
    def __init__(self, most: int) -> None:
        super().__init__(f"A display name has at most {most} characters.", field="api_key.display_name")


class KeyNotFound(errors.NotFound):
    def __init__(self) -> None:
        super().__init__("There is no such key.")


class TenantNotFound(errors.NotFound):
    def __init__(self) -> None:
        super().__init__("There is no such tenant.")
