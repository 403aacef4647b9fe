"""The pages hold together: what a merge leaves behind, such as a second version of a paragraph below another one, is found here."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.test_commands import PAGES, ROOT

WORDS = 12
"""Nobody writes so many equal words in a row twice by accident."""


def prose(text: str) -> list[str]:
    """The words of a page without its commands, tables and table of proofs."""
    text = re.sub(r"```.*?```|<!-- proof.*?<!-- /proof -->", "", text, flags=re.DOTALL)
    return " ".join(line for line in text.splitlines() if not line.startswith("|")).split()


def said_twice(text: str) -> set[str]:
    words = prose(text)
    runs = Counter(" ".join(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1))
    return {run for run, times in runs.items() if times > 1}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_says_the_same_twice(page: Path) -> None:
    assert not said_twice(page.read_text())


def test_a_second_version_of_a_paragraph_is_seen() -> None:
    """The control."""
    page = (ROOT / "README.md").read_text()
    paragraph = max(page.split("\n\n"), key=lambda each: len(prose(each)))
    assert said_twice(f"{page}\nBut then: {paragraph}")


def test_every_decision_is_a_dated_paragraph_of_its_own() -> None:
    decisions = (ROOT / "ARCHITECTURE.md").read_text().partition("## Decisions\n\n")[2].strip().split("\n\n")
    assert decisions
    for each in decisions:
        assert re.match(r"\*\*20\d\d-\d\d-\d\d — [^*]+\.\*\*\s", each), each
        assert each.count("**20") == 1, each
