"""The chart's rules and dashboards are what the code says, promtool takes them, and each alert fires when it should and only then."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from charts.observability.__main__ import FOLDERS, stale, write
from charts.observability.objectives import OBJECTIVES
from tests.cluster.chart import FOLDER, MODULES, ROOT
from tests.cluster.observed import DASHBOARDS, RULES, queries, rules
from tests.cluster.tools.families import Shelf

MINUTES = 30
"""How long the metrics of a case run before it is judged."""
ANSWERED = 'groundswell_gateway_requests_total{route="r",status="200"}'
BROKEN = 'groundswell_gateway_requests_total{route="r",status="503"}'
HOT = "groundswell_gateway_hot_total"
UNKNOWN = " ".join(["NaN"] * 15)
"""What a gauge says for a quarter of an hour in which nobody knows."""

CASES: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "GroundswellViewsDropped": (
        {'groundswell_gateway_views_total{view="dropped"}': "0+6x30"},
        {'groundswell_gateway_views_total{view="spooled"}': "0+6x30"},
    ),
    "GroundswellJournalGrows": (
        {"groundswell_frames_journal_bytes": "0+10000000x30"},
        {"groundswell_frames_journal_bytes": "16777216x30"},
    ),
    "GroundswellSendsFail": (
        {"groundswell_frames_send_failures_total": "0+1x30"},
        {"groundswell_frames_send_failures_total": "7x30"},
    ),
    "GroundswellWriterBehind": (
        {"groundswell_writer_oldest_row_seconds": "90x30"},
        {"groundswell_writer_oldest_row_seconds": "2x30"},
    ),
    "GroundswellWriterStands": (
        {"groundswell_frames_rows_sent_total": "0+100x30", "groundswell_writer_rows_total": "100x30"},
        {"groundswell_frames_rows_sent_total": "0+100x30", "groundswell_writer_rows_total": "0+100x30"},
    ),
    "GroundswellEventsUnstored": (
        {
            'groundswell_writer_stored_until_timestamp_seconds{instance="a"}': "0+60x30",
            'groundswell_writer_stored_until_timestamp_seconds{instance="b"}': "-3000+0x30",
        },
        {
            'groundswell_writer_stored_until_timestamp_seconds{instance="a"}': "0+60x30",
            'groundswell_writer_stored_until_timestamp_seconds{instance="b"}': "0x30",
        },
    ),
    "GroundswellEventsLost": (
        {'groundswell_writer_lost_offsets_total{partition="1"}': "0x25 7x5"},
        {'groundswell_writer_lost_offsets_total{partition="1"}': "7x30"},
    ),
    "GroundswellLogLost": (
        {'groundswell_writer_partition_held{partition="1"}': "1x30"},
        {'groundswell_writer_partition_held{partition="1"}': "0x30"},
    ),
    "GroundswellRollupsBehind": (
        {'groundswell_rollups_offsets_behind{partition="1"}': "5000x30"},
        {'groundswell_rollups_offsets_behind{partition="1"}': "50x30"},
    ),
    "GroundswellLiveStale": (
        {
            'groundswell_live_freshness_seconds_bucket{le="5"}': "0+1x30",
            'groundswell_live_freshness_seconds_bucket{le="10"}': "0+9x30",
            'groundswell_live_freshness_seconds_bucket{le="+Inf"}': "0+9x30",
        },
        {
            'groundswell_live_freshness_seconds_bucket{le="0.5"}': "0+9x30",
            'groundswell_live_freshness_seconds_bucket{le="+Inf"}': "0+9x30",
        },
    ),
    "GroundswellLiveStands": (
        {
            "groundswell_frames_rows_sent_total": "0+100x30",
            'groundswell_gateway_views_total{view="spooled"}': "0+100x30",
        },
        {
            "groundswell_frames_rows_sent_total": "0+100x30",
            'groundswell_gateway_views_total{view="skipped"}': "0+100x30",
        },
    ),
    "GroundswellFramesSetAside": (
        {"groundswell_writer_frames_set_aside_total": "0x25 1x5"},
        {"groundswell_writer_frames_set_aside_total": "1x30"},
    ),
    "GroundswellDeadLetters": (
        {'groundswell_events_dead_total{group="g",topic="t"}': "_x25 1x5"},
        {'groundswell_events_dead_total{group="g",topic="t"}': "1x30"},
    ),
    "GroundswellOutboxStuck": (
        {'groundswell_outbox_held_timestamp_seconds{database="links"}': "0x10 600x20"},
        {'groundswell_outbox_held_timestamp_seconds{database="links"}': "0x30"},
    ),
    "GroundswellValkeyAway": (
        {'groundswell_redis_commands_total{outcome="refused"}': "0+9x30"},
        {'groundswell_redis_commands_total{outcome="ok"}': "0+9x30", "groundswell_redis_up": "0x30"},
    ),
    "GroundswellVolumeFills": (
        {
            'kubelet_volume_stats_available_bytes{namespace="n",persistentvolumeclaim="data-kafka-0"}': "10x30",
            'kubelet_volume_stats_capacity_bytes{namespace="n",persistentvolumeclaim="data-kafka-0"}': "100x30",
            'groundswell_frames_journal_bytes{namespace="n",pod="a"}': "0x30",
            'groundswell_frames_journal_bytes{namespace="n",pod="b"}': "0x30",
        },
        {
            'kubelet_volume_stats_available_bytes{namespace="n",persistentvolumeclaim="data-kafka-0"}': "20x30",
            'kubelet_volume_stats_capacity_bytes{namespace="n",persistentvolumeclaim="data-kafka-0"}': "100x30",
            'kubelet_volume_stats_available_bytes{namespace="other",persistentvolumeclaim="theirs"}': "1x30",
            'kubelet_volume_stats_capacity_bytes{namespace="other",persistentvolumeclaim="theirs"}': "100x30",
            'groundswell_frames_journal_bytes{namespace="n"}': "0x30",
        },
    ),
    "GroundswellOperatorLeaderless": (
        {'groundswell_operator_leader{pod="a"}': "1x20", 'groundswell_operator_leader{pod="b"}': "0x30"},
        {'groundswell_operator_leader{pod="a"}': "1x20", 'groundswell_operator_leader{pod="b"}': "0x19 1x11"},
    ),
    "GroundswellOperatorRefused": (
        {'groundswell_operator_passes_total{outcome="refused"}': "0+3x30"},
        {'groundswell_operator_passes_total{outcome="done"}': "0+3x30"},
    ),
    "GroundswellSpikeDegraded": (
        {
            'groundswell_operator_replicas_wanted{policy="p"}': "10x30",
            'groundswell_operator_replicas_ready{policy="p"}': "7x30",
        },
        {
            'groundswell_operator_replicas_wanted{policy="p"}': "10x30",
            'groundswell_operator_replicas_ready{policy="p"}': "7x28 10x2",
        },
    ),
    "GroundswellBridgeBehind": (
        {"groundswell_bridge_lag_records": "500x30"},
        {"groundswell_bridge_lag_records": "5x30"},
    ),
    "GroundswellBridgeDeaf": (
        {"groundswell_bridge_lag_records": f"5x15 {UNKNOWN}"},
        {"groundswell_bridge_lag_records": f"{UNKNOWN} 5x15"},
    ),
}
"""By alert: metrics by the minute with which it fires, and such with which it does not."""


def judged(monitoring: Shelf, folder: Path, file: Path, cases: Sequence[Mapping[str, object]]) -> None:
    """Runs promtool's own tests on a file of rules; raises with what it says."""
    told = {"rule_files": [str(file)], "evaluation_interval": "1m", "tests": list(cases)}
    file = folder / "cases.yaml"
    file.write_text(yaml.safe_dump(told))
    promtool(monitoring, "test", "rules", str(file))


def promtool(monitoring: Shelf, *words: str) -> None:
    done = subprocess.run(
        [monitoring.path("promtool"), *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def case(name: str, series: Mapping[str, str], minutes: int, firing: Mapping[str, int]) -> Mapping[str, object]:
    """A test of promtool: after these minutes, so many alerts of each name fire."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"value": count, "labels": "{}"}] if count else [],
            }
            for alert, count in firing.items()
        ],
    }


def test_what_is_in_the_chart_is_what_the_code_says(tmp_path: Path) -> None:
    assert stale(FOLDER) == []
    for folder in FOLDERS:
        shutil.copytree(FOLDER / folder, tmp_path / folder)
    (tmp_path / "rules" / "product.yaml").write_text("groups: []\n")
    (tmp_path / "dashboards" / "viral.json").unlink()
    (tmp_path / "dashboards" / "old.json").write_text("{}")
    assert stale(tmp_path) == ["dashboards/old.json", "dashboards/viral.json", "rules/product.yaml"]
    write(tmp_path)
    assert stale(tmp_path) == []


def test_every_module_that_answers_calls_has_objectives() -> None:
    assert {each.service for each in OBJECTIVES} == MODULES.keys() - {"live"}, "live only streams"


def test_every_alert_says_what_to_do_under_its_own_heading() -> None:
    text = (ROOT / "docs" / "observability.md").read_text()
    headings = {re.sub(r"\W+", "-", each.lower()) for each in re.findall(r"^### (.+)$", text, re.MULTILINE)}
    wanted = {rule["annotations"]["runbook"].removeprefix("docs/observability.md#") for rule in rules("alert")}
    assert headings == wanted
    for rule in rules("alert"):
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_dashboards_name_no_installation_and_fit_the_grid() -> None:
    for name, dashboard in DASHBOARDS.items():
        assert "uid" not in dashboard, name
        assert [each["name"] for each in dashboard["templating"]["list"]] == ["datasource", "namespace"]
        panels = dashboard["panels"]
        assert len({each["id"] for each in panels}) == len(panels)
        for panel in panels:
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
            sources = {each["datasource"]["uid"] for each in (panel, *panel["targets"])}
            assert sources == {"${datasource}"}
    for query in queries():
        assert query.expression.count("groundswell_") == query.expression.count('namespace=~".*"'), query


def test_promtool_takes_every_rule_and_every_expression_of_a_panel(monitoring: Shelf, tmp_path: Path) -> None:
    promtool(monitoring, "check", "rules", "--lint-fatal", *map(str, RULES))
    asked = [{"record": f"panel:{number}", "expr": each.expression} for number, each in enumerate(queries())]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    promtool(monitoring, "check", "rules", "--lint=none", str(file))


def test_an_expression_that_is_none_is_refused(monitoring: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "wrong", "rules": [{"record": "a", "expr": "sum(rate(a))"}]}]}))
    with pytest.raises(AssertionError, match="expected type range vector"):
        promtool(monitoring, "check", "rules", str(file))


def test_two_percent_of_failures_for_an_hour_page_and_the_objective_itself_does_not(
    monitoring: Shelf, tmp_path: Path
) -> None:
    def gateway(good: int, bad: int, minutes: int) -> Mapping[str, str]:
        return {ANSWERED: f"0+{good}x{minutes}", BROKEN: f"0+{bad}x{minutes}", HOT: f"0x{minutes}"}

    fast, slow = "GroundswellBudgetBurnsFast", "GroundswellBudgetBurnsSlowly"
    judged(
        monitoring,
        tmp_path,
        of_service("gateway", tmp_path),
        [
            case(
                "2 % for an hour after a calm night", over(gateway(1000, 0, 360), gateway(980, 20, 62)), 422, {fast: 1}
            ),
            case("1 % for two hours", gateway(990, 10, 120), 120, {fast: 1}),
            case("at the objective for two hours", gateway(999, 1, 120), 120, {fast: 0, slow: 0}),
            case("twice the budget for two hours", gateway(998, 2, 120), 120, {fast: 0, slow: 1}),
            case("no failure has a series yet", {ANSWERED: "0+9x65", HOT: "0x65"}, 65, {fast: 0, slow: 0}),
            case("nobody asks", {ANSWERED: "7x65", BROKEN: "7x65", HOT: "0x65"}, 65, {fast: 0, slow: 0}),
            case("2 % for an hour, then none", over(gateway(980, 20, 65), gateway(1000, 0, 35)), 100, {fast: 0}),
        ],
    )


def of_service(name: str, folder: Path) -> Path:
    """The rules of objectives without those of other services, which would take most of the time."""
    told = yaml.safe_load((FOLDER / "rules" / "objectives.yaml").read_text())
    for group in told["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule["labels"].get("service", name) == name]
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(told))
    return file


def over(first: Mapping[str, str], second: Mapping[str, str]) -> Mapping[str, str]:
    """One after the other; counters go on where they were."""
    found = {}
    for series, values in first.items():
        start, step, times = map(int, re.findall(r"\d+", f"{values if '+' in values else values.replace('x', '+0x')}"))
        found[series] = f"{values} {start + step * times}{second[series].removeprefix('0')}"
    return found


def test_answers_out_of_memory_count_as_good_and_fast_ones(monitoring: Shelf, tmp_path: Path) -> None:
    cold = {ANSWERED: "0+80x65", BROKEN: "0+20x65", HOT: "0+999900x65"}
    slow = {
        ANSWERED: "0+100x65", HOT: "0x65",
        'groundswell_gateway_seconds_count{route="r"}': "0+100x65",
        'groundswell_gateway_seconds_bucket{route="r",le="0.25"}': "0+50x65",
    }  # fmt: skip
    streams = {series.replace('"r"', '"a.Service.WatchMetrics"'): values for series, values in slow.items()}
    fast = "GroundswellBudgetBurnsFast"
    judged(
        monitoring,
        tmp_path,
        of_service("gateway", tmp_path),
        [
            case("20 of a million failed", cold, 65, {fast: 0}),
            case("half of them took longer", slow, 65, {fast: 1}),
            case("streams take as long as their readers stay", streams, 65, {fast: 0}),
        ],
    )


def test_a_service_answers_for_its_own_failures_and_not_for_its_callers(monitoring: Shelf, tmp_path: Path) -> None:
    def links(code: str, service: str = "links.v1.LinkService") -> Mapping[str, str]:
        handled = f'groundswell_rpc_handled_total{{method="groundswell.api.{service}.GetLink",code='
        return {f'{handled}"OK"}}': "0+50x65", f'{handled}"{code}"}}': "0+50x65"}

    fast = "GroundswellBudgetBurnsFast"
    judged(
        monitoring,
        tmp_path,
        of_service("links", tmp_path),
        [
            case("an engine is away", links("UNAVAILABLE"), 65, {fast: 1}),
            case("a defect", links("INTERNAL"), 65, {fast: 1}),
            case("callers ask for what is not there", links("NOT_FOUND"), 65, {fast: 0}),
            case("another service fails", links("INTERNAL", "tenancy.v1.TenantService"), 65, {fast: 0}),
        ],
    )


def test_each_other_alert_fires_when_it_should_and_only_then(monitoring: Shelf, tmp_path: Path) -> None:
    others = {rule["alert"] for rule in rules("alert")} - {"GroundswellBudgetBurnsFast", "GroundswellBudgetBurnsSlowly"}
    assert set(CASES) == others
    cases = []
    for alert, (wrong, right) in CASES.items():
        cases.append(case(f"{alert} fires", wrong, MINUTES, {alert: 1}))
        cases.append(case(f"{alert} is silent", right, MINUTES, {alert: 0}))
    judged(monitoring, tmp_path, FOLDER / "rules" / "product.yaml", cases)


def test_a_bridge_that_is_gone_or_never_knew_the_log_pages_and_one_that_another_stands_in_for_does_not(
    monitoring: Shelf, tmp_path: Path
) -> None:
    alert, lag = "GroundswellBridgeDeaf", "groundswell_bridge_lag_records"
    told = [
        case("it is gone", {lag: "5x15 _x15"}, MINUTES, {alert: 1}),
        case("it never knew the log", {lag: f"{UNKNOWN} {UNKNOWN} NaN"}, MINUTES, {alert: 1}),
        case("the log was away for a minute", {lag: "5x20 NaN 5x8"}, MINUTES, {alert: 0}),
        case(
            "another has started",
            {f'{lag}{{pod="a"}}': "5x15 _x15", f'{lag}{{pod="b"}}': "_x16 5x14"},
            MINUTES,
            {alert: 0},
        ),
        case("there is none", {'groundswell_operator_leader{pod="a"}': "1x30"}, MINUTES, {alert: 0}),
    ]
    judged(monitoring, tmp_path, FOLDER / "rules" / "product.yaml", told)
