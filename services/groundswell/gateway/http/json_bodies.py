"""JSON to protobuf and back, by protobuf's own mapping, with errors that name the field.

Protobuf's parser stops at the first mistake and words it for programmers. So a body is parsed in one go, and only when that fails
walked field by field to say what is wrong where, in the caller's own spelling: all unknown fields and wrong values at once.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from groundswell.gateway import errors
from groundswell.kernel.errors import FieldViolation, Invalid

DEPTH_MAX = 64
NESTS_MAX = 50_000
"""Objects and arrays of one body: four megabytes hold a million empty ones, which would keep the door for ten seconds."""
FREE_DEPTH_MAX = 30
"""Of a value without a schema (`Struct`): each level takes three on the wire, where readers allow 100."""
_WIRE_DEPTH_MAX = 100
VIOLATIONS_MAX = 20
WELL_KNOWN = "google.protobuf."
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""Strings, of which one that does not end takes the rest, and brackets: each byte is looked at once, whatever the text."""
_REFUSALS = (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,19})", re.ASCII)
_FRACTION = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?|NaN|-?Infinity", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}", re.ASCII)


class InvalidFields(Invalid):
    """Fields of the request that are unknown or hold what they cannot."""

    reason = "INVALID_FIELDS"

    def __init__(self, violations: list[FieldViolation]) -> None:
        first = violations[0]
        more = f" ({len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(f"{first.field}: {first.description}{more}", fields=violations)


class MalformedJson(errors.MalformedRequest):
    def __init__(self, why: str) -> None:
        super().__init__(f"The body is not JSON that this door takes: {why}.")


def loads(body: bytes) -> Any:
    """The value of a JSON text; raises `MalformedJson`, also on duplicate keys, halves of surrogate pairs, nesting beyond 64 levels and
    50,000 nested values."""
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX:
        _check_nesting(body)
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_float=_finite, parse_constant=_constant)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise MalformedJson("it is not UTF-8") from error
    except UnicodeEncodeError as error:
        raise MalformedJson("it holds half of a surrogate pair") from error
    except (ValueError, RecursionError) as error:
        raise MalformedJson(str(error).split(" (char")[0].rstrip(".")) from error
    else:
        return value


def _check_nesting(body: bytes) -> None:
    depth = opened = 0
    for token in _TOKENS.finditer(body):
        match body[token.start()]:
            case 0x5B | 0x7B:  # [ {
                depth += 1
                opened += 1
            case 0x5D | 0x7D:  # ] }
                depth -= 1
        if depth > DEPTH_MAX:
            raise MalformedJson(f"it nests deeper than {DEPTH_MAX}")
        if opened > NESTS_MAX:
            raise MalformedJson(f"it holds more than {NESTS_MAX:,} objects and arrays")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"the key {name[:64]!r} comes twice")
        made[name] = value
    return made


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:32]} is too large")
    return number


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def parse_into(message: Message, value: Any, prefix: str = "", *, lax: bool = False) -> None:
    """Fills `message` from a JSON value; raises `InvalidFields` with paths under `prefix`."""
    found = list(_loose(descriptor_of(message), value, prefix))
    if found:
        raise InvalidFields(found[:VIOLATIONS_MAX])
    try:
        json_format.ParseDict(value, message, ignore_unknown_fields=lax, max_recursion_depth=_WIRE_DEPTH_MAX)
    except _REFUSALS as error:
        violations = itertools.islice(_violations(descriptor_of(message), value, prefix, lax), VIOLATIONS_MAX)
        raise InvalidFields(list(violations) or [FieldViolation(prefix or "body", _why(error))]) from error


def set_field(message: Message, field: FieldDescriptor, value: Any, prefix: str, *, lax: bool = False) -> None:
    """Sets one field of `message` from a JSON value whose path is `prefix`; raises `InvalidFields`."""
    found = list(_loose_field(field, value, prefix))
    if found:
        raise InvalidFields(found[:VIOLATIONS_MAX])
    try:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and isinstance(value, str):
            setattr(message, field.name, value)  # as the parser would, which takes ten times as long
            return
        json_format.ParseDict(
            {field.name: value}, message, ignore_unknown_fields=lax, max_recursion_depth=_WIRE_DEPTH_MAX
        )
    except _REFUSALS as error:
        violations = list(_field_violations(field, value, prefix, lax))
        raise InvalidFields(violations or [FieldViolation(prefix, _why(error))]) from error


def fields_by_json_name(message: Descriptor) -> dict[str, FieldDescriptor]:
    """Fields under both of their names, lowerCamel and the proto's."""
    return _fields(message)


@cache
def _fields(message: Descriptor) -> dict[str, FieldDescriptor]:
    return {name: field for field in message.fields for name in (field.json_name, field.name)}


def is_plain(message: Descriptor) -> bool:
    """Whether JSON shows the message as an object of its own fields (well-known types have forms of their own)."""
    return not message.full_name.startswith(WELL_KNOWN) or message.full_name == "google.protobuf.Empty"


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map, which descriptors show as repeated entries."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def descriptor_of(message: Message) -> Descriptor:
    """The message's descriptor under the type that all descriptors are used with."""
    found: Descriptor = message.DESCRIPTOR  # type: ignore[assignment]  # the stubs also name upb's own class here
    return found


def _loose(message: Descriptor, value: Any, path: str) -> Iterator[FieldViolation]:
    """What protobuf's parser would take although its specification does not: true as a number, 1_0, [] as a message."""
    if not isinstance(value, Mapping):
        yield FieldViolation(path or "body", "must be an object")
        return
    known = _fields(message)
    seen: set[str] = set()
    for name, inner in value.items():
        field = known.get(name)
        if field is None:
            continue
        here = f"{path}.{name}" if path else name
        if field.name in seen:
            yield FieldViolation(here, "is given under both of its names")
        seen.add(field.name)
        if inner is not None:
            yield from _loose_field(field, inner, here)


def _loose_field(field: FieldDescriptor, value: Any, path: str) -> Iterator[FieldViolation]:
    if is_map(field):
        assert field.message_type is not None  # a map is a message to descriptors
        if isinstance(value, Mapping):
            inner = field.message_type.fields_by_name["value"]
            for key, each in value.items():
                yield from _loose_element(inner, each, f"{path}.{key}")
    elif field.is_repeated:
        for index, each in enumerate(value if isinstance(value, list) else ()):
            if each is None:
                yield FieldViolation(f"{path}[{index}]", "must not be null")
            else:
                yield from _loose_element(field, each, f"{path}[{index}]")
    else:
        yield from _loose_element(field, value, path)


def _loose_element(field: FieldDescriptor, value: Any, path: str) -> Iterator[FieldViolation]:
    inner = field.message_type
    if inner is not None:
        if is_plain(inner):
            yield from _loose(inner, value, path)
        elif inner.full_name in _FREE:
            if _levels(value) > FREE_DEPTH_MAX:
                yield FieldViolation(path, f"nests deeper than {FREE_DEPTH_MAX}")
        elif inner.full_name in _WRAPPERS:
            yield from _loose_element(inner.fields_by_name["value"], value, path)
    elif field.enum_type is not None:
        if not _names_value(field.enum_type, value):
            yield FieldViolation(path, _expected(field))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        if isinstance(value, str) and not _BASE64.fullmatch(value):
            yield FieldViolation(path, "must be base64")
    elif (form := _FORMS.get(field.cpp_type)) and (
        isinstance(value, bool) or (isinstance(value, str) and not form.fullmatch(value))
    ):
        yield FieldViolation(path, _EXPECTED[field.cpp_type])


def _levels(value: Any) -> int:
    """How deep a JSON value nests; a text's depth was bounded before."""
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(_levels, inner), default=0) if isinstance(inner, list) else 0


def _names_value(enum: EnumDescriptor, value: Any) -> bool:
    """Whether `value` is a name or number of `enum`; in a query the number is text."""
    if isinstance(value, str):
        return value in enum.values_by_name or (bool(_WHOLE.fullmatch(value)) and int(value) in enum.values_by_number)
    return isinstance(value, int) and not isinstance(value, bool) and value in enum.values_by_number


def _violations(message: Descriptor, value: Mapping[str, Any], path: str, lax: bool) -> Iterator[FieldViolation]:
    """What the parser refused, field by field; `_loose` has found nothing before."""
    known = _fields(message)
    for name, inner in value.items():
        here = f"{path}.{name}" if path else name
        field = known.get(name)
        if field is not None:
            yield from _field_violations(field, inner, here, lax)
        elif not lax:
            yield FieldViolation(here[:256], "is no field of this request")


def _field_violations(field: FieldDescriptor, value: Any, path: str, lax: bool) -> Iterator[FieldViolation]:
    if value is None:
        return
    if field.is_repeated and not is_map(field):
        if not isinstance(value, list):
            yield FieldViolation(path, "must be an array")
            return
        for index, each in enumerate(value):
            yield from _element_violations(field, each, f"{path}[{index}]", lax)
    elif is_map(field):
        yield from _leaf_violations(field, value, path)
    else:
        yield from _element_violations(field, value, path, lax)


def _element_violations(field: FieldDescriptor, value: Any, path: str, lax: bool) -> Iterator[FieldViolation]:
    if field.message_type is not None and is_plain(field.message_type) and isinstance(value, Mapping):
        yield from _violations(field.message_type, value, path, lax)
    else:
        yield from _leaf_violations(field, [value] if field.is_repeated else value, path)


def _leaf_violations(field: FieldDescriptor, value: Any, path: str) -> Iterator[FieldViolation]:
    assert field.containing_type is not None  # only extensions have none, and they have no JSON name here
    scratch = message_factory.GetMessageClass(field.containing_type)()
    try:
        json_format.ParseDict({field.name: value}, scratch, max_recursion_depth=_WIRE_DEPTH_MAX)
    except _REFUSALS as error:
        yield FieldViolation(path, _expected(field) or _why(error))


_EXPECTED = {
    FieldDescriptor.CPPTYPE_INT32: "must be a whole number of 32 bits",
    FieldDescriptor.CPPTYPE_UINT32: "must be a whole number from 0 to 4294967295",
    FieldDescriptor.CPPTYPE_INT64: "must be a whole number of 64 bits, as text or number",
    FieldDescriptor.CPPTYPE_UINT64: "must be a whole number of 64 bits that is not negative, as text or number",
    FieldDescriptor.CPPTYPE_DOUBLE: "must be a number",
    FieldDescriptor.CPPTYPE_FLOAT: "must be a number",
    FieldDescriptor.CPPTYPE_BOOL: "must be true or false",
}
_FORMS = {
    FieldDescriptor.CPPTYPE_INT32: _WHOLE,
    FieldDescriptor.CPPTYPE_UINT32: _WHOLE,
    FieldDescriptor.CPPTYPE_INT64: _WHOLE,
    FieldDescriptor.CPPTYPE_UINT64: _WHOLE,
    FieldDescriptor.CPPTYPE_DOUBLE: _FRACTION,
    FieldDescriptor.CPPTYPE_FLOAT: _FRACTION,
}
_FREE = frozenset(f"{WELL_KNOWN}{name}" for name in ("Struct", "Value", "ListValue"))
_WRAPPERS = frozenset(
    f"{WELL_KNOWN}{name}Value" for name in ("Bytes", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double")
)
_EXPECTED_MESSAGE = {
    "google.protobuf.Timestamp": "must be a time such as 2026-01-02T03:04:05Z",
    "google.protobuf.Duration": "must be a length of time in seconds such as 1.5s",
    "google.protobuf.FieldMask": "must be names of fields, separated by commas",
    "google.protobuf.Struct": "must be an object",
}


def _expected(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return _EXPECTED_MESSAGE.get(field.message_type.full_name, "")
    if field.enum_type is not None:
        return f"must be one of {', '.join(value.name for value in field.enum_type.values)}"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "must be base64"
    return _EXPECTED.get(field.cpp_type, "must be text")


def _why(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else "cannot be read"


def to_json(message: Message) -> Any:
    """The JSON value of an answer: fields without presence are always there, input-only ones never."""
    value = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    if hidden(descriptor_of(message)):
        _hide(descriptor_of(message), value)
    return value


def behaviors(field: FieldDescriptor) -> frozenset[int]:
    """The `google.api.field_behavior` values of a field."""
    return _behaviors(field)


@cache
def _behaviors(field: FieldDescriptor) -> frozenset[int]:
    return frozenset(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


@cache
def hidden(message: Descriptor) -> tuple[FieldDescriptor, ...]:
    """The fields of `message` that are input-only, or hold such a field somewhere below."""
    return tuple(_hidden(message, frozenset()))


def _hidden(message: Descriptor, above: frozenset[str]) -> Iterator[FieldDescriptor]:
    above = above | {message.full_name}
    for field in message.fields:
        inner = field.message_type
        below = (
            inner is not None
            and is_plain(inner)
            and not is_map(field)
            and inner.full_name not in above
            and any(_hidden(inner, above))
        )
        if field_behavior_pb2.INPUT_ONLY in behaviors(field) or below:
            yield field


def _hide(message: Descriptor, value: dict[str, Any]) -> None:
    for field in hidden(message):
        if field_behavior_pb2.INPUT_ONLY in behaviors(field):
            value.pop(field.json_name, None)
        elif field.message_type is not None and (inner := value.get(field.json_name)) is not None:
            for each in inner if field.is_repeated else (inner,):
                _hide(field.message_type, each)
