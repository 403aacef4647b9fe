"""How big things may be: what everything stands on has to be read by whoever adds a service."""

import ast
import io
import tokenize
from pathlib import Path

import groundswell.kernel

KERNEL_LINES_MAX = 6_000
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Lines that hold code: no blanks, no comments, no docstrings, also those of fields."""
    held = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(held)


def test_the_kernel_is_small_enough_to_be_read() -> None:
    files = Path(groundswell.kernel.__path__[0]).rglob("*.py")
    assert sum(code_lines(each.read_text()) for each in files) <= KERNEL_LINES_MAX


def test_only_lines_with_code_are_counted() -> None:
    assert (
        code_lines(
            '"""Idea."""\n\n# why\nX = 1  # one\n"""Of X."""\n\n\ndef f():\n    """Says."""\n    return """a\nb"""\n'
        )
        == 4
    )
