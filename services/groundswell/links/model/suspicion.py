"""Hosts that may be taken for others: names that mix scripts, and names whose letters all look like ASCII.

A label of one script is fine, and so is Latin beside those scripts with which Chinese, Japanese and Korean are written: the "Highly
Restrictive" level of UTS 39, which browsers hold names to as well. Labels of different scripts are fine beside each other. Where the
last label reads as ASCII, a label beyond ASCII must not read so as a whole: аррӏе.com does, хор.рф can be taken for nothing.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import idna

PUNYCODE = "xn--"
_LATIN = "Latn"
_BESIDE_LATIN = frozenset({"Jpan", "Hanb", "Kore"})
_WRITTEN_WITH = {
    "Hani": ("Jpan", "Hanb", "Kore"),
    "Hira": ("Jpan",),
    "Kana": ("Jpan",),
    "Bopo": ("Hanb",),
    "Hang": ("Kore",),
}
"""Systems of writing that use a script beside others."""
_NOBODYS = frozenset({"Zyyy", "Zinh"})
"""Digits, marks and the like, which any script is written with."""


def is_suspicious(host: str) -> bool:
    """Whether `host`, which is as destinations are compared, may be taken for another.

    A label that only looks like punycode is suspicious: nobody can say what a browser shows of it.
    """
    if PUNYCODE not in host:
        return False
    try:
        labels = [idna.ulabel(label) if label.startswith(PUNYCODE) else label for label in host.split(".")]
    except idna.IDNAError:
        return True
    beyond = [label for label in labels if not label.isascii()]
    return any(map(_mixes, beyond)) or (_reads_as_ascii(labels[-1]) and any(map(_reads_as_ascii, beyond)))


def _mixes(label: str) -> bool:
    scripts = [each for each in map(_letters().scripts_of, label) if each.isdisjoint(_NOBODYS)]
    beside_latin = [each for each in scripts if _LATIN not in each]
    return not (_shared(scripts) or _shared(beside_latin) & _BESIDE_LATIN)


def _shared(scripts: list[frozenset[str]]) -> frozenset[str]:
    return frozenset.intersection(*scripts) if scripts else _NOBODYS


def _reads_as_ascii(label: str) -> bool:
    return all(letter.isascii() or letter in _letters().lookalikes for letter in label)


@dataclass(frozen=True, slots=True)
class _Letters:
    """What is known of letters: scripts by runs of code points, and which letters look like one of ASCII."""

    starts: list[int]
    scripts: list[frozenset[str]]
    lookalikes: frozenset[str]

    def scripts_of(self, letter: str) -> frozenset[str]:
        """The scripts and systems of writing that `letter` belongs to."""
        return self.scripts[bisect_right(self.starts, ord(letter)) - 1]


@cache
def _letters() -> _Letters:
    """Read when the first name beyond ASCII is judged; most processes never see one."""
    runs = [line.split() for line in _lines("scripts.txt")]
    looks = [line.split() for line in _lines("lookalikes.txt")]
    return _Letters(
        [int(first, 16) for first, _, _ in runs],
        [_with_systems(scripts) for _, _, scripts in runs],
        frozenset(chr(int(letter, 16)) for letter, _ in looks),
    )


def _with_systems(scripts: str) -> frozenset[str]:
    named = scripts.split(",")
    return frozenset(named).union(*(_WRITTEN_WITH.get(each, ()) for each in named))


def _lines(file: str) -> list[str]:
    lines = (Path(__file__).parent / file).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]
