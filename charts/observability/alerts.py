"""What goes wrong in this product before, or without, an answer that fails."""

from __future__ import annotations

from collections.abc import Sequence

from charts.observability.rules import Alert, Group, Severity

_PAGE, _TICKET = Severity.PAGE, Severity.TICKET
UNSTORED_S_NOTICED = 3_600
"""Of the week for which the log keeps what is not stored."""
JOURNAL_BYTES_NOTICED = 64 << 20
"""A quarter of what a journal may take (FRAMES_JOURNAL_BYTES_MAX)."""

VIEWS = '{view=~"spooled|counted"}'
"""Those that are counted live; other rows may be set aside, or repeat what was counted."""


def _flows(metric: str, matchers: str = "") -> str:
    return f"sum by (namespace) (rate({metric}{matchers}[5m])) > 0"


def _grew(metric: str) -> str:
    """A counter that grew within a quarter of an hour, also if it had no series before."""
    return f"increase({metric}[15m]) > 0 or ({metric} > 0 unless {metric} offset 15m)"


EVENT_CORE: Sequence[Alert] = (
    Alert(
        "GroundswellViewsDropped", _flows("groundswell_gateway_views_total", '{view="dropped"}'), "1m", _PAGE,
        "Views are answered and not counted",
        "{{ $value | humanize }} views a second find no room in a gateway's journal, or its disk fails.",
    ),
    Alert(
        "GroundswellJournalGrows",
        f"groundswell_frames_journal_bytes > {JOURNAL_BYTES_NOTICED} and deriv(groundswell_frames_journal_bytes[10m]) > 0",
        "5m", _PAGE, "A journal fills faster than the log takes it",
        "{{ $labels.instance }} holds {{ $value | humanize1024 }}B of rows that the log has not acknowledged, and more each minute.",
    ),
    Alert(
        "GroundswellSendsFail", _flows("groundswell_frames_send_failures_total"), "5m", _TICKET,
        "Frames cannot be delivered to the log",
        "{{ $value | humanize }} tries a second fail. Rows wait in the journals; none is lost while there is room.",
    ),
    Alert(
        "GroundswellWriterBehind", "max by (namespace) (groundswell_writer_oldest_row_seconds) > 60", "5m", _TICKET,
        "Events are stored late",
        "The oldest row had waited {{ $value | humanizeDuration }} when it was stored.",
    ),
    Alert(
        "GroundswellWriterStands",
        f"{_flows('groundswell_frames_rows_sent_total')} unless {_flows('groundswell_writer_rows_total')}",
        "5m", _PAGE, "Events arrive in the log and none is stored",
        "{{ $value | humanize }} rows a second are sent. The log keeps them for as long as its retention says.",
    ),
    Alert(
        "GroundswellEventsUnstored",
        "time() - min by (namespace) (min_over_time(groundswell_writer_stored_until_timestamp_seconds[5m]) != 0)"
        f" > {UNSTORED_S_NOTICED}",
        "5m", _PAGE, "Events have waited for the store for an hour",
        "The oldest event that is not stored came {{ $value | humanizeDuration }} ago. After a week the log removes it.",
    ),
    Alert(
        "GroundswellEventsLost", _grew("groundswell_writer_lost_offsets_total"), "0m", _PAGE,
        "The log removed events before they were stored",
        "{{ $value | humanize }} frames of partition {{ $labels.partition }} are gone, each of up to 8,192 events.",
    ),
    Alert(
        "GroundswellLogLost", "max by (namespace, partition) (groundswell_writer_partition_held) > 0", "1m", _PAGE,
        "The log lacks what was read from it",
        "Nothing of partition {{ $labels.partition }} is stored until the log has its end back or is filled up.",
    ),
    Alert(
        "GroundswellRollupsBehind", "max by (namespace) (groundswell_rollups_offsets_behind) > 4000", "10m", _TICKET,
        "Rollups lag behind what is stored",
        "A partition has {{ $value | humanize }} offsets that no rollup holds: answers are right, and slower.",
    ),
    Alert(
        "GroundswellLiveStale",
        "histogram_quantile(0.99, sum by (namespace, le) (rate(groundswell_live_freshness_seconds_bucket[5m]))) > 5",
        "5m", _TICKET, "Live counters are late",
        "One event in a hundred is older than {{ $value | humanizeDuration }} when it is counted.",
    ),
    Alert(
        "GroundswellLiveStands",
        f"{_flows('groundswell_frames_rows_sent_total')} and {_flows('groundswell_gateway_views_total', VIEWS)}"
        f" unless {_flows('groundswell_live_events_total')}",
        "3m", _PAGE, "The live page stands still",
        "{{ $value | humanize }} rows a second are sent and none is counted live.",
    ),
    Alert(
        "GroundswellFramesSetAside", _grew("groundswell_writer_frames_set_aside_total"), "0m", _TICKET,
        "A corrupt frame went to the dead letters",
        "The writer could not read a frame of up to 8,192 events and set it aside.",
    ),
)  # fmt: skip

SERVICES: Sequence[Alert] = (
    Alert(
        "GroundswellDeadLetters", _grew("groundswell_events_dead_total"), "0m", _TICKET,
        "An event of {{ $labels.topic }} went to the dead letters",
        "{{ $labels.group }} could not apply it, and went on without it.",
    ),
    Alert(
        "GroundswellOutboxStuck", "time() - (groundswell_outbox_held_timestamp_seconds > 0) > 60", "1m", _PAGE,
        "Changes of {{ $labels.database }} do not reach the other services",
        "Its relay has held the same events for {{ $value | humanizeDuration }}. Caches keep what was changed since.",
    ),
    Alert(
        "GroundswellValkeyAway", _flows("groundswell_redis_commands_total", '{outcome="refused"}'), "1m", _TICKET,
        "Valkey does not answer",
        "{{ $value | humanize }} commands a second are not even tried. PostgreSQL answers instead, for fewer visitors.",
    ),
    Alert(
        "GroundswellVolumeFills",
        "kubelet_volume_stats_available_bytes / kubelet_volume_stats_capacity_bytes < 0.15"
        " and on (namespace) groundswell_frames_journal_bytes",
        "15m", _PAGE, "The volume {{ $labels.persistentvolumeclaim }} is nearly full",
        "{{ $value | humanizePercentage }} of it are left. An engine whose volume is full stops.",
    ),
)  # fmt: skip

SPIKES: Sequence[Alert] = (
    Alert(
        "GroundswellOperatorLeaderless",
        "count by (namespace) (max_over_time(groundswell_operator_leader[1h])) "
        "unless sum by (namespace) (groundswell_operator_leader) > 0",
        "2m", _PAGE, "No operator leads",
        "There was one within the hour. Spikes raise nothing, and what is raised is not given back.",
    ),
    Alert(
        "GroundswellOperatorRefused",
        'sum by (namespace) (rate(groundswell_operator_passes_total{outcome=~"refused|away"}[10m])) > 0', "10m", _TICKET,
        "The API server refuses the operator, or does not answer",
        "{{ $value | humanize }} passes a second end so.",
    ),
    Alert(
        "GroundswellSpikeDegraded",
        "sum by (namespace, policy) (groundswell_operator_replicas_wanted)"
        " - sum by (namespace, policy) (groundswell_operator_replicas_ready) > 0",
        "5m", _PAGE, "A spike under {{ $labels.policy }} has fewer pods than it needs",
        "{{ $value | humanize }} pods are wanted and not ready.",
    ),
    Alert(
        "GroundswellBridgeBehind", "max by (namespace) (groundswell_bridge_lag_records) > 100", "5m", _TICKET,
        "The operator hears of spikes late",
        "The bridge has {{ $value | humanize }} records to read.",
    ),
    Alert(
        # where the log does not answer, the bridge's lag is no number, and a comparison with that is never true
        "GroundswellBridgeDeaf",
        "count by (namespace) (max_over_time(groundswell_bridge_lag_records[1h])) "
        "unless count by (namespace) (groundswell_bridge_lag_records >= 0)",
        "2m", _PAGE, "The operator hears of no spike",
        "There was a bridge within the hour. It is gone, or knows nothing of the log: nothing is raised for new spikes, "
        "nor given back when one ends.",
    ),
)  # fmt: skip

GROUPS: Sequence[Group] = (
    Group("groundswell.event-core", EVENT_CORE),
    Group("groundswell.services", SERVICES),
    Group("groundswell.spikes", SPIKES),
)
