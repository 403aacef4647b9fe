"""URL schemes: which are the web's, and which nobody is ever led to, whatever anybody allows.

Links refuse destinations with the latter, and the page in a redirect's place makes no link of them: one list stands behind both. It names
what browsers and systems handle by themselves. Which program of the visitor's takes another scheme, and what it does with it, nobody here
can know; so whoever allows one answers for it.
"""

import re

LENGTH_MAX = 32
WEB = frozenset({"http", "https"})
"""What every browser follows by itself."""

_SCHEME = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]{{0,{LENGTH_MAX - 1}}}")
_RUN = "what stands behind it is run or shown as if it came from the page before."
_LOCAL = "it reaches into the visitor's own machine or browser."
_SHARE = "opening it hands the visitor's name, and what proves it, to the host."
_WRAPPED = "what stands behind it is another address, whose host would not be looked at."
_HOSTLESS = (
    "its addresses have no host, by which destinations are denied, found to be suspicious and kept from leading back."
)
_UNVISITED = "no browser visits it."
_NEVER = {
    scheme: reason
    for reason, schemes in (
        (_RUN, "javascript jscript livescript mocha vbscript vbs data blob filesystem about"),
        (
            _LOCAL,
            "file content android.resource resource res local shell hcp its mk search search-ms help prefs app-prefs "
            "x-apple.systempreferences chrome devtools edge brave opera vivaldi",
        ),
        (_SHARE, "smb cifs nfs afp"),
        (
            _WRAPPED,
            "view-source jar mhtml wyciwyg feed pcast intent android-app ios-app itms-services microsoft-edge googlechrome "
            "googlechromes firefox firefox-focus",
        ),
        (
            _HOSTLESS,
            "mailto tel sms smsto mms callto facetime facetime-audio skype sip sips xmpp geo news urn tag cid mid magnet bitcoin",
        ),
        (_UNVISITED, "ws wss"),
    )
    for scheme in schemes.split()
}
_LOCAL_BEGINNINGS = ("chrome-", "moz-", "ms-", "safari-", "webkit-")
"""Pages and extensions of browsers, and the programs that Windows brings: some of those ran what stood in an address."""
_LOCAL_END = "-extension"


def is_scheme(text: str) -> bool:
    """Whether `text`, in upper case or lower, may stand before an address's colon (RFC 3986, bounded)."""
    return _SCHEME.fullmatch(text) is not None


def why_never(scheme: str) -> str:
    """Why nobody is led to `scheme`, which is lower case: the rest of a sentence. Empty when it may be allowed."""
    if scheme.startswith(_LOCAL_BEGINNINGS) or scheme.endswith(_LOCAL_END):
        return _LOCAL
    return _NEVER.get(scheme, "")
