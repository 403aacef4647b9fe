"""The tables of promises: what they find, and that the committed ones are up to date."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs import promises
from docs.promises import Proof

ROOT = Path(__file__).parents[2]
PAGE = "# x\n\n## What it promises\n\n- **LINKS-1** One.\n- **LINKS-12** Twelve.\n- **LINKS-2** Two.\n"
PROOFS = {name: [Proof("tests/links/test_x.py", f"test_{name}_holds")] for name in ("LINKS-1", "LINKS-2", "LINKS-12")}


def test_the_pages_and_the_tests_promise_the_same_and_the_tables_are_up_to_date() -> None:
    assert promises.main(check=True) == 0


def test_a_promise_without_a_proof_and_a_proof_without_a_promise_are_both_faults() -> None:
    """Goal: neither direction is passed over."""
    pages = {Path("links.md"): PAGE}
    assert promises.faults(pages, PROOFS) == []
    fewer = {name: PROOFS[name] for name in ("LINKS-1", "LINKS-2")}
    assert promises.faults(pages, fewer) == ["links.md promises LINKS-12, and no test or drill proves it."]
    more = PROOFS | {"LINKS-9": [Proof("tests/links/test_x.py", "test_moments")]}
    assert promises.faults(pages, more) == [
        "tests/links/test_x.py::test_moments proves LINKS-9, and no page promises it."
    ]


def test_a_promise_that_two_pages_make_is_a_fault() -> None:
    pages = {Path("links.md"): PAGE, Path("other.md"): "- **LINKS-1** Again.\n"}
    assert promises.faults(pages, PROOFS) == ["other.md makes LINKS-1, and so does links.md."]


def test_a_table_is_in_the_order_of_the_numbers_with_its_results_and_is_made_the_same_twice() -> None:
    once = promises.with_table(PAGE, PROOFS, {"tests/links/test_x.py::test_LINKS-2_holds": "passed, 2026-01-01"})
    rows = [line.split(" | ")[0] for line in once.splitlines() if line.startswith("| LINKS")]
    assert rows == ["| LINKS-1", "| LINKS-2", "| LINKS-12"]
    assert "passed, 2026-01-01" in once
    assert (
        promises.with_table(once, PROOFS, {"tests/links/test_x.py::test_LINKS-2_holds": "passed, 2026-01-01"}) == once
    )


def test_a_proof_that_was_not_run_here_keeps_the_result_that_the_page_tells() -> None:
    """A clone has run nothing yet."""
    page = promises.with_table(PAGE, PROOFS, {"tests/links/test_x.py::test_LINKS-2_holds": "passed, 2026-01-01"})
    assert promises.with_table(page, PROOFS, {}) == page
    again = promises.with_table(page, PROOFS, {"tests/links/test_x.py::test_LINKS-2_holds": "failed, 2026-01-02"})
    assert again == page.replace("passed, 2026-01-01", "failed, 2026-01-02")
    skipped = {"tests/links/test_x.py::test_LINKS-2_holds": "skipped, 2026-01-03"}
    assert promises.with_table(page, PROOFS, skipped) == page
    assert "skipped, 2026-01-03" in promises.with_table(PAGE, PROOFS, skipped)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('@pytest.mark.promise("LINKS-1", "LINKS-2")\ndef test_a(): ...', {"LINKS-1", "LINKS-2"}),
        ('@pytest.mark.parametrize("n", [1])\n@pytest.mark.promise("LINKS-3")\nasync def test_b(n): ...', {"LINKS-3"}),
        ("def test_c(): ...", set()),
    ],
)
def test_marks_are_found_on_any_test(tmp_path: Path, source: str, expected: set[str]) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(source)
    assert set(promises.proofs(tmp_path)) == expected


PROVING = """
import os
import pytest

@pytest.mark.promise("X-1")
def test_holds(): pass

@pytest.mark.promise("X-2")
@pytest.mark.parametrize("n", [0, 1, 2])
def test_holds_in_every_case(n): assert n != 1

@pytest.fixture
def away(): raise OSError

@pytest.mark.promise("X-3")
def test_begins(away): pass

def test_promises_nothing(): pass

@pytest.mark.promise("X-4")
def test_ends(): os._exit(1)
"""


def test_a_session_that_is_cut_short_has_kept_how_its_proofs_ended(tmp_path: Path) -> None:
    """Goal: the last column is true of what was run, in full and in part. One case that failed makes a proof fail."""
    for file in ("tests/__init__.py", "tests/conftest.py", "tests/replica.py", "tests/skipped.py", "pyproject.toml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "tests" / "test_x.py").write_text(PROVING)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "services")])}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 1
    kept = json.loads((tmp_path / promises.RESULTS).read_text())
    assert {proof.partition("::")[2]: result.partition(",")[0] for proof, result in kept.items()} == {
        "test_holds": "passed",
        "test_holds_in_every_case": "failed",
        "test_begins": "failed",
    }
