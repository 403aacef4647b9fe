"""Path templates of `google.api.http`: `/v1/{name=links/*}:like`, and the tree that finds the route of a path.

Grammar (google/api/http.proto): segments are literals, `*` (one segment), `**` (the rest) or a variable over segments; a verb may
follow a colon. Paths are split before they are decoded, and decoded once, so an escaped slash never makes a new segment. Of several
matching templates the one with the earlier literal wins; `*` goes before `**`, a verb before none.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

ONE, REST = "*", "**"
_VARIABLE = re.compile(r"\{([a-zA-Z_][\w.]*)(?:=([^{}]+))?\}")
_LITERAL = re.compile(r"[^{}*=:/\s]+")


class MalformedTemplate(Exception):
    """A template that the grammar does not allow; a mistake in a proto file."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A field (`link.name`) bound to the segments `start` to `end`; `end` None means up to the end of the path."""

    field: str
    start: int
    end: int | None
    pattern: str


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template; `segments` holds literals, `ONE` and `REST`."""

    text: str
    segments: tuple[str, ...]
    variables: tuple[Variable, ...]
    verb: str

    def values(self, segments: Sequence[str]) -> list[tuple[str, str]]:
        """The variables' values in the decoded segments of a path that matches."""
        return [(v.field, "/".join(segments[v.start : v.end])) for v in self.variables]


def parse(text: str) -> Template:
    """The template in `text`; raises `MalformedTemplate`."""
    if not text.startswith("/"):
        raise MalformedTemplate(f"{text!r} must begin with a slash.")
    path, verb = _split_verb(text[1:])
    segments: list[str] = []
    variables: list[Variable] = []
    for part in _parts(path):
        match = _VARIABLE.fullmatch(part)
        inner = (match[2] or ONE) if match else part
        start = len(segments)
        for segment in inner.split("/"):
            if segment not in (ONE, REST) and not _LITERAL.fullmatch(segment):
                raise MalformedTemplate(f"{text!r}: {segment!r} is no segment.")
            segments.append(segment)
        if match:
            end = None if segments[-1] == REST else len(segments)
            variables.append(Variable(match[1], start, end, inner))
    if REST in segments[:-1]:
        raise MalformedTemplate(f"{text!r}: ** must be the last segment.")
    return Template(text, tuple(segments), tuple(variables), verb)


def _split_verb(path: str) -> tuple[str, str]:
    head, colon, verb = path.rpartition(":")
    if colon and "/" not in verb and "}" not in verb:
        return head, verb
    return path, ""


def _parts(path: str) -> Iterator[str]:
    """`path` cut at the slashes outside of braces."""
    depth, start = 0, 0
    for place, char in enumerate(path):
        depth += (char == "{") - (char == "}")
        if char == "/" and not depth:
            yield path[start:place]
            start = place + 1
    yield path[start:]


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: dict[str, "_Node[T]"] = field(default_factory=dict)
    one: "_Node[T] | None" = None
    rest: "_Node[T] | None" = None
    leaves: dict[str, dict[str, T]] = field(default_factory=dict)  # verb → HTTP method → route


class Tree(Generic[T]):
    """Routes by template and HTTP method; `*` as the method takes every one."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, template: Template, http_method: str, route: T) -> None:
        """Adds a route; raises `MalformedTemplate` when the same template and method are taken."""
        node = self._root
        for segment in template.segments:
            node = _child(node, segment)
        methods = node.leaves.setdefault(template.verb, {})
        if http_method in methods:
            raise MalformedTemplate(f"{http_method} {template.text} is given twice.")
        methods[http_method] = route

    def find(self, segments: Sequence[str]) -> dict[str, T] | None:
        """The routes (by HTTP method) of the best template that matches the decoded segments, or None."""
        return _best(self._root, segments, 0)


def _child(node: _Node[T], segment: str) -> _Node[T]:
    if segment == ONE:
        node.one = node.one or _Node()
        return node.one
    if segment == REST:
        node.rest = node.rest or _Node()
        return node.rest
    return node.literals.setdefault(segment, _Node())


def _best(node: _Node[T], segments: Sequence[str], place: int) -> dict[str, T] | None:
    found = node.leaves.get("") if place == len(segments) else _step(node, segments, place)
    return found or (_rest(node.rest, segments) if node.rest else None)


def _step(node: _Node[T], segments: Sequence[str], place: int) -> dict[str, T] | None:
    segment = segments[place]
    if place == len(segments) - 1 and ":" in segment:
        head, _, verb = segment.rpartition(":")
        for child in _matching(node, head):
            if verb and verb in child.leaves:
                return child.leaves[verb]
    for child in _matching(node, segment):
        if found := _best(child, segments, place + 1):
            return found
    return None


def _matching(node: _Node[T], segment: str) -> list[_Node[T]]:
    matching = [literal] if (literal := node.literals.get(segment)) else []
    if node.one and segment:
        matching.append(node.one)
    return matching


def _rest(node: _Node[T], segments: Sequence[str]) -> dict[str, T] | None:
    verb = segments[-1].rpartition(":")[2] if segments and ":" in segments[-1] else ""
    return (node.leaves.get(verb) if verb else None) or node.leaves.get("")
