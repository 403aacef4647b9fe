"""Who is told of a spike, and when again: at least once for each spike that is acted upon, once for an item within a window."""

from __future__ import annotations

import math
from collections.abc import Iterator

from groundswell_operator.policies import Mode, Notice
from groundswell_operator.saga.conditions import Conditions, with_condition
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import LIVE, Delivery, Governing, Spike
from groundswell_operator.saga.steps import Notify

ATTEMPTS_MAX = 12
BACKOFF_S = 1.0
"""After the first attempt; twice as long after each further one."""
BACKOFF_S_MAX = 300.0
LATE_S_MAX = 1_800.0
"""For so long after its end a spike is still told of, where nobody could be told before."""
Topic = tuple[str, str, str, str, str]


def due(state: Namespace, now_s: float) -> list[Notify]:
    """The notices to be sent now. Of those about one item only the first is under way, so that the others can repeat it."""
    found: list[Notify] = []
    under_way: set[Topic] = set()
    for spike, notice in _open(state, now_s):
        topic = _topic(spike, notice)
        if topic in under_way:
            continue
        under_way.add(topic)
        repeats = _repeated(spike, notice, state, now_s)
        if repeats or _rested(spike.notices.get(notice.name, Delivery()), now_s):
            found.append(Notify(spike, notice, repeats))
    return found


def pause_s(failures: int) -> float:
    """After so many in a row, until the next attempt."""
    return min(BACKOFF_S * math.pow(2, min(failures, ATTEMPTS_MAX) - 1), BACKOFF_S_MAX)


def with_notified(conditions: Conditions, spike: Spike, governing: Governing | None, now_s: float) -> Conditions:
    """The conditions with how far the notices have come, once the first was tried."""
    notices = governing.policy.notices if governing is not None else ()
    found = {each.name: spike.notices[each.name] for each in notices if each.name in spike.notices}
    if not found or not spike.acts:
        return conditions
    failed = {name: each for name, each in found.items() if not _is_done(each)}
    if failed:
        given_up = all(each.attempts >= ATTEMPTS_MAX for each in failed.values())
        message = "; ".join(f"{name}: {each.failure}, attempt {each.attempts}" for name, each in failed.items())
        return with_condition(conditions, "Notified", False, "GivenUp" if given_up else "Retrying", message, now_s)
    if len(found) < len(notices):
        return conditions
    repeats = [f"{name} was told of it by {each.repeats}" for name, each in found.items() if each.repeats]
    reason = "Repeats" if len(repeats) == len(found) else "Sent"
    return with_condition(conditions, "Notified", True, reason, "; ".join(repeats), now_s)


def _open(state: Namespace, now_s: float) -> Iterator[tuple[Spike, Notice]]:
    """What spikes still have to tell, the first decided first."""
    telling = [each for each in state.spikes.values() if each.acts and _is_news(each, now_s)]
    for spike in sorted(telling, key=lambda each: (each.progress.decided_s or 0.0, each.name)):
        governing = state.policies.get(spike.policy)
        if governing is None or not _may(governing):
            continue
        for notice in governing.policy.notices:
            delivery = spike.notices.get(notice.name, Delivery())
            if not _is_done(delivery) and delivery.attempts < ATTEMPTS_MAX:
                yield spike, notice


def _is_news(spike: Spike, now_s: float) -> bool:
    if spike.deleted_s is not None or spike.unread is not None:
        return False
    restored_s = spike.progress.restored_s
    return spike.progress.phase in LIVE or (restored_s is not None and now_s - restored_s < LATE_S_MAX)


def _may(governing: Governing) -> bool:
    paused = governing.pauses.scale_in and governing.pauses.scale_out
    return governing.policy.mode is not Mode.OBSERVE and not paused


def _topic(spike: Spike, notice: Notice) -> Topic:
    return spike.policy, notice.name, spike.evidence.tenant, spike.evidence.kind, spike.item


def _repeated(spike: Spike, notice: Notice, state: Namespace, now_s: float) -> str:
    """The spike whose notice was about the same item, within the window; empty without one."""
    for other in state.spikes.values():
        sent_s = other.notices[notice.name].sent_s if notice.name in other.notices else None
        if sent_s is not None and now_s - sent_s < notice.dedupe_s and _topic(other, notice) == _topic(spike, notice):
            return other.name
    return ""


def _is_done(delivery: Delivery) -> bool:
    return delivery.sent_s is not None or bool(delivery.repeats)


def _rested(delivery: Delivery, now_s: float) -> bool:
    return delivery.tried_s is None or now_s - delivery.tried_s >= pause_s(delivery.attempts)
