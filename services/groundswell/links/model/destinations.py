"""Destinations: which URLs a link may lead to, and how they are kept.

Any scheme that is not refused for good may stand before a host here; whether a link's domain allows it is asked where the link is written.

A destination is stored and sent back byte for byte, except where it is not a legal URL (RFC 3986): a host beyond ASCII becomes its
IDNA form (UTS 46), and characters that may not stand in a URL are percent-encoded. Nothing legal is ever touched: no case, no
order, no default port. What a browser could read in another way than this parser is refused instead of guessed.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from functools import lru_cache

import idna

from groundswell.kernel import schemes
from groundswell.links import errors

LENGTH_MAX = 8_192
HOST_LENGTH_MAX = 253
PORT_LENGTH_MAX = 5

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<slashes>//)?(?P<authority>[^/?#\\]*)(?P<rest>.*)", re.DOTALL
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMERIC_LAST = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)")
_ADDRESS = re.compile(r"[0-9a-fx.]+")
# Everything but unreserved and reserved characters; brackets and whole percent escapes are left as they are.
_ILLEGAL = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Destination:
    """A checked destination. `host` is lower case, without the root's dot, an address in its usual form: for comparing, not for sending."""

    url: str
    host: str
    port: int | None
    """None where none is given and the scheme is not the web's: who takes the address knows which it means."""


@lru_cache(maxsize=1_000)
def checked(url: str) -> Destination:
    """`url` as it is stored; raises `DestinationRefused` with the rule that it breaks.

    The last thousand are remembered: those of a batch are asked for twice, to be stored and to be compared with own hosts.
    """
    if len(url) > LENGTH_MAX:
        raise errors.DestinationRefused(f"it is longer than {LENGTH_MAX:,} characters.")
    if _CONTROL.search(url):
        raise errors.DestinationRefused("it holds a control character or a line break.")
    if url != url.strip():
        raise errors.DestinationRefused("it begins or ends with white space.")
    shape = _SHAPE.fullmatch(url)
    if shape is None:
        raise errors.DestinationRefused("it is not an absolute URL such as https://example.com/page.")
    scheme = shape["scheme"].lower()
    if scheme not in schemes.WEB:
        _check_scheme(scheme)
    if not shape["slashes"] or shape["rest"].startswith("\\"):
        raise errors.DestinationRefused(
            "after the scheme come two slashes and a host, which has no backslash and is never left out."
        )
    host, port, authority = _checked_authority(shape["authority"])
    made = f"{shape['scheme']}://{authority}{_legal(shape['rest'])}"
    if len(made) > LENGTH_MAX:
        raise errors.DestinationRefused(
            f"it is longer than {LENGTH_MAX:,} characters once its illegal ones are encoded."
        )
    return Destination(made, host, port if port is not None else _PORTS.get(scheme))


def scheme_of(url: str) -> str:
    """The scheme of the checked destination `url`, in lower case."""
    return url[: url.index(":")].lower()


def checked_host(host: str) -> str:
    """A host name that links may live on, in lower case ASCII; raises `HostInvalid`."""
    try:
        ascii_host = _ascii(host).lower()
    except errors.DestinationRefused as error:
        raise errors.HostInvalid from error
    labels = ascii_host.split(".")
    if len(labels) < 2 or _NUMERIC_LAST.fullmatch(labels[-1]) or not _is_name(ascii_host):
        raise errors.HostInvalid
    return ascii_host


def compared(host: str) -> str:
    """`host`, written as in a URL, as destinations are compared; raises `DestinationRefused`."""
    if len(host) > LENGTH_MAX:
        raise errors.DestinationRefused("its host is too long.")
    if host.startswith("[") and host.endswith("]"):
        return _address(host[1:-1])
    return _comparable(_ascii(host))


def is_address(host: str) -> bool:
    """Whether `host`, which is as destinations are compared, is an address, which has no parents."""
    return host.startswith("[") or _NUMERIC_LAST.fullmatch(host.rpartition(".")[2]) is not None


def _check_scheme(scheme: str) -> None:
    if not schemes.is_scheme(scheme):
        raise errors.DestinationRefused(f"its scheme is longer than {schemes.LENGTH_MAX} characters.")
    if reason := schemes.why_never(scheme):
        raise errors.DestinationRefused(f"no link has the scheme {scheme}: {reason}")


def _checked_authority(authority: str) -> tuple[str, int | None, str]:
    """The host to compare, the port if given, and the authority as it is sent."""
    if "@" in authority:
        raise errors.DestinationRefused("it holds a user name or password.")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or not parts["host"]:
        raise errors.DestinationRefused("it has no host.")
    digits = parts["port"] or ""
    if len(digits) > PORT_LENGTH_MAX or int(digits or 0) > 65_535:
        raise errors.DestinationRefused("its port is above 65535.")
    port = int(digits) if digits else None
    tail = authority[len(parts["host"]) :]
    if parts["host"].startswith("["):
        return _address(parts["host"][1:-1]), port, authority
    sent = _ascii(parts["host"])
    return _comparable(sent), port, sent + tail


def _ascii(host: str) -> str:
    """`host` itself when it is ASCII, its IDNA form when it is not."""
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError as error:
        raise errors.DestinationRefused("its host is not a valid international domain name.") from error


def _comparable(host: str) -> str:
    lowered = host.lower().removesuffix(".")
    if _NUMERIC_LAST.fullmatch(lowered.rpartition(".")[2]):
        # Browsers read 2130706433, 0x7f.1 and 127.1 as addresses, so they are compared as such. inet_aton reads up to a space.
        try:
            return socket.inet_ntoa(socket.inet_aton(lowered if _ADDRESS.fullmatch(lowered) else ""))
        except OSError as error:
            raise errors.DestinationRefused("its host ends in a number but is no IPv4 address.") from error
    if not _is_name(lowered):
        raise errors.DestinationRefused("its host is not a host name.")
    return lowered


def _address(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise errors.DestinationRefused("its host is not an IPv6 address.") from error
    if address.scope_id is not None:
        raise errors.DestinationRefused("its host names a zone, which means something on one machine only.")
    # It leads to the same host as the address of IPv4 in it.
    return str(address.ipv4_mapped) if address.ipv4_mapped else f"[{address}]"


def _is_name(host: str) -> bool:
    return len(host) <= HOST_LENGTH_MAX and all(_LABEL.fullmatch(label) for label in host.split("."))


def _legal(rest: str) -> str:
    """Path, query and fragment with every illegal character percent-encoded as UTF-8; a second # is one."""
    before, mark, fragment = rest.partition("#")
    encoded = _ILLEGAL.sub(_percent, before)
    return encoded + mark + _ILLEGAL.sub(_percent, fragment).replace("#", "%23")


def _percent(illegal: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in illegal[0].encode())
