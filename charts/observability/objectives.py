"""What each service promises, and how fast it may use up what the promise leaves.

A burn rate is the share of bad requests over the share that the objective allows: at 1, the budget of thirty days lasts thirty days.
Alerts take two windows each, a long one that shows it matters and a short one that shows it goes on (Google's SRE workbook, chapter 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from charts.observability.rules import Alert, Group, Recording, Severity

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
BROKEN = "UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNIMPLEMENTED|DATA_LOSS"
"""gRPC codes that are ours to answer for; the others tell a caller what is wrong with its request."""
STREAMS = ".+[.]Watch.+"
"""Routes whose answers end when their readers go."""
SLOW_S = "0.25"
"""A bucket's bound, since shares are counted by buckets."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of requests that must be good; requests are counted by sums over counters, with `{window}` for their range."""

    service: str
    slo: str
    """What is promised: `availability` or `latency`."""
    share: float
    every: str
    good: str = ""
    """Counts those that are good; or else"""
    bad: str = ""
    """those that are not, where there need not be a series before the first of them."""

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.share, 6)

    def burn(self, window: str) -> str:
        """The burn rate over a window; nothing where there were no requests."""
        bad = f"{self.every} - {self.good}" if self.good else f"{self.bad} or {self.every} * 0"
        return f"({bad}) / ({self.every} > 0) / {self.budget}".format(window=window)


def _rate(metric: str, *matchers: str) -> str:
    """Requests a second, of each namespace."""
    chosen = f"{{{{{', '.join(matchers)}}}}}" if matchers else ""
    return f"sum by (namespace) (rate({metric}{chosen}[{{window}}]))"


def _grpc(service: str, name: str) -> Iterator[Objective]:
    methods = f'method=~"groundswell.api.{name}.+"'
    handled = _rate("groundswell_rpc_handled_total", methods)
    broken = _rate("groundswell_rpc_handled_total", methods, f'code=~"{BROKEN}"')
    yield Objective(service, "availability", 0.999, handled, bad=broken)
    answered = _rate("groundswell_rpc_seconds_count", methods)
    fast = _rate("groundswell_rpc_seconds_bucket", methods, f'le="{SLOW_S}"')
    yield Objective(service, "latency", 0.99, answered, good=fast)


def _gateway() -> Iterator[Objective]:
    hot = _rate("groundswell_gateway_hot_total")  # answered from memory, and fast
    answered = f"({_rate('groundswell_gateway_requests_total')} + {hot})"
    broken = _rate("groundswell_gateway_requests_total", 'status=~"5.."')
    yield Objective("gateway", "availability", 0.999, answered, bad=broken)
    whole = f'route!~"{STREAMS}"'
    timed = _rate("groundswell_gateway_seconds_count", whole)
    fast = _rate("groundswell_gateway_seconds_bucket", whole, f'le="{SLOW_S}"')
    yield Objective("gateway", "latency", 0.99, f"({timed} + {hot})", good=f"({fast} + {hot})")


OBJECTIVES: Sequence[Objective] = (
    *_gateway(),
    *_grpc("links", "links.v1.LinkService"),
    *_grpc("identity", "identity.v1.ApiKeyService"),
    *_grpc("tenancy", "tenancy.v1.TenantService"),
    *_grpc("analytics", "analytics.v1.AnalyticsService"),
    *_grpc("writer", "analytics.v1.StoreService"),
)


def burns(factor: float, long: str, short: str) -> str:
    """What is true while a budget burns faster than that, seen over both windows."""
    return f"(groundswell_slo:burn:rate{long} > {factor:g} and groundswell_slo:burn:rate{short} > {factor:g})"


GROUPS: Sequence[Group] = (
    Group(
        "groundswell.objectives",
        [
            Recording(
                f"groundswell_slo:burn:rate{window}", each.burn(window), {"service": each.service, "slo": each.slo}
            )
            for each in OBJECTIVES
            for window in WINDOWS
        ],
    ),
    Group(
        "groundswell.burning",
        [
            Alert(
                "GroundswellBudgetBurnsFast",
                f"{burns(14.4, '1h', '5m')} or {burns(6, '6h', '30m')}",
                "2m",
                Severity.PAGE,
                "{{ $labels.service }}: {{ $labels.slo }} of thirty days would be used up within days",
                "The budget of {{ $labels.slo }} burns {{ $value | humanize }} times as fast as it may.",
            ),
            Alert(
                "GroundswellBudgetBurnsSlowly",
                f"{burns(3, '1d', '2h')} or {burns(1, '3d', '6h')}",
                "15m",
                Severity.TICKET,
                "{{ $labels.service }}: {{ $labels.slo }} of thirty days will not be kept",
                "The budget of {{ $labels.slo }} burns {{ $value | humanize }} times as fast as it may.",
            ),
        ],
    ),
)
