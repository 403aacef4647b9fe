"""Which schemes there may be at all, and what no spelling of an address gets past: by the rules alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundswell.kernel import schemes
from groundswell.links import errors
from groundswell.links.model import destinations
from groundswell.links.model.schemes import SCHEMES_MAX, checked_schemes

NEVER = [
    "javascript", "vbscript", "livescript", "mocha", "data", "blob", "filesystem", "about",
    "file", "content", "resource", "res", "shell", "search-ms", "chrome", "chrome-extension", "chrome-untrusted", "moz-extension",
    "safari-web-extension", "ms-msdt", "ms-officecmd", "ms-appinstaller", "anything-extension", "devtools", "edge",
    "smb", "cifs", "nfs", "afp",
    "view-source", "jar", "feed", "intent", "android-app", "itms-services", "microsoft-edge", "googlechrome", "googlechromes",
    "mailto", "tel", "sms", "sip", "urn", "magnet", "geo",
    "ws", "wss",
]  # fmt: skip
TRICKY = [
    "JaVaScRiPt://host/%0Aalert(1)",
    "java\tscript://host/",
    "java\nscript://host/",
    "java\0script://host/",
    " javascript://host/",
    "javascript ://host/",
    "javascript://host/ ",
    "\u00a0javascript://host/",
    "\u200bjavascript://host/",
    "java%73cript://host/",
    "%6aavascript://host/",
    "ｊａｖａｓｃｒｉｐｔ://host/",
    "javaſcript://host/",
    "javascript：//host/",
    "javascript&colon;//host/",
    "javascript:alert(1)//host",
    "javascript:/host",
    "javascript:\\\\host",
    "myapp:javascript://host/",
    "spotify:track:1",
    "spotify:/track/1",
    "spotify:///track/1",
    "spotify:\\\\track",
    "spotify://",
    "spotify://user@track/1",
    "spotify://tr ack/1",
    "spotify://track\\@evil.example/",
    "1app://host/",
    "+app://host/",
    "://host/",
    "a" * (schemes.LENGTH_MAX + 1) + "://host/",
    "a" * 5_000 + "://host/",
]


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize("scheme", NEVER)
def test_what_browsers_run_or_handle_themselves_and_what_has_no_host_is_never_allowed(scheme: str) -> None:
    """Not by a domain, and not by a link, whatever its domain says; in upper case neither."""
    for spelled in (scheme, scheme.upper(), scheme.title()):
        with pytest.raises(errors.SchemeNeverAllowed, match=scheme) as refused:
            checked_schemes(["spotify", spelled])
        assert [field.field for field in refused.value.fields] == ["domain.schemes[1]"]
        for rest in ("//host/x", "host", "//", ""):
            with pytest.raises(errors.DestinationRefused, match=f"scheme {scheme}"):
                destinations.checked(f"{spelled}:{rest}")


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize("url", TRICKY, ids=lambda url: ascii(url[:40]))
def test_no_spelling_makes_another_address_of_one(url: str) -> None:
    with pytest.raises(errors.DestinationRefused):
        destinations.checked(url)


def test_what_has_no_host_is_refused_with_that_reason() -> None:
    for url in ("mailto:a@example.com", "tel:+15551234", "tel://5551234", "spotify:track:1"):
        with pytest.raises(errors.DestinationRefused, match="host"):
            destinations.checked(url)


@pytest.mark.promise("LINKS-6")
@given(
    st.one_of(
        st.from_regex(rf"\A({'|'.join(NEVER)})\Z", fullmatch=True),
        st.text(alphabet="jJaAvVsScCrRiIpPtTmMſıK+-.0\t\n\0 %ｊ:", max_size=14),
        st.from_regex(r"[A-Za-z][A-Za-z0-9+.-]{0,40}", fullmatch=True),
    ),
    st.sampled_from(["://host", ":", ":/", "://", ":\\\\host", "://xn--80ak6aa92e.com", "://bücher.example:1"]),
    st.text(max_size=40),
)
def test_whatever_is_accepted_is_stable_has_a_host_and_its_scheme_is_not_one_that_nobody_is_led_to(
    scheme: str, middle: str, tail: str
) -> None:
    try:
        made = destinations.checked(scheme + middle + tail)
    except errors.DestinationRefused:
        return
    assert destinations.checked(made.url) == made
    assert made.url.isascii()
    assert made.url.isprintable()
    assert " " not in made.url
    assert made.host
    read = made.url.split(":", 1)[0].lower()
    assert read == destinations.scheme_of(made.url) == scheme.split(":", 1)[0].lower()
    assert read in schemes.WEB or checked_schemes([read]) == (read,)


def test_schemes_are_kept_in_lower_case_each_once_in_order_and_without_the_webs() -> None:
    assert checked_schemes(["Spotify", "https", "fb", "HTTP", "spotify", "FB"]) == ("fb", "spotify")
    assert checked_schemes([]) == ()
    names = [f"app{number}" for number in range(SCHEMES_MAX)]
    assert len(checked_schemes([*names, *names, "http"])) == SCHEMES_MAX
    with pytest.raises(errors.TooManySchemes) as refused:
        checked_schemes([*names, "more"])
    assert [field.field for field in refused.value.fields] == ["domain.schemes"]


@pytest.mark.parametrize(
    "text",
    ["", ":", "spotify:", "spotify://", "1app", "-app", "app_1", "app 1", " app", "app\n", "app\0", "java\tscript", "ａｐｐ", "\u212aapp",
     "%61pp", "a" * (schemes.LENGTH_MAX + 1), "a" * 1_000_000],
    ids=lambda text: ascii(text[:20]),
)  # fmt: skip
def test_what_is_no_scheme_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(errors.SchemeInvalid) as refused:
        checked_schemes(["fine", text])
    assert [field.field for field in refused.value.fields] == ["domain.schemes[1]"]
