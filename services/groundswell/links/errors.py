"""What can go wrong with links, in words for the caller. Fields are named as in the API, under `link` unless said otherwise."""

from collections.abc import Sequence

from groundswell.kernel import errors

_SCHEMES_NAMED_MAX = 6
"""In a refusal, which has at most `errors.MESSAGE_LENGTH_MAX` characters."""


class LinkNotFound(errors.NotFound):
    """Also the answer to another tenant's link, a name that is none and a deleted link: the caller cannot tell them apart."""

    def __init__(self) -> None:
        super().__init__("There is no such link.")


class LinkGone(errors.Gone):
    def __init__(self) -> None:
        super().__init__("This link is expired, used up or switched off.")


class DestinationRefused(errors.Unprocessable):
    """`rule` is the sentence that the destination breaks."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"This destination is not allowed: {rule}", field="link.destination")


class SchemeNotAllowed(DestinationRefused):
    """`domain` is the id of the link's domain, `allowed` are its schemes beside http and https."""

    def __init__(self, scheme: str, domain: int, allowed: Sequence[str]) -> None:
        named, more = [*allowed[:_SCHEMES_NAMED_MAX], "http"], len(allowed) - _SCHEMES_NAMED_MAX
        others = f", and {more} more" if more > 0 else ""
        super().__init__(
            f"its scheme is {scheme}, and links of domains/{domain} lead to {', '.join(named)} and https{others}. "
            f"Add it to the domain's schemes first (PATCH /v1/domains/{domain})."
        )


class DestinationDenied(DestinationRefused):
    def __init__(self, entry: str) -> None:
        super().__init__(f"its host is denied by your tenant's entry {entry}.")


class CodeInvalid(errors.Invalid):
    def __init__(self) -> None:
        super().__init__("A code of your own has 3 to 64 of A-Z, a-z, 0-9, _ and -.", field="link.code")


class CodeReserved(errors.Unprocessable):
    def __init__(self, code: str) -> None:
        super().__init__(f"The code {code!r} is reserved for the platform. Choose another.", field="link.code")


class CodeProfane(errors.Unprocessable):
    def __init__(self) -> None:
        super().__init__("This code holds a word that is not allowed in links. Choose another.", field="link.code")


class CodeTaken(errors.AlreadyExists):
    def __init__(self, code: str, domain: str) -> None:
        super().__init__(
            f"The code {code!r} is taken on {domain}. Choose another, or leave it out to get one.", field="link.code"
        )


class CodeLengthInvalid(errors.Invalid):
    def __init__(self, least: int, most: int) -> None:
        super().__init__(f"A generated code has {least} to {most} characters.", field="link.code_length")


class CodesExhausted(errors.FailedPrecondition):
    def __init__(self, length: int) -> None:
        super().__init__(f"All codes of {length} characters are used on this domain. Ask for longer ones.")


class CodeImmutable(errors.Invalid):
    def __init__(self, field: str) -> None:
        super().__init__("A link keeps its code and domain. Create another link instead.", field=f"link.{field}")


class OptionInvalid(errors.Invalid):
    """A field of the link is out of its bounds; `rule` says what they are."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(rule, field=f"link.{field}")


class OptionsContradict(errors.Unprocessable):
    """Two fields that are fine alone can not hold together."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(rule, field=f"link.{field}")


class MaskInvalid(errors.Invalid):
    def __init__(self, path: str, kind: str) -> None:
        super().__init__(f"{path[:100]!r} is not a field of a {kind} that can be changed.", field="update_mask")


class BatchSizeInvalid(errors.Invalid):
    def __init__(self, most: int) -> None:
        super().__init__(f"A batch has 1 to {most} links.", field="links")


class DomainUnknown(errors.Unprocessable):
    def __init__(self, host: str) -> None:
        super().__init__(
            f"Your tenant has no domain {host[:253]!r}. Create it first, or leave the field out.", field="link.domain"
        )


class DomainNotFound(errors.NotFound):
    """Also the answer to another tenant's domain and a name that is none."""

    def __init__(self) -> None:
        super().__init__("Your tenant has no such domain.")


class SchemeInvalid(errors.Invalid):
    def __init__(self, index: int, length_max: int) -> None:
        super().__init__(
            "A scheme is what stands before the colon of an address, such as spotify: a letter, then letters, digits, +, - and ., "
            f"{length_max} characters at most.",
            field=f"domain.schemes[{index}]",
        )


class SchemeNeverAllowed(errors.Unprocessable):
    def __init__(self, index: int, scheme: str, reason: str) -> None:
        super().__init__(f"The scheme {scheme} is never allowed: {reason}", field=f"domain.schemes[{index}]")


class TooManySchemes(errors.Invalid):
    def __init__(self, most: int) -> None:
        super().__init__(f"A domain has at most {most} schemes beside http and https.", field="domain.schemes")


class HostImmutable(errors.Invalid):
    def __init__(self) -> None:
        super().__init__("A domain keeps its host. Create another domain instead.", field="domain.host")


class HostInvalid(errors.Invalid):
    def __init__(self) -> None:
        super().__init__(
            "A domain is a host name with a dot, such as go.example.com, without scheme, port or path.",
            field="domain.host",
        )


class HostReserved(errors.Unprocessable):
    def __init__(self, host: str) -> None:
        super().__init__(f"The host {host!r} belongs to the platform. Use one of your own.", field="domain.host")


class HostTaken(errors.AlreadyExists):
    def __init__(self, host: str) -> None:
        super().__init__(f"The host {host!r} serves links already.", field="domain.host")


class TooManyDomains(errors.FailedPrecondition):
    def __init__(self, most: int) -> None:
        super().__init__(f"A tenant has at most {most:,} domains.")


class DeniedHostNotFound(errors.NotFound):
    """Also the answer to another tenant's entry and a name that is none."""

    def __init__(self) -> None:
        super().__init__("Your tenant's list of denied hosts has no such entry.")


class DeniedHostInvalid(errors.Invalid):
    def __init__(self, labels_max: int) -> None:
        super().__init__(
            "A denied host is a host as in a URL, without scheme, port or path, such as example.com, or *.example.com for every "
            f"host below it: *. stands before a name of at most {labels_max} parts, not before an address.",
            field="denied_host.host",
        )


class DeniedHostExists(errors.AlreadyExists):
    def __init__(self, entry: str) -> None:
        super().__init__(f"Your tenant's list has the entry {entry} already.", field="denied_host.host")


class TooManyDeniedHosts(errors.FailedPrecondition):
    def __init__(self, most: int) -> None:
        super().__init__(f"A tenant denies at most {most:,} hosts. Delete entries, or deny all hosts below one with *.")


class DomainNotReady(errors.Unavailable):
    def __init__(self) -> None:
        super().__init__("The tenant is new and its own domain is still being made. Try again in a second.")
