"""`python -m groundswell_operator plan POLICY EVENT`: prints the writes, their order and times, and what they cost."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from groundswell_operator.planning.raising import SetFloor, SetScale
from groundswell_operator.policies import Mode, seconds
from groundswell_operator.rehearsing import files
from groundswell_operator.rehearsing.rehearsal import Assumed, Rehearsal, rehearsed
from groundswell_operator.saga.state import Governing, Phase, Spike
from groundswell_operator.saga.steps import Notify, SetKeys, Write

EXCUSES = {
    Mode.OBSERVE: "The policy only observes: none of this is written.",
    Mode.APPROVE: "The policy waits for a person's approval; the times count from there.",
}


def add(parser: argparse.ArgumentParser) -> None:
    """What the command may be told."""
    parser.add_argument("policy", type=Path, help="a ViralSpikePolicy, as YAML")
    parser.add_argument("event", type=Path, help="an event of spikes.events.v1, as protobuf's JSON")
    parser.add_argument(
        "objects",
        type=Path,
        nargs="*",
        help="what is there: Deployments, StatefulSets, autoscalers, ConfigMaps (kubectl get -o yaml, helm template)",
    )
    parser.add_argument("--replicas", type=int, default=1, help="of a target that no file has (1)")
    parser.add_argument("--lasts", type=_duration, default="30m", help="until the spike is over (30m)")
    parser.add_argument("--ready", type=_duration, default="20s", help="until an ordered pod is ready (20s)")


def run(options: argparse.Namespace) -> int:
    """Prints the plan; 2, and a sentence on stderr, when a file is not what it has to be."""
    try:
        owner = files.policy(options.policy)
        spike = files.spike(options.event, owner)
        state = files.state(owner, spike, options.objects, options.replicas)
    except files.Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    found = rehearsed(state, spike.name, Assumed(options.lasts, options.ready))
    print("\n".join(lines(state.policies[spike.policy], spike, found, options.lasts)))
    return 0


def lines(governing: Governing, spike: Spike, found: Rehearsal, lasts_s: int) -> Iterator[str]:
    """The plan, for people."""
    policy, evidence = governing.policy, spike.evidence
    yield f"{policy.name} ({policy.mode.value}) on {spike.name}: {evidence.kind} {spike.item!r} of {evidence.tenant!r}"
    yield f"{evidence.level.name}, {evidence.projected_views_hour:,} views an hour"
    if policy.mode in EXCUSES:
        yield EXCUSES[policy.mode]
    yield from ("", f"decision: {found.admitted}")
    if found.progress.mode is None:
        return
    yield ""
    told = [(second, _said(step)) for second, step in found.steps] + [(lasts_s, "the spike is over")]
    if found.ready_s is not None:
        told.append((found.ready_s, "all that was raised is ready"))
    if found.progress.phase is Phase.RESTORED and found.ended_s is not None:
        told.append((found.ended_s, f"the end: {found.progress.conditions['Restored'].message}"))
    yield from (f"{second:>7} s  {words}" for second, words in sorted(told, key=lambda each: each[0]))
    minutes, most = found.replica_seconds / 60, policy.budget.replica_minutes_day_max
    yield from ("", f"cost: {found.extra_max} more replicas at most (of {policy.budget.extra_replicas_max}),")
    yield f"      {minutes:,.0f} replica-minutes (of {most:,} a day)"


def _duration(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}[smh]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s, 30m or 2h")
    return seconds(text)


def _said(step: Write | SetKeys | Notify) -> str:
    if isinstance(step, SetKeys):
        return f"ConfigMap {step.config_map.name}: {', '.join(sorted(step.values)) or 'nothing'} is ours"
    if isinstance(step, Notify):
        return f"notice {step.notice.name}"
    name, change = f"{step.scaled.target.kind} {step.scaled.target.name}", step.change
    if isinstance(change, SetFloor):
        floor = change.floor if change.floor_set else "unset"
        return f"{name}: floor {floor}, ceiling {change.ceiling if change.ceiling_set else 'unset'}"
    return f"{name}: scale {change.replicas}" if isinstance(change, SetScale) else f"{name}: floor left to others"
