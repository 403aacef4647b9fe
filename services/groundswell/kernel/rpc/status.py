"""Errors on the wire: our hierarchy ↔ google.rpc.Status with ErrorInfo, BadRequest and RetryInfo (AIP-193)."""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from groundswell.kernel import errors

DOMAIN = "groundswell"
DETAILS = "grpc-status-details-bin"
HTTP_STATUS = "http_status"

# First match by isinstance, so a subclass stands before its base.
_CODES: tuple[tuple[type[errors.Error], grpc.StatusCode, str], ...] = (
    (errors.Unprocessable, grpc.StatusCode.INVALID_ARGUMENT, "422"),
    (errors.Invalid, grpc.StatusCode.INVALID_ARGUMENT, ""),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, ""),
    (errors.Denied, grpc.StatusCode.PERMISSION_DENIED, ""),
    (errors.Gone, grpc.StatusCode.NOT_FOUND, "410"),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND, ""),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS, ""),
    (errors.Conflict, grpc.StatusCode.ABORTED, ""),
    (errors.FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION, ""),
    (errors.Exhausted, grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE, ""),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED, ""),
)

_FIELDS_MAX, _FIELD_LENGTH_MAX = 5, 200
"""Of violations in one status, and characters of each of their texts: see `errors.MESSAGE_LENGTH_MAX`."""
_UNSENT = ("connections to all backends failing", "errors resolving")
"""How gRPC begins when a channel had no server to give a request to; its code alone does not tell that from a lost answer."""


_GRPCS_OWN: dict[type[errors.Error], str] = {
    errors.Error: "The platform made a mistake. Its operators find it by the request id.",
    errors.DeadlineExceeded: "This took too long. Try again.",
    errors.Exhausted: "A service that this needs cannot take more now. Try again in a second.",
}
"""What is said instead of gRPC's own words, of the codes that gRPC gives by itself."""


def code_of(error: errors.Error) -> grpc.StatusCode:
    """The gRPC code of an error."""
    return next((code for kind, code, _ in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def status_of(error: errors.Error) -> status_pb2.Status:
    """The rich status of an error."""
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason)
    if http := next((http for kind, _, http in _CODES if isinstance(error, kind)), ""):
        info.metadata[HTTP_STATUS] = http
    details = [_packed(info)]
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=errors.shortened(each.field, _FIELD_LENGTH_MAX),
                description=errors.shortened(each.description, _FIELD_LENGTH_MAX),
            )
            for each in error.fields[:_FIELDS_MAX]
        ]
        details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code_of(error).value[0], message=error.message, details=details)


def error_from(failure: grpc.aio.AioRpcError) -> errors.Error:
    """The error that a failed call means. Failures without our details (a dead connection, say) keep their code's meaning."""
    status = status_pb2.Status(code=failure.code().value[0], message=failure.details() or "")
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS and isinstance(value, bytes):
            status.ParseFromString(value)
    return from_status(status)


def from_status(status: status_pb2.Status) -> errors.Error:
    """The error that a status means; its `reason` is the one on the wire."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    kind = _kind(status.code, info.metadata.get(HTTP_STATUS, ""))
    if kind is errors.Unavailable and not info.reason:
        found = errors.Unsent if status.message.startswith(_UNSENT) else errors.Unreachable
        return found("A service that this needs does not answer. Try again in a second.")
    if kind in _GRPCS_OWN and not info.reason:
        return kind(_GRPCS_OWN[kind])
    error = kind.__new__(kind)
    seconds = retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None
    fields = [errors.FieldViolation(v.field, v.description) for v in bad.field_violations]
    errors.Error.__init__(error, status.message, fields=fields, retry_after_s=seconds)
    if info.reason:
        error.reason = info.reason  # type: ignore[misc]  # the wire's reason stands for a class that this process may not know
    return error


def _kind(code: int, http: str) -> type[errors.Error]:
    if code == code_pb2.CANCELLED:
        return errors.DeadlineExceeded
    for kind, grpc_code, needs_http in _CODES:
        if grpc_code.value[0] == code and needs_http == http:
            return kind
    return errors.Error


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
