"""Sends notices to webhooks. Their addresses are in Secrets and appear nowhere else: not in a status, an Event or a line of the log.

What is said of a spike is in the body only, as JSON. The `Idempotency-Key` is the spike's name: a receiver that keeps it sees each spike
once, though a notice may be sent again after a crash.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

import aiohttp

from groundswell_operator.applying import statuses
from groundswell_operator.applying.errors import Refused
from groundswell_operator.applying.reading import Paths
from groundswell_operator.applying.requests import Asking
from groundswell_operator.policies import Notice, Object, is_name
from groundswell_operator.saga.state import Spike

ANSWER_S_MAX = 5.0
KEY = "Idempotency-Key"


class NotSent(Exception):
    """A notice did not arrive, or nobody said that it did; the message is for people, and holds no address."""


async def send(requests: Asking, paths: Paths, namespace: str, spike: Spike, notice: Notice) -> None:
    """One attempt; raises `NotSent`, and what `Requests` does."""
    address = await _address(requests, paths, notice)
    requests.require_lead()
    timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                address, json=body(namespace, spike), headers={KEY: spike.name}, allow_redirects=False
            ) as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise NotSent(f"no answer ({type(error).__name__})") from error
    if not 200 <= status < 300:
        raise NotSent(f"answered {status}")


def body(namespace: str, spike: Spike) -> Object:
    """What a receiver is told."""
    evidence = spike.evidence
    return {
        "spike": spike.name,
        "namespace": namespace,
        "policy": spike.policy,
        "tenant": evidence.tenant,
        "kind": evidence.kind,
        "item": spike.item,
        "level": evidence.level.name,
        "detectedAt": statuses.moment(evidence.detected_s),
        "projectedViewsHour": evidence.projected_views_hour,
        "confidence": evidence.confidence,
        "distinctUsers": evidence.distinct_users,
        "replicas": {each.target.name: each.desired for each in spike.progress.claims},
    }


async def _address(requests: Asking, paths: Paths, notice: Notice) -> str:
    if not is_name(notice.secret):
        raise NotSent(f"{notice.name} names a Secret that cannot be: {notice.secret}")
    try:
        data = (await requests.get(f"{paths.secrets}/{notice.secret}")).get("data") or {}
    except Refused as refused:
        raise NotSent(f"the Secret {notice.secret} cannot be read ({refused.status})") from refused
    if notice.key not in data:
        raise NotSent(f"the Secret {notice.secret} has no key {notice.key}")
    address = _text(data[notice.key])
    if not _is_address(address):
        raise NotSent(f"the key {notice.key} of the Secret {notice.secret} is no address of http or https")
    return address


def _text(encoded: str) -> str:
    """What a value of a Secret says; empty where it is no text."""
    try:
        return base64.b64decode(encoded, validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _is_address(text: str) -> bool:
    try:
        found = urlsplit(text)
        return found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        return False
