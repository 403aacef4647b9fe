"""Which test or drill proves which promise: rebuilds the tables at the ends of the pages in `docs/systems`.

`python docs/promises.py` writes them, `--check` only compares. Both fail when a page makes a promise that nothing proves, or when a
test or drill names a promise that no page makes. The last column tells how each proof ended when it was last run, here or where the page
was made (`tests/conftest.py` and the drills keep that outside of git); it is no part of the comparison.
"""

import ast
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(".proof") / "results.json"
BEGIN, END = "<!-- proof: made by `make promises` -->", "<!-- /proof -->"
_PROMISE = re.compile(r"^- \*\*([A-Z]+-\d+)\*\*", re.MULTILINE)
_TOLD = re.compile(r"^\| [^|]*\| (\[.*\]\(\S+\)) \| ([^|\n]*) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class Proof:
    """One test function or drill."""

    file: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.file}::{self.name}"

    @property
    def sentence(self) -> str:
        return self.name.removeprefix("test_").replace("_", " ")


def proofs(root: Path) -> dict[str, list[Proof]]:
    """Proofs by promise."""
    found: dict[str, list[Proof]] = defaultdict(list)
    for file in sorted((root / "tests").rglob("test_*.py")):
        for name, promises in _marked(ast.parse(file.read_text())):
            for promise in promises:
                found[promise].append(Proof(file.relative_to(root).as_posix(), name))
    for file in sorted((root / "loadtests" / "drills").glob("*.yaml")):
        for promise in yaml.safe_load(file.read_text())["promises"]:
            found[promise].append(Proof(file.relative_to(root).as_posix(), f"drill {file.stem}"))
    return found


def _marked(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            promises = [name for decorator in node.decorator_list for name in _promises(decorator)]
            if promises:
                yield node.name, promises


def _promises(decorator: ast.expr) -> list[str]:
    """The names in `pytest.mark.promise("LINKS-3", …)`."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise":
        return [each.value for each in decorator.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return []


def faults(pages: Mapping[Path, str], found: Mapping[str, list[Proof]]) -> list[str]:
    """Sentences on promises without a proof, proofs without a promise, and promises made twice."""
    made: dict[str, Path] = {}
    sentences = []
    for page, text in pages.items():
        for promise in _PROMISE.findall(text):
            if promise in made:
                sentences.append(f"{page.name} makes {promise}, and so does {made[promise].name}.")
            made[promise] = page
    sentences += [
        f"{made[each].name} promises {each}, and no test or drill proves it." for each in made if each not in found
    ]
    sentences += [
        f"{proof.key} proves {each}, and no page promises it."
        for each in found
        if each not in made
        for proof in found[each]
    ]
    return sentences


def with_table(text: str, found: Mapping[str, list[Proof]], results: Mapping[str, str]) -> str:
    """The page with its table made anew; a proof that has no result here, or was only skipped, keeps the one that the page tells."""
    told = dict(_TOLD.findall(text))
    body = text.split(f"\n## Proof\n\n{BEGIN}")[0].rstrip()
    lines = ["| promise | proved by | last result |", "|---|---|---|"]
    for promise in sorted(_PROMISE.findall(body), key=lambda each: int(each.rpartition("-")[2])):
        for number, proof in enumerate(sorted(found.get(promise, []))):
            first = promise if number == 0 else ""
            link = f"[{proof.sentence}](../../{proof.file})"
            here = results.get(proof.key, "not run")
            result = told.get(link, here) if here.startswith(("skipped", "not run")) else here
            lines.append(f"| {first} | {link} | {result} |")
    return "\n".join([body, "", "## Proof", "", BEGIN, "", *lines, "", END, ""])


def _last_results(root: Path) -> dict[str, str]:
    file = root / RESULTS
    results: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    for journal in sorted((root / "loadtests" / "runs").glob("*/journal.json"), key=lambda each: each.stat().st_mtime):
        told = json.loads(journal.read_text())
        if told["control"] is None:
            key = f"loadtests/drills/{told['drill']}.yaml::drill {told['drill']}"
            results[key] = f"{told['verdict'].lower()} ({told['profile']['name']}), {told['ended'][:10]}"
    return results


def _without_results(text: str) -> str:
    return re.sub(r"\| [^|\n]* \|$", "|", text, flags=re.MULTILINE)


def main(root: Path = ROOT, *, check: bool) -> int:
    """Returns the exit code."""
    pages = {page: page.read_text() for page in sorted((root / "docs" / "systems").glob("*.md"))}
    found, results = proofs(root), _last_results(root)
    wrong = faults(pages, found)
    for page, text in pages.items():
        new = with_table(text, found, results)
        if check and _without_results(new) != _without_results(text):
            wrong.append(f"The table of {page.name} is not up to date. Run: make promises")
        elif not check:
            page.write_text(new)
    print(
        "\n".join(wrong)
        if wrong
        else f"{sum(map(len, found.values()))} proofs of {len(found)} promises on {len(pages)} pages"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
