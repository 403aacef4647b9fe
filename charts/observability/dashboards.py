"""What one looks at, from the whole to its parts."""

from __future__ import annotations

from collections.abc import Sequence

from charts.observability.grafana import Dashboard, Panel, Query
from charts.observability.objectives import BROKEN, STREAMS

EVERY = "$__rate_interval"
SERVICE = '"service", "$1", "method", "groundswell[.]api[.].*[.](\\\\w+)Service[.].+"'
"""The service within the name of a gRPC method."""


def rate(metric: str, by: str = "") -> str:
    """Of a counter, a second, added up over processes."""
    rates = f"(rate({metric}[{EVERY}]))"
    return f"sum by ({by}) {rates}" if by else f"sum{rates}"


def share(part: str, whole: str) -> str:
    """Of rates, 0 to 1; 0 where the part has no series yet, nothing where there was nothing."""
    return f"({part} or {whole} * 0) / ({whole} > 0)"


def quantile(q: float, histogram: str, by: str = "", matchers: str = "") -> str:
    """Of a histogram over all processes."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{matchers}[{EVERY}])))"


def by_service(expression: str) -> str:
    """Adds up over the methods of a service."""
    return f"sum by (service) (label_replace({expression}, {SERVICE}))"


ANSWERED = f"({rate('groundswell_gateway_requests_total')} + {rate('groundswell_gateway_hot_total')})"
HANDLED = f"rate(groundswell_rpc_handled_total[{EVERY}])"
BROKEN_CALLS = f'rate(groundswell_rpc_handled_total{{code=~"{BROKEN}"}}[{EVERY}])'
HELD = "groundswell_outbox_held_timestamp_seconds"
WHOLE = f'{{route!~"{STREAMS}"}}'

BURN = Panel(
    "Burn rates, over an hour", "short",
    [Query("max by (service, slo) (groundswell_slo:burn:rate1h)", "{{service}} {{slo}}")],
    "At 1 the budget of thirty days lasts thirty days; somebody is paged at 14.4. Needs the recording rules.",
)  # fmt: skip
ANSWERS = Panel(
    "Answers", "reqps",
    [Query(rate("groundswell_gateway_hot_total"), "hot"), Query(rate("groundswell_gateway_requests_total", "status"), "{{status}}")],
    "Hot ones are redirects out of a gateway's memory.",
)  # fmt: skip
FRESHNESS = Panel(
    "Age of events when they are counted live", "s",
    [Query(quantile(q, "groundswell_live_freshness_seconds"), f"p{q * 100:g}") for q in (0.5, 0.99)],
    "Of the oldest event of each frame.",
)  # fmt: skip
WRITER = Panel(
    "Age of the oldest row when it is stored", "s", [Query("max(groundswell_writer_oldest_row_seconds)", "oldest")]
)
ROLLUPS = Panel(
    "Stored offsets that no rollup holds", "short",
    [Query("max by (partition) (groundswell_rollups_offsets_behind)", "partition {{partition}}")],
)  # fmt: skip
VIEWS = Panel("Views", "reqps", [Query(rate("groundswell_gateway_views_total", "view"), "{{view}}")])
JOURNAL = Panel(
    "Rows in journals", "bytes", [Query("sum by (instance) (groundswell_frames_journal_bytes)", "{{instance}}")],
    "What the log has not acknowledged; never less than the segment that is being written.",
)  # fmt: skip
REPLICAS = Panel(
    "Pods for spikes", "short",
    [
        Query("sum by (policy) (groundswell_operator_replicas_wanted)", "{{policy}} wanted"),
        Query("sum by (policy) (groundswell_operator_replicas_ready)", "{{policy}} ready"),
    ],
)  # fmt: skip
DEAD = Panel(
    "Dead letters", "short",
    [
        Query("sum by (group, topic) (groundswell_events_dead_total)", "{{group}} {{topic}}"),
        Query("sum(groundswell_writer_frames_set_aside_total)", "frames"),
    ],
    "Since the processes started.",
)  # fmt: skip

OVERVIEW = Dashboard(
    "overview", "Overview",
    [
        [
            Panel("Answers a second", "reqps", [Query(ANSWERED)], number=True),
            Panel(
                "Answers that failed", "percentunit",
                [Query(share(rate('groundswell_gateway_requests_total{status=~"5.."}'), ANSWERED))], number=True,
            ),
            Panel("Events counted live a second", "reqps", [Query(rate("groundswell_live_events_total"))], number=True),
            Panel("Leading operators", "short", [Query("sum(groundswell_operator_leader)")], number=True),
        ],
        [BURN, ANSWERS],
        [FRESHNESS, WRITER, VIEWS],
        [JOURNAL, DEAD, REPLICAS],
    ],
)  # fmt: skip

VIRAL = Dashboard(
    "viral", "A viral post",
    [
        [
            VIEWS,
            Panel(
                "Answered from memory", "percentunit", [Query(share(rate("groundswell_gateway_hot_total"), ANSWERED), "hot")],
                "The share of answers that asked nobody.",
            ),
            Panel(
                "Shed", "reqps",
                [Query(rate('groundswell_gateway_requests_total{status=~"429|503"}', "status"), "{{status}}")],
                "Answers that ask to come back later.",
            ),
        ],
        [FRESHNESS, WRITER],
        [
            REPLICAS,
            Panel(
                "Budget used today", "m",
                [
                    Query("sum by (policy) (groundswell_operator_budget_replica_minutes_used)", "{{policy}}"),
                    Query("max by (policy) (groundswell_operator_budget_replica_minutes_max)", "{{policy}} has"),
                ],
                "Minutes of replicas, of the UTC day.",
            ),
            Panel(
                "From decision", "s",
                [
                    Query(quantile(0.99, "groundswell_operator_time_to_write_seconds"), "to the first write"),
                    Query(quantile(0.99, "groundswell_operator_time_to_ready_seconds"), "to the last ready pod"),
                ],
                "p99 of spikes.",
            ),
        ],
        [
            Panel(
                "Operator", "ops",
                [
                    Query(rate("groundswell_operator_passes_total", "outcome"), "passes {{outcome}}"),
                    Query(rate("groundswell_operator_foreign_writes_total", "kind"), "writes {{kind}}"),
                ],
            ),
            Panel(
                "Bridge", "ops", [Query(rate("groundswell_bridge_records_total", "outcome"), "{{outcome}}")],
            ),
            Panel("Records that the bridge has not read", "short", [Query("max(groundswell_bridge_lag_records)", "lag")]),
        ],
    ],
)  # fmt: skip

SERVICES = Dashboard(
    "services", "Services",
    [
        [
            Panel("gRPC calls", "reqps", [Query(by_service(HANDLED), "{{service}}")]),
            Panel(
                "gRPC calls that failed", "percentunit",
                [Query(share(by_service(BROKEN_CALLS), by_service(HANDLED)), "{{service}}")],
                "Codes that are ours to answer for.",
            ),
            Panel(
                "Time in gRPC methods, p99", "s",
                [Query(quantile(0.99, "groundswell_rpc_seconds", "method"), "{{method}}")],
            ),
        ],
        [
            Panel("Requests that were not hot", "reqps", [Query(rate("groundswell_gateway_requests_total", "route"), "{{route}}")]),
            Panel(
                "Requests that failed", "reqps",
                [Query(rate('groundswell_gateway_requests_total{status=~"5.."}', "route, status"), "{{status}} {{route}}")],
            ),
            Panel(
                "Time to answer, p99", "s",
                [Query(quantile(0.99, "groundswell_gateway_seconds", "route", WHOLE), "{{route}}")], "Without streams.",
            ),
        ],
        [
            Panel(
                "Targets of redirects", "reqps",
                [Query(rate("groundswell_links_target_reads_total", "source"), "{{source}}")],
            ),
            Panel(
                "Commands to Valkey", "ops",
                [Query(rate("groundswell_redis_commands_total", "outcome"), "{{outcome}}")],
                "Refused ones were not tried, since it does not answer.",
            ),
            Panel("Lists", "reqps", [Query(rate("groundswell_postgres_list_reads_total", "by"), "{{by}}")]),
            Panel(
                "Connections ended", "cps",
                [
                    Query(rate("groundswell_gateway_silent_total"), "silent"),
                    Query(rate("groundswell_gateway_crowding_total"), "too many of one address"),
                ],
            ),
        ],
    ],
)  # fmt: skip

EVENTS = Dashboard(
    "events", "Event core",
    [
        [
            Panel(
                "Rows", "rowsps",
                [
                    Query(rate("groundswell_frames_rows_sent_total"), "sent to the log"),
                    Query(rate("groundswell_live_events_total"), "counted live"),
                    Query(rate("groundswell_writer_rows_total"), "stored"),
                ],
            ),
            Panel(
                "Frames", "ops",
                [
                    Query(rate("groundswell_frames_sent_total"), "sent"),
                    Query(rate("groundswell_frames_send_failures_total"), "tries that failed"),
                    Query(rate("groundswell_live_frames_skipped_total", "reason"), "not counted live: {{reason}}"),
                ],
            ),
            JOURNAL,
        ],
        [WRITER, ROLLUPS, FRESHNESS],
        [
            Panel(
                "Intake", "reqps",
                [
                    Query(rate("groundswell_intake_accepted_total"), "taken"),
                    Query(rate("groundswell_intake_parked_total"), "set aside"),
                ],
            ),
            Panel(
                "Domain events", "ops",
                [
                    Query(rate("groundswell_outbox_relayed_total", "topic"), "out {{topic}}"),
                    Query(rate("groundswell_events_consumed_total", "group, topic"), "in {{group}} {{topic}}"),
                ],
            ),
            Panel(
                "Events held by a relay", "s",
                [Query(f"max by (database) ((time() - {HELD}) * ({HELD} > bool 0))", "{{database}}")],
            ),
            DEAD,
        ],
    ],
)  # fmt: skip

DASHBOARDS: Sequence[Dashboard] = (OVERVIEW, VIRAL, SERVICES, EVENTS)
