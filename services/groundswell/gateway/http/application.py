"""The ASGI application: the hot path first, then everything else.

A request exactly like an earlier one, whose answer is kept and fresh, is answered from rendered bytes before it is parsed. All
others are matched, authenticated, transcoded and sent upstream. Nothing here knows a service.

Only so many requests may be under way. The bound stands where one would begin to wait: for an upstream, or for its body. What is in
memory is given beyond it, since it is gone at once, and is most of what a spike asks for.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from google.protobuf.message import Message
from opentelemetry import trace
from prometheus_client import Counter, Histogram

from groundswell.gateway import errors
from groundswell.gateway.clients import Upstreams
from groundswell.gateway.events import View, Views
from groundswell.gateway.http import console, problems, rendering, replies, requests, transcoder
from groundswell.gateway.http.exchange import Exchange
from groundswell.gateway.http.own import Own
from groundswell.gateway.http.places import Stay
from groundswell.gateway.http.requests import Receive, Request, Scope, Send
from groundswell.gateway.http.routes import Match, Route, RouteTable, methods_with_implied
from groundswell.gateway.http.streams import Streams
from groundswell.gateway.model.answers import Answer
from groundswell.gateway.service.answers import Answers, Verdict
from groundswell.gateway.service.patience import Patience
from groundswell.gateway.settings import GatewaySettings
from groundswell.kernel import access, telemetry
from groundswell.kernel import errors as kernel_errors
from groundswell.kernel.context import Context, Reached

log = logging.getLogger(__name__)

_REQUESTS = Counter(
    "groundswell_gateway_requests_total", "Requests answered, by route and status.", ["route", "status"]
)
_HOT = Counter("groundswell_gateway_hot_total", "Requests answered on the hot path.")
_SECONDS = Histogram("groundswell_gateway_seconds", "Time to answer a request that was not hot.", ["route"])

_seconds, _requests = cache(_SECONDS.labels), cache(_REQUESTS.labels)
"""A label's child is looked up once; routes and statuses are few."""
_VIEWS = {view: (b"groundswell-view", view.value) for view in View}
_CACHE_STATUS = {verdict: (b"cache-status", b"groundswell; " + verdict.value.encode()) for verdict in Verdict}
_PRECONDITIONS = (b"if-match", b"if-unmodified-since")
_CLOSE = (b"connection", b"close")
_LEAVES_HOT_PATH = (b"origin", b"if-none-match")


class Application:
    """Answers every request of the public port."""

    def __init__(
        self,
        *,
        table: RouteTable,
        upstreams: Upstreams,
        verifier: access.Verifier,
        refuse: Callable[[Context], None],
        answers: Answers,
        patience: Patience,
        views: Views,
        config: GatewaySettings,
        openapi: bytes,
        files: dict[bytes, console.File],
        stay: Stay,
    ) -> None:
        self._table = table
        self._upstreams = upstreams
        self._verifier = verifier
        self._refuse = refuse
        self._answers = answers
        self._patience = patience
        self._views = views
        self._config = config
        self._own = Own(openapi, files, lambda: self.draining)
        self._peers = requests.Peers(config.trusted_proxies, config.host_aliases, config.hosts)
        self._origins = replies.Origins(config.cors_origins)
        self._ids = requests.RequestIds()
        self.streams = Streams(config.heartbeat_s, config.requests_max // 2)
        self.in_flight = 0
        """Requests being answered, streams included."""
        self.draining = False
        """Set when the process is told to stop: connections are closed after their answers."""
        self.stay = stay
        """Which visitors keep their connections; the port looks at them each second."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self.in_flight += 1
        try:
            if scope["method"] == "GET" and not scope["query_string"]:
                answer = self._answers.hit((headers.get(b"host", b""), scope["raw_path"]))
                if answer is not None and _hot(scope, headers):
                    await self._answer_hot(answer, scope, headers, send)
                    return
            await self._answer(scope, headers, receive, send)
        finally:
            self.in_flight -= 1

    async def _answer_hot(self, answer: Answer, scope: Scope, headers: dict[bytes, bytes], send: Send) -> None:
        out = [
            *answer.headers,
            _age(answer, self._answers.now_s()),
            _CACHE_STATUS[Verdict.HIT],
            replies.SERVER,
            (b"x-request-id", self._ids.of(headers)),
        ]
        if answer.counted:
            out.append(_VIEWS[await self._count(answer, scope["client"][0], headers)])
        if answer.etag:
            out.append((b"etag", answer.etag))
        if not self.stay.of(scope["client"]) or self.draining:
            out.append(_CLOSE)
        body = answer.body
        if answer.zipped:
            out.append(replies.VARY_ENCODING)
            if replies.accepts_gzip(headers):
                out, body = replies.as_gzip(out), answer.zipped
        await send({"type": "http.response.start", "status": answer.status, "headers": out})
        await send({"type": "http.response.body", "body": body})
        _HOT.inc()

    async def _count(self, answer: Answer, peer: str, headers: dict[bytes, bytes]) -> View:
        assert answer.counted is not None  # asked by both callers
        if headers.get(b"dnt") == b"1" or headers.get(b"sec-gpc") == b"1":
            return self._views.skip()
        view, position = self._views.spool(
            answer.counted, self._peers.address(peer, headers), headers.get(b"user-agent", b"")
        )
        if view is View.SPOOLED and answer.counted.wait_for_ack:
            return await self._views.settled(position)
        return view

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        request = Request(
            method=scope["method"],
            raw_path=scope["raw_path"],
            query=scope["query_string"],
            headers=headers,
            host=self._peers.host(headers.get(b"host", b"")),
            address=self._peers.address(scope["client"][0], headers),
            peer=scope["client"],
            id=self._ids.of(headers),
            receive=receive,
        )
        parent = headers.get(b"traceparent")
        context = telemetry.remote({telemetry.TRACEPARENT: parent.decode("latin-1")}) if parent else None
        with telemetry.tracer().start_as_current_span("gateway", context=context, kind=trace.SpanKind.SERVER) as span:
            started_s = time.perf_counter()
            exchange = Exchange(request, send, extra=self._origins.headers(request))
            try:
                requests.check_limits(scope, headers)
                await self._dispatch(exchange)
            except Exception as error:  # the edge: every failure leaves as an answer
                await self._fail(exchange, error)
            span.update_name(exchange.route)
            _seconds(exchange.route).observe(time.perf_counter() - started_s)
            _requests(exchange.route, exchange.status).inc()

    async def _dispatch(self, exchange: Exchange) -> None:
        request = exchange.request
        if self.draining:
            exchange.extra.append(_CLOSE)
        if self._own.is_health(request):
            await self._own.answer_health(exchange)
        elif request.method == "OPTIONS":
            await self._options(exchange)
        elif self._own.has(request):
            self._require_host(request)
            await self._own.answer(exchange)
        else:
            await self._call(exchange)

    async def _call(self, exchange: Exchange) -> None:
        request = exchange.request
        match = self._table.match(request.method, request.raw_path)
        exchange.route = match.route.method.full_name
        if match.route.edge.HasField("redirect") and not (self.stay.of(request.peer) or self.draining):
            exchange.extra.append(_CLOSE)
        if not match.route.edge.host_field:
            self._require_host(request)
        if self._waits(request, match.route):
            self._require_room()
        context = await self._context(request, match.route)
        message = await self._message(request, match)
        await self._serve(exchange, match.route, message, context)

    async def _serve(self, exchange: Exchange, route: Route, message: Message, context: Context) -> None:
        request = exchange.request
        if route.method.server_streaming:
            answers = self._upstreams.stream(route.upstream, route.method, route.response_class, message, context)
            allowed = access.while_allowed(answers, lambda: self._context(request, route))
            exchange.status = 200
            await self.streams.serve(exchange.send, request, route, allowed, exchange.extra)
        elif route.cacheable:
            await self._answer_kept(exchange, route, message, context)
        else:
            until_s = time.monotonic() + self._config.upstream_timeout_s
            answer = await self._patience.asked(
                route.method.full_name,
                lambda: self._ask(route, message, context, until_s - time.monotonic()),
                kernel_errors.Unreachable if _repeatable(route, message) else kernel_errors.Unsent,
            )
            if context.reached is not None and context.reached.position:
                exchange.extra.append((requests.CONSISTENCY, context.reached.position.encode()))
            await self._answer_rendered(exchange, answer)

    async def _answer_kept(self, exchange: Exchange, route: Route, message: Message, context: Context) -> None:
        request = exchange.request
        key = (context.tenant, route.method.full_name, message.SerializeToString(deterministic=True))
        answer, verdict = await self._answers.answer(
            key,
            lambda: self._ask(route, message, context, self._config.cached_upstream_timeout_s),
            self._require_room,
        )
        if (
            route.rule.audience is access.Audience.PUBLIC
            and answer.kept
            and not request.query
            and request.method == "GET"
        ):
            # Only what was decoded from host and path alone may be found again by them.
            self._answers.cache.alias((request.headers.get(b"host", b""), request.raw_path), key, answer)
        exchange.extra.append(_CACHE_STATUS[verdict])
        if verdict in (Verdict.HIT, Verdict.STALE):
            exchange.extra.append(_age(answer, self._answers.now_s()))
        await self._answer_rendered(exchange, answer)

    async def _answer_rendered(self, exchange: Exchange, answer: Answer) -> None:
        request = exchange.request
        if answer.counted:
            unread = request.method == "HEAD" or b"nostat" in request.query.split(b"&")
            view = self._views.skip() if unread else await self._count(answer, request.address, dict(request.headers))
            exchange.extra.append(_VIEWS[view])
        if answer.etag:
            exchange.extra.append((b"etag", answer.etag))
        # A redirect is given whole: its tag names it for caches, and conditions are for answers of success (RFC 9110, 13.2.1).
        if answer.status < 300 and replies.matches(request, answer.etag):
            await exchange.reply(304, [pair for pair in answer.headers if pair[0] != b"content-type"], b"")
        else:
            await exchange.reply(answer.status, answer.headers, answer.body, answer.zipped)

    async def _ask(self, route: Route, message: Message, context: Context, timeout_s: float) -> Answer:
        asked_s = self._answers.now_s()
        made = await self._upstreams.call(
            route.upstream,
            route.method,
            route.response_class,
            message,
            context,
            timeout_s=timeout_s,
            idempotent=_repeatable(route, message),
        )
        return rendering.answer(route, made, asked_s, self._answers.now_s())

    def _waits(self, request: Request, route: Route) -> bool:
        """Whether it waits for something before it is known whether its answer is in memory."""
        if not route.cacheable or transcoder.takes_body(route):
            return True
        secret = None if _same_for_all(route) else _secret(request)
        return secret is not None and not self._verifier.remembers(secret)

    async def _context(self, request: Request, route: Route) -> Context:
        """Who asks. Answers that are the same for everybody are given without looking at credentials."""
        if _same_for_all(route):
            return Context()
        secret = _secret(request)
        context = await self._verified(secret) if secret is not None else Context()
        access.require(route.rule, context)
        if route.rule.audience is access.Audience.PERMISSION:
            self._refuse(context)  # the service does so too, but is not asked for what is kept
        return replace(context, consistency=requests.consistency(request), reached=Reached())

    async def _verified(self, secret: str) -> Context:
        return await self._patience.asked("credentials", lambda: self._verifier.verify(secret))

    async def _message(self, request: Request, match: Match) -> Message:
        route = match.route
        body, media_type = b"", transcoder.JSON_TYPE
        if transcoder.takes_body(route):
            bytes_max = route.edge.body_bytes_max or requests.BODY_BYTES_MAX
            body = await requests.read_body(request, bytes_max, self._config.body_stall_s_max)
            media_type = (request.header(b"content-type") or transcoder.JSON_TYPE).strip()
            if body and transcoder.raw_body_field(route) is None:
                _require_json(media_type)
        message = transcoder.request_of(match, request.query, body, media_type)
        transcoder.name_request(message, request.header(b"idempotency-key"))
        if route.edge.host_field:
            setattr(message, route.edge.host_field, request.host)
        if route.edge.HasField("sse"):
            transcoder.resume(message, request.header(b"last-event-id"))
        return message

    async def _options(self, exchange: Exchange) -> None:
        request = exchange.request
        allowed = methods_with_implied({"GET"}) if self._own.has(request) else self._table.allowed(request.raw_path)
        if not allowed:
            raise errors.RouteNotFound
        exchange.extra = self._origins.preflight(request)
        await exchange.reply(204, [(b"allow", ", ".join(allowed).encode()), rendering.NO_STORE], b"")

    def _require_room(self) -> None:
        if self.in_flight > self._config.requests_max:
            raise kernel_errors.Unavailable("Too many requests are under way at once. Try again in a second.")

    def _require_host(self, request: Request) -> None:
        if not self._peers.serves(request.host):
            raise errors.UnknownHost

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        request = exchange.request
        if exchange.started:
            log.error("%s failed after its answer had begun", exchange.route, exc_info=error)
            raise error
        if not isinstance(error, kernel_errors.Error):
            log.error("%s failed", exchange.route, exc_info=error)
            error = kernel_errors.Error("internal")
        preconditioned = any(name in request.headers for name in _PRECONDITIONS)
        status, headers, body = problems.problem(
            error, f"urn:groundswell:request:{request.id.decode()}", preconditioned=preconditioned
        )
        if isinstance(error, (errors.BodyTooLarge, errors.BodyTimeout, errors.HeadersTooLarge)):
            headers.append(_CLOSE)  # what is left of the request is not worth reading
        await exchange.reply(status, [*headers, rendering.NO_STORE, rendering.NOSNIFF], body)


def _hot(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether kept bytes are right for this request as they stand."""
    if any(name in headers for name in _LEAVES_HOT_PATH):
        return False
    return sum(map(len, headers.values())) < requests.HEADER_BYTES_MAX // 2 and len(headers) == len(scope["headers"])


def _same_for_all(route: Route) -> bool:
    return route.rule.audience is access.Audience.PUBLIC and route.edge.HasField("cache")


def _age(answer: Answer, now_s: float) -> tuple[bytes, bytes]:
    return b"age", b"%d" % max(0, int(now_s - answer.stored_s))


def _secret(request: Request) -> str | None:
    """The credential of a request: a bearer token, or else `X-Api-Key`; raises `InvalidCredential` on other schemes."""
    authorization = request.header(b"authorization")
    if authorization is None:
        return request.header(b"x-api-key")
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise access.InvalidCredential
    return secret.strip()


def _repeatable(route: Route, message: Message) -> bool:
    """Whether a request changes nothing when it is made twice: it reads, or names itself."""
    return route.read_only or bool(getattr(message, transcoder.REQUEST_ID, ""))


def _require_json(media_type: str) -> None:
    name = media_type.partition(";")[0].strip().lower()
    if name != transcoder.JSON_TYPE and not (name.startswith("application/") and name.endswith("+json")):
        raise errors.UnsupportedMediaType("`application/json`")
