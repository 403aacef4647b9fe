"""The home that most tests of the supervisor want."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.homes import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A home of its own, stopped at the end."""
    made = Platform(tmp_path / "home")
    yield made
    made.run("down")
