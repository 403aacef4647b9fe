"""Destinations: sent back byte for byte but for what is illegal, and refused with the rule that they break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundswell.links import errors
from groundswell.links.model import destinations

KEPT = [
    "https://example.com",
    "https://example.com/",
    "HTTP://Example.COM:80/Path/../x;a=1?q=%2f&Q=%2F&a[]=1#Frag",
    "https://example.com?no=path",
    "https://example.com#frag",
    "http://user-name.example.com:/empty-port",
    "https://example.com/a//b/./c/",
    "https://example.com/?utm_source=x&next=https://other.example/%E2%9C%93",
    "https://[2001:db8::1]:8443/x",
    "http://192.0.2.7/x",
    "https://xn--bcher-kva.example/",
    "https://example.com./absolute-name",
    "https://under_score.example.com/",
    "https://example.com/~tilde/!$&'()*+,;=:@",
    "https://example.com/" + "a" * (8_192 - 20),
]

CHANGED = [
    ("https://bücher.example/ß?q=ß#ß", "https://xn--bcher-kva.example/%C3%9F?q=%C3%9F#%C3%9F"),
    ("https://example.com/a b", "https://example.com/a%20b"),
    ("https://example.com/100%", "https://example.com/100%25"),
    ("https://example.com/%zz%41", "https://example.com/%25zz%41"),
    ('https://example.com/<"{|}^`\\>', "https://example.com/%3C%22%7B%7C%7D%5E%60%5C%3E"),
    ("https://example.com/#a#b", "https://example.com/#a%23b"),
    ("https://example.com/😀", "https://example.com/%F0%9F%98%80"),
    ("https://例え。テスト/", "https://xn--r8jz45g.xn--zckzah/"),
    ("https://EXAMPLE.com/É", "https://EXAMPLE.com/%C3%89"),
]

REFUSED = [
    ("", "absolute"),
    ("example.com", "absolute"),
    ("//example.com/x", "absolute"),
    ("/path", "absolute"),
    ("javascript:alert(1)", "scheme"),
    ("JavaScript://example.com/%0aalert(1)", "scheme"),
    ("data:text/html,x", "scheme"),
    ("file:///etc/passwd", "scheme"),
    ("mailto:a@example.com", "scheme mailto: its addresses have no host"),
    ("app:example.com", "slashes"),
    ("vbscript:x", "scheme"),
    ("https:example.com", "slashes"),
    ("https:/example.com", "slashes"),
    ("https:\\\\example.com", "slashes"),
    ("https://good.example\\@evil.example/", "backslash"),
    ("https://", "no host"),
    ("https:///path", "no host"),
    ("https://:80/", "no host"),
    ("https://?q", "no host"),
    ("https://user@example.com/", "user name"),
    ("https://user:pass@example.com/", "user name"),
    ("https://@example.com/", "user name"),
    ("https://exa mple.com/", "host"),
    ("https://exam%70le.com/", "host"),
    ("https://-dash.example/", "host"),
    ("https://a..b/", "host"),
    ("https://" + "a" * 64 + ".example/", "host"),
    ("https://" + "a." * 127 + "example/", "host"),
    ("https://[::1", "no host"),
    ("https://[not-an-address]/", "IPv6"),
    ("https://300.1.1.1/", "IPv4"),
    ("https://1 .2.3.4/", "IPv4"),
    ("https://[fe80::1%25eth0]/", "zone"),
    ("https://[::1%é <]/", "zone"),
    ("https://example.com:65536/", "port"),
    ("https://example.com:" + "0" * 5_000 + "/", "port"),
    ("https://example.com:8a/", "no host"),
    ("https://xn--\u0378.example/", "international"),
    ("https://example.com/\r\nSet-Cookie: a=b", "control"),
    ("https://example.com/\t", "control"),
    ("https://example.com/\x00", "control"),
    ("https://example.com/\x7f", "control"),
    ("https://example.com/\u2028", "control"),
    (" https://example.com/", "white space"),
    ("https://example.com/ ", "white space"),
    ("https://example.com/" + "a" * 8_173, "longer"),
    ("https://example.com/" + "ß" * 3_000, "longer"),
]


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize("url", KEPT, ids=lambda url: url[:40])
def test_what_is_legal_is_kept_byte_for_byte(url: str) -> None:
    assert destinations.checked(url).url == url


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize(("url", "stored"), CHANGED)
def test_what_is_illegal_is_encoded_and_nothing_else_is_touched(url: str, stored: str) -> None:
    assert destinations.checked(url).url == stored
    assert destinations.checked(stored).url == stored


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize(("url", "rule"), REFUSED, ids=lambda text: text[:40])
def test_what_may_not_be_followed_is_refused_with_its_rule(url: str, rule: str) -> None:
    with pytest.raises(errors.DestinationRefused, match=rule) as refused:
        destinations.checked(url)
    assert refused.value.fields[0].field == "link.destination"


@pytest.mark.promise("LINKS-6")
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1./",
        "http://0177.0.0.1/",
        "http://１２７.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[0:0:0:0:0:FFFF:7f00:1]/",
    ],
)
def test_an_address_is_compared_as_a_browser_reads_it(url: str) -> None:
    assert destinations.checked(url).host == "127.0.0.1"


@pytest.mark.promise("LINKS-6")
@given(st.text(max_size=60))
def test_whatever_stands_behind_the_host_the_result_is_ascii_without_breaks_and_stable(tail: str) -> None:
    try:
        made = destinations.checked(f"https://example.com/{tail}").url
    except errors.DestinationRefused:
        return
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made
    assert destinations.checked(made).url == made


@pytest.mark.parametrize(
    ("host", "stored"), [("Go.Example.COM", "go.example.com"), ("bücher.example", "xn--bcher-kva.example")]
)
def test_a_domain_is_a_host_name_in_lower_case_ascii(host: str, stored: str) -> None:
    assert destinations.checked_host(host) == stored


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "a b.example", "go.example.com:80", "https://go.example", "192.0.2.1", "[::1]", "a..b", "a.b."],
)
def test_other_texts_are_no_domains(host: str) -> None:
    with pytest.raises(errors.HostInvalid):
        destinations.checked_host(host)
