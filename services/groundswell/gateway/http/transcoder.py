"""One HTTP request to one protobuf message, and the answer back, as the route's binding says.

Order of authority: the path, then the body, then the query, then what the door itself fills in (the host, the request id, the mask
of a PATCH). A field belongs to one of them only.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import orjson
from google.api import field_behavior_pb2, httpbody_pb2
from google.protobuf import field_mask_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from groundswell.gateway.http import json_bodies, queries
from groundswell.gateway.http.routes import WHOLE_BODY, Match, Route
from groundswell.kernel.errors import FieldViolation, Invalid

HTTP_BODY = httpbody_pb2.HttpBody.DESCRIPTOR.full_name
JSON_TYPE = "application/json"
REQUEST_ID = "request_id"
REQUEST_ID_LENGTH_MAX = 255
_MASK_PATH = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", re.ASCII)
UPDATE_MASK = "update_mask"
LAST_EVENT_ID = "last_event_id"


class IdempotencyKeyDiffers(Invalid):
    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key and request_id name two different requests. Send one of them, or the same.",
            field="request_id",
        )


class IdempotencyKeyInvalid(Invalid):
    def __init__(self) -> None:
        super().__init__(f"Idempotency-Key has 1 to {REQUEST_ID_LENGTH_MAX} printable ASCII characters.")


def takes_body(route: Route) -> bool:
    """Whether the route reads a body."""
    return bool(route.body)


def body_required(route: Route) -> bool:
    """Whether a request without a body can only be a mistake."""
    field = route.method.input_type.fields_by_name.get(route.body)
    return field is not None and (
        route.http_method == "PATCH" or field_behavior_pb2.REQUIRED in json_bodies.behaviors(field)
    )


def raw_body_field(route: Route) -> str | None:
    """The request field that takes the body as raw bytes (`google.api.HttpBody`): a name, "" for the request itself, or None."""
    if route.body == WHOLE_BODY:
        return "" if route.method.input_type.full_name == HTTP_BODY else None
    field = route.method.input_type.fields_by_name.get(route.body)
    is_raw = field is not None and field.message_type is not None and field.message_type.full_name == HTTP_BODY
    return route.body if is_raw else None


def request_of(match: Match, query: bytes, body: bytes, media_type: str = JSON_TYPE) -> Message:
    """The request message; raises errors of `kernel.errors` that name every wrong field."""
    route = match.route
    message = route.request_class()
    if route.body and (body or raw_body_field(route) is not None):
        _fill_from_body(message, route, body, media_type)
    elif body_required(route):
        raise json_bodies.InvalidFields([FieldViolation(route.body, "is required: the request needs a body")])
    if query:
        queries.fill(message, route, query)
    for name, text in match.values:
        _set_path(message, name, text)
    _require(message, route)
    return message


def _fill_from_body(message: Message, route: Route, body: bytes, media_type: str) -> None:
    raw = raw_body_field(route)
    if raw is not None:
        (getattr(message, raw) if raw else message).MergeFrom(httpbody_pb2.HttpBody(content_type=media_type, data=body))
        return
    value = json_bodies.loads(body)
    if route.body == WHOLE_BODY:
        json_bodies.parse_into(message, value, lax=route.lax)
        return
    field = route.method.input_type.fields_by_name[route.body]
    if field.message_type is not None and not field.is_repeated and json_bodies.is_plain(field.message_type):
        inside = getattr(message, field.name)
        inside.SetInParent()
        json_bodies.parse_into(inside, value, field.json_name, lax=route.lax)
        if route.http_method == "PATCH":
            _fill_mask(message, field.message_type, value)
    else:
        json_bodies.set_field(message, field, value, field.json_name, lax=route.lax)


def _fill_mask(message: Message, body: Descriptor, value: Mapping[str, Any]) -> None:
    """A PATCH without a mask changes what its body names: only the door still knows which fields those were."""
    mask = message.DESCRIPTOR.fields_by_name.get(UPDATE_MASK)
    if mask is not None and not message.HasField(UPDATE_MASK):
        getattr(message, UPDATE_MASK).paths.extend(_paths(body, value))


def _paths(message: Descriptor, value: Mapping[str, Any], above: str = "") -> Iterator[str]:
    known = json_bodies.fields_by_json_name(message)
    for name, inner in value.items():
        field = known.get(name)
        if field is None or field_behavior_pb2.OUTPUT_ONLY in json_bodies.behaviors(field):
            continue
        path = f"{above}{field.name}"
        below = field.message_type
        nested = below is not None and json_bodies.is_plain(below) and not field.is_repeated
        if below is not None and nested and isinstance(inner, Mapping) and inner:
            yield from _paths(below, inner, f"{path}.")
        else:
            yield path


def _set_path(message: Message, name: str, text: str) -> None:
    *above, last = name.split(".")
    for step in above:
        message = getattr(message, step)
    json_bodies.set_field(message, json_bodies.descriptor_of(message).fields_by_name[last], text, name)


def _require(message: Message, route: Route) -> None:
    """Refuses what only the whole request shows: required fields left out (a PATCH may, in its body), masks of nonsense."""
    partial = route.body if route.http_method == "PATCH" else ""
    violations = list(_wrong(message, "", partial))
    if violations:
        raise json_bodies.InvalidFields(violations[: json_bodies.VIOLATIONS_MAX])


def _wrong(message: Message, above: str, partial: str) -> Iterator[FieldViolation]:
    for field in _checked(json_bodies.descriptor_of(message)):
        path = f"{above}{field.json_name}"
        value = getattr(message, field.name)
        if field_behavior_pb2.REQUIRED in json_bodies.behaviors(field) and _absent(message, field, value):
            yield FieldViolation(path, "is required")
        elif isinstance(value, field_mask_pb2.FieldMask):
            if not all(_MASK_PATH.fullmatch(each) for each in value.paths):
                yield FieldViolation(path, "must be names of fields, separated by commas")
        elif field.message_type is not None and json_bodies.is_plain(field.message_type) and field.name != partial:
            if not field.is_repeated and message.HasField(field.name):
                yield from _wrong(value, f"{path}.", "")
            elif field.is_repeated and not json_bodies.is_map(field):
                for index, each in enumerate(value):
                    yield from _wrong(each, f"{path}[{index}].", "")


@cache
def _checked(message: Descriptor) -> tuple[FieldDescriptor, ...]:
    """The fields that can be wrong on their own account: required ones and messages."""
    return tuple(
        field
        for field in message.fields
        if field.message_type is not None or field_behavior_pb2.REQUIRED in json_bodies.behaviors(field)
    )


def _absent(message: Message, field: FieldDescriptor, value: Any) -> bool:
    """Absent as far as the wire tells: for numbers and booleans without presence, zero is a value."""
    if field.is_repeated:
        return not len(value)
    if field.has_presence:
        return not message.HasField(field.name)
    return field.cpp_type == FieldDescriptor.CPPTYPE_STRING and not value


def name_request(message: Message, key: str | None) -> None:
    """Puts `Idempotency-Key` into the request's `request_id`, where it has one; raises `Invalid` when the two differ."""
    if key is None:
        return
    if not 0 < len(key) <= REQUEST_ID_LENGTH_MAX or not key.isprintable() or not key.isascii():
        raise IdempotencyKeyInvalid
    if REQUEST_ID not in message.DESCRIPTOR.fields_by_name:
        return
    if getattr(message, REQUEST_ID) not in ("", key):
        raise IdempotencyKeyDiffers
    setattr(message, REQUEST_ID, key)


def resume(message: Message, last_event_id: str | None) -> None:
    """Tells a stream after which event the client wants it, where its request has a field for that."""
    if last_event_id and LAST_EVENT_ID in message.DESCRIPTOR.fields_by_name:
        setattr(message, LAST_EVENT_ID, last_event_id)


def value_at(message: Message, path: str) -> Any:
    """The value of a field at a dotted path."""
    value: Any = message
    for name in path.split("."):
        value = getattr(value, name)
    return value


def answer_of(route: Route, message: Message) -> tuple[bytes, str]:
    """Body and media type of an answer."""
    inner = value_at(message, route.response_body) if route.response_body else message
    if isinstance(inner, Message):
        if inner.DESCRIPTOR.full_name == HTTP_BODY:
            return value_at(inner, "data"), value_at(inner, "content_type") or "application/octet-stream"
        return orjson.dumps(json_bodies.to_json(inner)), JSON_TYPE
    field = message.DESCRIPTOR.fields_by_name[route.response_body.split(".")[0]]
    return orjson.dumps(json_bodies.to_json(message).get(field.json_name)), JSON_TYPE
