"""Routes, read from the descriptors: one for each `google.api.http` binding of each method of the platform.

A method's rule and edge options are read here once, so that a mistake in a proto file stops the start and never a request.
Methods that are internal get no route, whatever they are annotated with.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from google.api import annotations_pb2, http_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from groundswell.api.gateway.v1 import edge_pb2
from groundswell.gateway import errors
from groundswell.gateway.model import templates
from groundswell.kernel import access

ANY_METHOD = "*"
WHOLE_BODY = "*"
_READ_ONLY = frozenset({"GET", "HEAD"})


class MisusedOption(Exception):
    """An option in a proto file names what does not exist, or does not fit its method."""


@dataclass(frozen=True, eq=False)
class Route:
    """One way to call one method over HTTP."""

    http_method: str
    template: templates.Template
    method: MethodDescriptor
    upstream: str
    """Name of the module that serves the method."""
    rule: access.Rule
    edge: edge_pb2.Edge
    body: str
    response_body: str
    primary: bool
    """Whether it is the method's own binding, not an additional one."""
    request_class: type[Message]
    response_class: type[Message]

    @property
    def read_only(self) -> bool:
        """Whether HTTP promises that the call changes nothing."""
        return self.http_method in _READ_ONLY

    @property
    def cacheable(self) -> bool:
        """Whether its answers may be kept."""
        return self.edge.HasField("cache") and self.http_method == "GET"

    @property
    def lax(self) -> bool:
        """Whether unknown parameters are ignored; those of a redirect are the visitor's own."""
        return self.edge.lax or self.edge.HasField("redirect")


@dataclass(frozen=True, slots=True)
class Match:
    """A route with the values that the path gives to its fields."""

    route: Route
    values: list[tuple[str, str]]


class RouteTable:
    """All routes of `services` (by the module that serves them)."""

    def __init__(self, services: Mapping[str, Sequence[ServiceDescriptor]]) -> None:
        self.routes = sorted(_routes(services), key=_precedence)
        """In matching order."""
        self._tree: templates.Tree[Route] = templates.Tree()
        for route in self.routes:
            self._tree.add(route.template, route.http_method, route)

    def match(self, http_method: str, raw_path: bytes) -> Match:
        """The route of a path's best template; raises `RouteNotFound`, `MethodNotAllowed`, `MalformedRequest`."""
        segments = segments_of(raw_path)
        leaf = self._tree.find(segments)
        if leaf is None:
            raise errors.RouteNotFound
        implied = leaf.get("GET") if http_method == "HEAD" else None
        route = leaf.get(http_method) or leaf.get(ANY_METHOD) or implied
        if route is None:
            raise errors.MethodNotAllowed(methods_with_implied(set(leaf)))
        return Match(route, _values(route, segments))

    def allowed(self, raw_path: bytes) -> list[str]:
        """The HTTP methods of a path; empty when nothing is there."""
        leaf = self._tree.find(segments_of(raw_path))
        return methods_with_implied(set(leaf)) if leaf else []


def methods_with_implied(methods: set[str]) -> list[str]:
    """`methods`, with what each path takes besides: HEAD where there is GET, and OPTIONS."""
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()) | {"OPTIONS"})


def segments_of(raw_path: bytes) -> list[str]:
    """The decoded segments of a path, without a trailing slash; raises `MalformedRequest`."""
    path = raw_path[1:-1] if len(raw_path) > 1 and raw_path.endswith(b"/") else raw_path[1:]
    if b"%" not in path:
        return path.decode("ascii", "replace").split("/")
    try:
        segments = [unquote_to_bytes(segment).decode() for segment in path.split(b"/")]
    except UnicodeDecodeError as error:
        raise errors.MalformedRequest("The path must be UTF-8, percent-encoded.") from error
    if any("\0" in segment for segment in segments):
        raise errors.RouteNotFound
    return segments


def _values(route: Route, segments: list[str]) -> list[tuple[str, str]]:
    if route.template.verb:
        segments = [*segments[:-1], segments[-1].removesuffix(":" + route.template.verb)]
    return route.template.values(segments)


def _precedence(route: Route) -> tuple[list[int], bool, str]:
    """Literals before `*` before `**`, place by place; verbs before none."""
    ranks = {templates.ONE: 1, templates.REST: 2}
    return [ranks.get(segment, 0) for segment in route.template.segments], not route.template.verb, route.template.text


def _routes(services: Mapping[str, Sequence[ServiceDescriptor]]) -> Iterator[Route]:
    for upstream, descriptors in services.items():
        for service in descriptors:
            for method in service.methods:
                rule = access.rule_of(method)
                options = method.GetOptions()
                if rule.audience is access.Audience.INTERNAL or not options.HasExtension(annotations_pb2.http):
                    continue
                if method.client_streaming:
                    raise MisusedOption(f"{method.full_name}: client streams have no HTTP shape here.")
                http = options.Extensions[annotations_pb2.http]
                for binding in (http, *http.additional_bindings):
                    yield _route(binding, method, upstream, rule, primary=binding is http)


def _route(
    binding: http_pb2.HttpRule, method: MethodDescriptor, upstream: str, rule: access.Rule, *, primary: bool
) -> Route:
    kind = binding.WhichOneof("pattern")
    if kind is None:
        raise MisusedOption(f"{method.full_name}: a google.api.http binding has no path.")
    http_method, text = (
        (binding.custom.kind.upper(), binding.custom.path)
        if kind == "custom"
        else (kind.upper(), getattr(binding, kind))
    )
    edge: edge_pb2.Edge = method.GetOptions().Extensions[edge_pb2.edge]
    template = templates.parse(text)
    for variable in template.variables:
        field_at(method.input_type, variable.field)
    if binding.body and binding.body != WHOLE_BODY:
        field_at(method.input_type, binding.body)
    if binding.response_body:
        field_at(method.output_type, binding.response_body)
    _check(edge, method)
    return Route(
        http_method=http_method,
        template=template,
        method=method,
        upstream=upstream,
        rule=rule,
        edge=edge,
        body=binding.body,
        response_body=binding.response_body,
        primary=primary,
        request_class=message_factory.GetMessageClass(method.input_type),
        response_class=message_factory.GetMessageClass(method.output_type),
    )


def _check(edge: edge_pb2.Edge, method: MethodDescriptor) -> None:
    """Raises `MisusedOption` when an edge option names a field that is not there."""
    if edge.host_field:
        field_at(method.input_type, edge.host_field)
    named = [
        edge.cache.ttl_field,
        edge.cache.shared_max_age_field,
        edge.telemetry.item_field,
        edge.telemetry.tenant_field,
        edge.redirect.location_field,
        edge.redirect.status_field,
        edge.redirect.preview_field,
        edge.sse.event_field,
        edge.sse.id_field,
        *(path for tag in edge.cache.tags for path in tag_fields(tag)),
    ]
    for path in filter(None, named):
        field_at(method.output_type, path)


def tag_fields(tag: str) -> list[str]:
    """The field paths in braces of a tag such as `link/{domain}/{code}`."""
    return [part.partition("}")[0] for part in tag.split("{")[1:]]


def field_at(message: Descriptor, path: str) -> FieldDescriptor:
    """The field at a dotted path of proto names; raises `MisusedOption`."""
    field: FieldDescriptor | None = None
    inside: Descriptor | None = message
    for name in path.split("."):
        field = inside.fields_by_name.get(name) if inside else None
        if field is None:
            raise MisusedOption(f"{message.full_name} has no field {path!r}.")
        inside = field.message_type
    assert field is not None  # a path has at least one name
    return field
