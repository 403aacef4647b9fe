"""gRPC as the platform speaks it: signed contexts in, meaningful errors out.

`serve` makes a server from servicers: every method is checked against its access rule and gets a `Call` instead of gRPC's own
context. `call` calls one: it sends the context and raises the errors of `kernel.errors`.
"""

from groundswell.kernel.rpc.client import call, channel, outgoing
from groundswell.kernel.rpc.moments import moment_ms
from groundswell.kernel.rpc.names import id_of
from groundswell.kernel.rpc.server import Call, serve
from groundswell.kernel.rpc.status import error_from, status_of

__all__ = ["Call", "call", "channel", "error_from", "id_of", "moment_ms", "outgoing", "serve", "status_of"]
