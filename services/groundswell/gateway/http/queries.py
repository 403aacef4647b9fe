"""Query parameters to fields: nested names (`range.start`), repeats for repeated fields, well-known types in their JSON form.

Only leaves can be named: a message as a whole, a map or a field that the path or the body fills is not a parameter.

The query of a lax route, such as a redirect's, is whatever others have put behind the address: there only known names are read at all.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from groundswell.gateway import errors
from groundswell.gateway.http import json_bodies
from groundswell.gateway.http.routes import WHOLE_BODY, Route
from groundswell.kernel.errors import FieldViolation

PARAMETERS_MAX = 1_000
NESTING_MAX = 4
_TEXTUAL = frozenset(
    f"{json_bodies.WELL_KNOWN}{name}"
    for name in (
        "Timestamp", "Duration", "FieldMask", "StringValue", "BytesValue", "BoolValue", "Int32Value", "UInt32Value", "Int64Value",
        "UInt64Value", "FloatValue", "DoubleValue",
    )
)  # fmt: skip
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A leaf field; `path` are the fields from the request down to it, `name` its lowerCamel spelling."""

    name: str
    path: tuple[FieldDescriptor, ...]

    @property
    def field(self) -> FieldDescriptor:
        """The leaf."""
        return self.path[-1]


@cache
def parameters_of(route: Route) -> dict[str, Parameter]:
    """Every query parameter of `route`, by each way to write it."""
    if route.body == WHOLE_BODY:
        return {}
    bound = {variable.field for variable in route.template.variables} | {route.body, route.edge.host_field} - {""}
    found: dict[str, Parameter] = {}
    for parameter in _leaves(route.method.input_type, (), bound):
        proto_name = ".".join(field.name for field in parameter.path)
        found[parameter.name] = parameter
        found[proto_name] = parameter
    return found


def listed(route: Route) -> list[Parameter]:
    """The query parameters of `route`, each once."""
    return list(dict.fromkeys(parameters_of(route).values()))


def _leaves(message: Descriptor, above: tuple[FieldDescriptor, ...], bound: set[str]) -> Iterator[Parameter]:
    for field in message.fields:
        path = (*above, field)
        if ".".join(each.name for each in path) in bound:
            continue
        inner = field.message_type
        if inner is None or inner.full_name in _TEXTUAL:
            yield Parameter(".".join(each.json_name for each in path), path)
        elif json_bodies.is_plain(inner) and not field.is_repeated and len(path) < NESTING_MAX:
            yield from _leaves(inner, path, bound)


def pairs_of(query: bytes) -> list[tuple[str, str]]:
    """The decoded pairs of a query string; raises `MalformedRequest` when it is no UTF-8 or has over 1,000 parameters."""
    parts = [part for part in query.split(b"&") if part]
    if len(parts) > PARAMETERS_MAX:
        raise errors.MalformedRequest(f"A query has at most {PARAMETERS_MAX} parameters.")
    try:
        return [_pair(part) for part in parts]
    except UnicodeDecodeError as error:
        raise errors.MalformedRequest("The query must be UTF-8, percent-encoded.") from error


def known_pairs_of(query: bytes, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """The pairs whose names are `known`; all others, and what is no UTF-8, are passed over."""
    for part in query.split(b"&") if known else ():
        with suppress(UnicodeDecodeError):
            name, value = _pair(part)
            if name in known:
                yield name, value


def _pair(part: bytes) -> tuple[str, str]:
    name, _, value = part.partition(b"=")
    return _decoded(name), _decoded(value)


def _decoded(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode()


def fill(message: Message, route: Route, query: bytes) -> None:
    """Sets the fields that `query` names; raises `InvalidFields`."""
    known = parameters_of(route)
    given: dict[Parameter, list[str]] = {}
    violations: list[FieldViolation] = []
    for name, text in known_pairs_of(query, known) if route.lax else pairs_of(query):
        if parameter := known.get(name):
            given.setdefault(parameter, []).append(text)
        else:
            violations.append(FieldViolation(name[:256], "is no parameter of this request"))
    for parameter, texts in given.items():
        try:
            _set(message, parameter, texts)
        except json_bodies.InvalidFields as error:
            violations += error.fields
    if violations:
        raise json_bodies.InvalidFields(violations[: json_bodies.VIOLATIONS_MAX])


def _set(message: Message, parameter: Parameter, texts: list[str]) -> None:
    field = parameter.field
    if len(texts) > 1 and not field.is_repeated:
        raise json_bodies.InvalidFields([FieldViolation(parameter.name, "is given more than once")])
    values = [_value(field, text, parameter.name) for text in texts]
    inside = message
    for step in parameter.path[:-1]:
        inside = getattr(inside, step.name)
        inside.SetInParent()
    json_bodies.set_field(inside, field, values if field.is_repeated else values[0], parameter.name)


def _value(field: FieldDescriptor, text: str, name: str) -> Any:
    boolean = field.type == FieldDescriptor.TYPE_BOOL or (
        field.message_type is not None and field.message_type.full_name == "google.protobuf.BoolValue"
    )
    if boolean:
        if text not in _BOOLEANS:
            raise json_bodies.InvalidFields([FieldViolation(name, "must be true or false")])
        return _BOOLEANS[text]
    return text
