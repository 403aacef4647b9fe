"""The OpenAPI 3.1 document, from the same routes that answer requests: what it lists is what there is."""

import re
from typing import Any

import orjson
from google.api import field_behavior_pb2
from google.protobuf import empty_pb2

from groundswell.gateway.http import json_bodies, preview, queries, transcoder
from groundswell.gateway.http.routes import WHOLE_BODY, Route, RouteTable, field_at
from groundswell.gateway.http.schemas import REF, Schema, Schemas
from groundswell.gateway.model import templates
from groundswell.kernel import access

VERSION = "3.1.0"
PROBLEM = "Problem"
_PROBLEM_RESPONSE = {"$ref": "#/components/responses/Problem"}
_FIXED = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"})
"""Methods that OpenAPI 3.1 has a place for; others go where version 3.2 puts them, as an extension."""
_UPPER = re.compile(r"(?<!^)(?=[A-Z])")

_PROBLEM_SCHEMA: Schema = {
    "type": "object",
    "description": "RFC 9457. `type` is stable for each reason; `fields` names what is wrong in the request.",
    "required": ["type", "title", "status", "detail", "instance", "code", "message", "fields"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri"},
        "code": {"type": "string"},
        "message": {"type": "string"},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "description"],
                "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
            },
        },
    },
}
_HEADERS: Schema = {
    "RequestId": {
        "description": "Names this request in logs; the caller's own when it sent one.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Whole seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ETag": {
        "description": "Name of this very answer; send it as `If-None-Match`. A redirect is given all the same.",
        "schema": {"type": "string"},
    },
    "View": {
        "description": "What became of the row that counts this reading.",
        "schema": {"type": "string", "enum": ["counted", "spooled", "dropped", "skipped"]},
    },
}
_REQUEST_ID_HEADER = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
_IDEMPOTENCY_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Names this request, so that sending it again has no second effect and gives the same answer; kept 24 h.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": transcoder.REQUEST_ID_LENGTH_MAX,
        "pattern": "^[!-~]([ -~]*[!-~])?$",  # spaces around a header's value are not part of it (RFC 9110, 5.5)
    },
}


def document(table: RouteTable, title: str = "Groundswell") -> bytes:
    """The document, as JSON."""
    schemas = Schemas()
    paths: dict[str, Schema] = {}
    for route in table.routes:
        path, operation = _operation(route, schemas)
        item = paths.setdefault(path, {})
        if route.http_method in _FIXED:
            item[route.http_method.lower()] = operation
        else:
            item.setdefault("x-additional-operations", {})[route.http_method] = operation
    schemas.components[PROBLEM] = _PROBLEM_SCHEMA
    return orjson.dumps(
        {
            "openapi": VERSION,
            "info": {
                "title": title,
                "version": "1",
                "description": "Generated from the platform's protos. JSON is protobuf's JSON mapping; 64-bit numbers are text in answers.",
            },
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": dict(sorted(schemas.components.items())),
                "headers": _HEADERS,
                "responses": {PROBLEM: _problem_response()},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, `gsk_…`."},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                },
            },
        }
    )


def _problem_response() -> Schema:
    headers = _REQUEST_ID_HEADER | {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}
    content = {"application/problem+json": {"schema": {"$ref": REF + PROBLEM}}}
    return {"description": "The request failed; `type` says why.", "headers": headers, "content": content}


def _operation(route: Route, schemas: Schemas) -> tuple[str, Schema]:
    path, parameters = _path(route, schemas)
    parameters += [_query(parameter, schemas) for parameter in queries.listed(route)]
    if transcoder.REQUEST_ID in route.method.input_type.fields_by_name:
        parameters.append(_IDEMPOTENCY_KEY)
    service = route.method.containing_service.name.removesuffix("Service")
    operation: Schema = {
        "operationId": _operation_id(route),
        "tags": [service],
        "summary": _UPPER.sub(" ", route.method.name).capitalize(),
        "parameters": parameters,
        "responses": _responses(route, schemas),
        "security": [{"bearer": []}, {"apiKey": []}] if route.rule.audience is access.Audience.PERMISSION else [],
    }
    if route.rule.permission:
        operation["x-permission"] = route.rule.permission
    if transcoder.takes_body(route):
        operation["requestBody"] = _body(route, schemas)
    return path, operation


def _operation_id(route: Route) -> str:
    """The method's name; further bindings of a method get their path's words, for ids are unique."""
    words = "" if route.primary else "_" + re.sub(r"\W+", "_", f"{route.http_method}{route.template.text}").strip("_")
    return f"{route.method.containing_service.name}_{route.method.name}{words}"


def _path(route: Route, schemas: Schemas) -> tuple[str, list[Schema]]:
    """The OpenAPI path: each `*` of a variable becomes a parameter of its own, named after the collection before it."""
    template = route.template
    names: list[str] = []
    parts: list[str] = []
    parameters: list[Schema] = []
    for place, segment in enumerate(template.segments):
        if segment not in (templates.ONE, templates.REST):
            parts.append(segment)
            continue
        name = _unique(_parameter_name(template, place), names)
        names.append(name)
        parts.append(f"{{{name}}}")
        parameters.append({"name": name, "in": "path", "required": True, "schema": _path_schema(route, place, schemas)})
    path = "/" + "/".join(parts)
    return (f"{path}:{template.verb}" if template.verb else path), parameters


def _parameter_name(template: templates.Template, place: int) -> str:
    variable = next((v for v in template.variables if v.start <= place and (v.end is None or place < v.end)), None)
    if variable is not None and variable.end == variable.start + 1:
        return variable.field.replace(".", "_")
    before = template.segments[place - 1] if place else "path"
    if before in (templates.ONE, templates.REST):
        return "id"
    return before if before.endswith(("ies", "ves", "ses")) else before.removesuffix("s")


def _unique(name: str, taken: list[str]) -> str:
    return name if name not in taken else f"{name}{len(taken) + 1}"


def _path_schema(route: Route, place: int, schemas: Schemas) -> Schema:
    variable = next((v for v in route.template.variables if v.start == place and v.end == place + 1), None)
    schema: Schema = {"type": "string"}
    if variable is not None:
        schema = schemas.field(field_at(route.method.input_type, variable.field), parameter=True)
    if schema.get("type") == "string" and "pattern" not in schema and "enum" not in schema:
        schema = schema | {"minLength": 1, "pattern": r"^[^/\u0000]+$"}
    return schema


def _query(parameter: queries.Parameter, schemas: Schemas) -> Schema:
    schema = schemas.field(parameter.field, parameter=True)
    required = len(parameter.path) == 1 and field_behavior_pb2.REQUIRED in json_bodies.behaviors(parameter.field)
    if required and schema.get("type") == "string" and "pattern" not in schema:
        schema = schema | {"minLength": 1}
    made: Schema = {"name": parameter.name, "in": "query", "required": required, "schema": schema}
    if parameter.field.is_repeated:
        made |= {"style": "form", "explode": True}
    return made


def _body(route: Route, schemas: Schemas) -> Schema:
    if transcoder.raw_body_field(route) is not None:
        return {"required": False, "content": {"*/*": {"schema": {}}}}
    message = route.method.input_type
    if route.body == WHOLE_BODY:
        schema = _without_bound(route, schemas)
        required = bool(schema.get("required")) or (
            "$ref" in schema and bool(schemas.components[_name(schema)].get("required"))
        )
    else:
        field = message.fields_by_name[route.body]
        if field.message_type is not None and not field.is_repeated:
            schema = schemas.reference(field.message_type, patch=route.http_method == "PATCH")
        else:
            schema = schemas.field(field)
        required = transcoder.body_required(route)
    return {"required": required, "content": {transcoder.JSON_TYPE: {"schema": schema}}}


def _without_bound(route: Route, schemas: Schemas) -> Schema:
    """The whole request without the fields that the path fills."""
    reference = schemas.reference(route.method.input_type)
    bound = {
        field_at(route.method.input_type, v.field).json_name for v in route.template.variables if "." not in v.field
    }
    if not bound or "$ref" not in reference:
        return reference
    full = schemas.components[_name(reference)]
    schema = full | {"properties": {name: each for name, each in full["properties"].items() if name not in bound}}
    required = [name for name in full.get("required", ()) if name not in bound]
    return {**{k: v for k, v in schema.items() if k != "required"}, **({"required": required} if required else {})}


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).removeprefix(REF)


def _responses(route: Route, schemas: Schemas) -> Schema:
    edge, output = route.edge, route.method.output_type
    headers: dict[str, Any] = dict(_REQUEST_ID_HEADER)
    if edge.HasField("telemetry"):
        headers["Groundswell-View"] = {"$ref": "#/components/headers/View"}
    if edge.HasField("redirect"):
        led = headers | {"Location": {"schema": {"type": "string"}}}
        if edge.cache.shared_max_age_field:
            led["ETag"] = {"$ref": "#/components/headers/ETag"}
        moved = {"description": "Follow `Location`.", "headers": led}
        page = {
            "description": "A page that shows where this leads, in the redirect's place.",
            "headers": headers,
            "content": {preview.MEDIA_TYPE: {"schema": {"type": "string"}}},
        }
        shown = {"200": page} if edge.redirect.preview_field else {}
        return {**shown, **{str(status): moved for status in (301, 302, 307, 308)}, "default": _PROBLEM_RESPONSE}
    if output.full_name == empty_pb2.Empty.DESCRIPTOR.full_name:
        return {"204": {"description": "Done.", "headers": headers}, "default": _PROBLEM_RESPONSE}
    if route.cacheable:
        headers["ETag"] = {"$ref": "#/components/headers/ETag"}
    if edge.created and "name" in output.fields_by_name:
        headers["Location"] = {"schema": {"type": "string"}}
    answer = {"description": "Done.", "headers": headers, "content": _content(route, schemas)}
    unchanged = {"304": {"description": "The client has it.", "headers": headers}} if route.cacheable else {}
    return {"201" if edge.created else "200": answer, **unchanged, "default": _PROBLEM_RESPONSE}


def _content(route: Route, schemas: Schemas) -> Schema:
    output = route.method.output_type
    if route.response_body:
        field = output.fields_by_name[route.response_body]
        if field.message_type is not None and field.message_type.full_name == transcoder.HTTP_BODY:
            return {"*/*": {"schema": {}}}
        return {transcoder.JSON_TYPE: {"schema": schemas.field(field)}}
    if output.full_name == transcoder.HTTP_BODY:
        return {"*/*": {"schema": {}}}
    schema = schemas.reference(output)
    if route.method.server_streaming:
        return {
            "text/event-stream": {"schema": {"type": "string"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        }
    return {transcoder.JSON_TYPE: {"schema": schema}}
