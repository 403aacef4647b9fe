"""The page that stands in for a redirect where visitors are to see first where it leads.

Everything on it is one file without scripts. The host stands there as it is looked up, which looks like nothing else, and below as
browsers may show it, with what is not ASCII marked. Each label stands for itself, so that letters that are written from right to left
move no other; the address is ASCII throughout.
"""

import base64
import hashlib
import re
from html import escape
from urllib.parse import urlsplit

import idna

from groundswell.kernel import schemes

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --quiet: #566072; --paper: #f5f6f8; --card: #fff; --line: #d9dde4; --go: #1f5fd0;
  --alien: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf0; --quiet: #a3adbd; --paper: #12161d; --card: #1b212b; --line: #333c4a; --go: #8ab4ff; --alien: #ff9d92; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem 1rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 38rem; margin: 6vh auto 0; padding: 1.5rem; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
h1 { margin: 0 0 1rem; font-size: 1.1rem; font-weight: 600; }
p { margin: 0 0 1rem; overflow-wrap: anywhere; }
.host { font-size: 1.35rem; font-weight: 600; line-height: 1.25; word-break: break-all; }
mark { padding: 0 .1em; border-bottom: 2px solid var(--alien); background: none; color: var(--alien); }
.address { max-height: 12rem; overflow-y: auto; padding: .75rem; border: 1px solid var(--line); border-radius: 8px; color: var(--quiet);
  font: .9rem/1.5 ui-monospace, monospace; word-break: break-all; }
a { color: var(--go); font-weight: 600; }
.why { margin: 0; color: var(--quiet); font-size: .9rem; }
"""
_POLICY = (
    "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MEDIA_TYPE = "text/html"
HEADERS = (
    (b"content-type", f"{MEDIA_TYPE}; charset=utf-8".encode()),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-robots-tag", b"noindex, nofollow"),
)
_APP = "Your browser hands this address to a program on your device, if there is one that takes {scheme}: addresses."
_WHY = (
    "You see this page, instead of being redirected, because the name above may be taken for another one, or because the "
    "owner of the link wants you to look first."
)


def page(location: str) -> bytes:
    """The page for a redirect to `location`, an address in ASCII.

    What has no host, or a scheme that nobody is led to, is shown but not linked; of other schemes than the web's the page says that a
    program of the visitor's takes them.
    """
    scheme, host = _read(location)
    followed = schemes.is_scheme(scheme) and not schemes.why_never(scheme) and bool(host)
    labels = [_readable(label) for label in host.split(".")]
    reads = ".".join(f"<bdi>{_marked(label)}</bdi>" for label in labels)
    parts = [
        "<h1>This link leads to</h1>",
        f'<p class="host" dir="ltr">{escape(host)}</p>' if host else "",
        f'<p dir="ltr">Browsers may show that name as <b>{reads}</b>. What is marked is not in the letters a to z.</p>'
        if ".".join(labels) != host
        else "",
        f'<p class="address" dir="ltr">{escape(location)}</p>',
        f'<p><a rel="noreferrer nofollow noopener" href="{escape(location)}">Go there</a></p>' if followed else "",
        f"<p>{_APP.format(scheme=scheme)}</p>" if followed and scheme not in schemes.WEB else "",
        f'<p class="why">{_WHY}</p>',
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>Where this link leads</title>\n<style>{_STYLE}</style>\n<main>\n"
        + "\n".join(filter(None, parts))
        + "\n</main>\n</html>\n"
    ).encode()


def _read(location: str) -> tuple[str, str]:
    """Scheme and host; empty where there is none. Browsers read a backslash as a slash."""
    try:
        parts = urlsplit(location.replace("\\", "/"))
        return parts.scheme, parts.hostname or ""
    except ValueError:
        return "", ""


def _marked(label: str) -> str:
    return re.sub(r"[^\x00-\x7f]+", r"<mark>\g<0></mark>", escape(label))


def _readable(label: str) -> str:
    """The label as it is read; one that only looks like punycode stays as it is."""
    try:
        return idna.ulabel(label) if label.startswith("xn--") else label
    except idna.IDNAError:
        return label
