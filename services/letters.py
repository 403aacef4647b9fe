# /// script
# requires-python = ">=3.11"
# dependencies = ["idna>=3.10", "pyicu-wheels==2.15.2"]
# ///
"""Writes what `links.model.suspicion` knows of letters, from ICU's copy of Unicode's data (`make letters`).

Only what may stand in a host name (IDNA 2008) is listed. ICU itself is 20 MB, and what else there is for Python keeps the pairs of
letters that look alike, but not what each of them looks like: hence two small files instead of a package.
"""

import sys
from pathlib import Path

import icu
from idna import idnadata, intranges

FILES = Path(__file__).parent / "groundswell" / "links" / "model"
HEADER = (
    "# {what} Of the letters that IDNA 2008 allows, by Unicode {version}; made by `make letters`.\n"
    "# Unicode data is copyright Unicode, Inc., under the Unicode License V3 (https://www.unicode.org/license.txt).\n"
)
IN_ADDRESSES = frozenset("0123456789abcdefghijklmnopqrstuvwxyz-_./\\:?#@")
"""What one may take for a part of an address; letters that look like other marks mislead nobody."""


def main() -> int:
    letters = sorted(
        letter
        for kind in ("PVALID", "CONTEXTJ", "CONTEXTO")
        for first, last in map(_ends, idnadata.codepoint_classes[kind])
        for letter in range(first, last)
    )
    _write("scripts.txt", "First, last, scripts with which they are written (UAX 24).", _scripts(letters))
    _write("lookalikes.txt", "Letter, what of ASCII it looks like (UTS 39).", _lookalikes(letters))
    return 0


def _ends(packed: int) -> tuple[int, int]:
    return intranges._decode_range(packed)


def _scripts(letters: list[int]) -> list[str]:
    runs: list[tuple[int, int, str]] = []
    for letter in letters:
        scripts = ",".join(
            sorted(icu.Script(each).getShortName() for each in icu.Script.getScriptExtensions(chr(letter)))
        )
        if runs and runs[-1][2] == scripts:
            runs[-1] = (runs[-1][0], letter, scripts)
        else:
            runs.append((letter, letter, scripts))
    return [f"{first:04X} {last:04X} {scripts}" for first, last, scripts in runs]


def _lookalikes(letters: list[int]) -> list[str]:
    checker = icu.SpoofChecker()
    pairs = ((letter, checker.getSkeleton(0, chr(letter)).lower()) for letter in letters if letter > 0x7F)
    return [f"{letter:04X} {looks}" for letter, looks in pairs if looks in IN_ADDRESSES]


def _write(name: str, what: str, lines: list[str]) -> None:
    header = HEADER.format(what=what, version=icu.UNICODE_VERSION)
    (FILES / name).write_text(header + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
