"""JSON schemas of protobuf messages, as protobuf's JSON mapping reads and writes them.

A schema says what is accepted, not what is pretty: whole numbers may come as text, and null means that a field is not set. Each
message has up to two forms: the full one, and a `Patch` one for bodies that name only what they change.
"""

from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from groundswell.gateway.http import json_bodies

Schema = dict[str, Any]

REF = "#/components/schemas/"
_F = FieldDescriptor

_INTEGERS = {
    _F.CPPTYPE_INT32: "int32",
    _F.CPPTYPE_UINT32: "uint32",
    _F.CPPTYPE_INT64: "int64",
    _F.CPPTYPE_UINT64: "uint64",
}
_BOUNDS = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "uint32": (0, (1 << 32) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint64": (0, (1 << 64) - 1),
}
_WELL_KNOWN: dict[str, Schema] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,9})?s$"},
    "FieldMask": {
        "type": "string",
        "pattern": r"^([a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*(,[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*)*)?$",
    },
    "Struct": {"type": "object"},
    "ListValue": {"type": "array"},
    "Value": {},
    "Any": {"type": "object"},
    "Empty": {"type": "object", "additionalProperties": False},
}


class Schemas:
    """Collects the schemas that a document refers to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def reference(self, message: Descriptor, *, patch: bool = False) -> Schema:
        """A reference to the schema of `message`, which is added when it is new."""
        own_form = self._well_known(message)
        if own_form is not None:
            return own_form
        name = message.full_name.removeprefix("groundswell.api.") + ("Patch" if patch else "")
        if name not in self.components:
            self.components[name] = {}  # a message may hold itself
            self.components[name] = self._object(message, patch=patch)
        return {"$ref": REF + name}

    def field(self, field: FieldDescriptor, *, parameter: bool = False, patch: bool = False) -> Schema:
        """The schema of a field's value; `parameter`: as text in a path or query."""
        if field.message_type is not None and json_bodies.is_map(field):
            value = field.message_type.fields_by_name["value"]
            return {"type": "object", "additionalProperties": self._element(value, parameter, patch)}
        element = self._element(field, parameter, patch)
        return {"type": "array", "items": element} if field.is_repeated else element

    def _object(self, message: Descriptor, *, patch: bool) -> Schema:
        properties = {field.json_name: self._property(field, patch) for field in message.fields}
        required = [field.json_name for field in message.fields if _required(field)]
        schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if required and not patch:
            schema["required"] = required
        return schema

    def _property(self, field: FieldDescriptor, patch: bool) -> Schema:
        schema = dict(self.field(field, patch=patch))
        behaviors = json_bodies.behaviors(field)
        if _required(field) and not patch:
            if field.is_repeated:
                schema["minItems"] = 1
            elif schema.get("type") == "string" and "format" not in schema and "pattern" not in schema:
                schema["minLength"] = 1
        else:
            schema = _nullable(schema)
        if field_behavior_pb2.OUTPUT_ONLY in behaviors:
            schema["readOnly"] = True
        if field_behavior_pb2.INPUT_ONLY in behaviors:
            schema["writeOnly"] = True
        return schema

    def _element(self, field: FieldDescriptor, parameter: bool, patch: bool) -> Schema:
        if field.message_type is not None:
            return self.reference(field.message_type, patch=patch)
        if field.enum_type is not None:
            names = [value.name for value in field.enum_type.values]
            return {"type": ["string", "integer"], "enum": [*names, *sorted(field.enum_type.values_by_number)]}
        if name := _INTEGERS.get(field.cpp_type):
            return self._whole(field, name, parameter)
        if field.cpp_type in (_F.CPPTYPE_DOUBLE, _F.CPPTYPE_FLOAT):
            return _float(field, parameter)
        if field.cpp_type == _F.CPPTYPE_BOOL:
            return {"type": "boolean"}
        if field.type == _F.TYPE_BYTES:
            return {"type": "string", "format": "byte", "contentEncoding": "base64"}
        return {"type": "string"}

    def _whole(self, field: FieldDescriptor, name: str, parameter: bool) -> Schema:
        least, most = _BOUNDS[name]
        if parameter:
            least = 0 if field.name == "page_size" else least  # AIP-158
            return {"type": "integer", "format": name, "minimum": least, "maximum": most}
        self.components.setdefault(name.capitalize(), _integer(name))
        return {"$ref": REF + name.capitalize()}

    def _well_known(self, message: Descriptor) -> Schema | None:
        if not message.full_name.startswith(json_bodies.WELL_KNOWN):
            return None
        name = message.full_name.removeprefix(json_bodies.WELL_KNOWN)
        if name.endswith("Value") and name not in _WELL_KNOWN:
            return self._element(message.fields_by_name["value"], parameter=False, patch=False)
        return dict(_WELL_KNOWN.get(name, {"type": "object"}))


def _integer(name: str) -> Schema:
    """A whole number as text or number, with a pattern that ends exactly where its bits do."""
    least, most = _BOUNDS[name]
    kinds = ["string", "integer"] if name.endswith("64") else ["integer", "string"]
    pattern = f"^{_up_to(most)}$" if least == 0 else f"^(-?{_up_to(most)}|{least})$"
    return {"type": kinds, "format": name, "minimum": least, "maximum": most, "pattern": pattern}


def _up_to(most: int) -> str:
    """A pattern of the decimal numbers from 0 to `most`, without leading zeros."""
    digits = str(most)
    parts = ["0", f"[1-9][0-9]{{0,{len(digits) - 2}}}"]
    for place, digit in enumerate(digits):
        least = 1 if place == 0 else 0
        if int(digit) > least:
            rest = len(digits) - place - 1
            parts.append(f"{digits[:place]}[{least}-{int(digit) - 1}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return f"({'|'.join([*parts, digits])})"


def _float(field: FieldDescriptor, parameter: bool) -> Schema:
    single = field.cpp_type == _F.CPPTYPE_FLOAT
    number: Schema = {"type": "number", "format": "float" if single else "double"}
    if single:
        number |= {"minimum": -3.4e38, "maximum": 3.4e38}
    if parameter:
        return number
    text = {"type": "string", "pattern": r"^(-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?|NaN|-?Infinity)$"}
    return {"anyOf": [number, text]}


def _nullable(schema: Schema) -> Schema:
    kinds = schema.get("type")
    if kinds is None:
        return schema if not schema else {"anyOf": [schema, {"type": "null"}]}
    schema["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema


def _required(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.REQUIRED in json_bodies.behaviors(field)
