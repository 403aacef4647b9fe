"""Who may call what: the rule on every RPC, and the check of a caller's credential.

A method without a rule is a mistake, not a default: the server that serves it does not start. The tenant and the actor come from
a verified credential or from a context that another process of the platform has signed, and from nowhere else.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.descriptor import MethodDescriptor

from groundswell.api.access.v1 import access_pb2
from groundswell.kernel import errors
from groundswell.kernel.context import Context

M = TypeVar("M")

CHECK_KEPT_S = 30.0
CHECKS_KEPT_MAX = 10_000
REVOKED_KEPT_S = 2 * CHECK_KEPT_S
"""A check that began before a revocation ends within seconds and is remembered for 30 more; later ones are refused by identity."""
REVOCATIONS_KEPT_MAX = 100_000
"""Beyond it the oldest is dropped early, and with it all that is remembered of checks."""

JUDGED_AGAIN_S = 0.5
"""How often the caller of a running stream is judged: so a stream, too, ends within a second of a revocation or suspension."""


class Audience(Enum):
    PUBLIC = "public"
    INTERNAL = "internal"
    PERMISSION = "permission"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method; `permission` is set for `Audience.PERMISSION` only."""

    audience: Audience
    permission: str = ""


class UnmarkedMethod(Exception):
    """A served method carries no access rule."""


def rule_of(method: MethodDescriptor) -> Rule:
    """The rule of `method`; raises `UnmarkedMethod`."""
    rule = method.GetOptions().Extensions[access_pb2.rule]
    match rule.WhichOneof("kind"):
        case "public":
            return Rule(Audience.PUBLIC)
        case "internal":
            return Rule(Audience.INTERNAL)
        case "permission":
            return Rule(Audience.PERMISSION, rule.permission)
    raise UnmarkedMethod(f"{method.full_name} has no (groundswell.api.access.v1.rule): say who may call it.")


class InvalidCredential(errors.Unauthenticated):
    def __init__(self) -> None:
        super().__init__(
            "This credential is not valid: unknown, expired or revoked. Send a live API key as `Authorization: Bearer gsk_…`."
        )


class PermissionDenied(errors.Denied):
    def __init__(self, permission: str) -> None:
        super().__init__(f"This credential lacks the permission `{permission}`.")


def require(rule: Rule, context: Context) -> None:
    """Lets `context` pass or raises `Unauthenticated` (no credential) or `Denied`. Internal rules are the server's to judge."""
    if rule.audience is not Audience.PERMISSION:
        return
    context.require_tenant()
    if not context.allows(rule.permission):
        raise PermissionDenied(rule.permission)


@dataclass(frozen=True, slots=True)
class Credential:
    """What identity says of a secret. `expires_s` is on the wall clock; None means never."""

    key_id: int
    context: Context
    expires_s: float | None


class Verifier:
    """Checks API keys with identity and remembers the answers for 30 s; a revocation ends the memory at once.

    `check` asks identity (raises `InvalidCredential`). While identity is down, what is remembered still holds, and everything else is
    `Unavailable`. The memory is used only while `heard` says that the revocations reach this process: identity itself needs no news.
    """

    def __init__(self, check: Callable[[str], Awaitable[Credential]], heard: Callable[[], bool] = lambda: True) -> None:
        self._check = check
        self._heard = heard
        self._known: dict[str, tuple[float, Credential]] = {}
        self._revoked: dict[int, float] = {}
        self._forgotten = 0

    async def verify(self, secret: str) -> Context:
        """The context of the secret's holder; raises `InvalidCredential` or `Unavailable`."""
        if not secret.startswith("gsk_") or len(secret) > 256:
            raise InvalidCredential
        credential = self._known[secret][1] if self.remembers(secret) else await self._asked(secret)
        if credential.key_id in self._revoked or (
            credential.expires_s is not None and credential.expires_s <= time.time()
        ):
            raise InvalidCredential
        return credential.context

    def remembers(self, secret: str) -> bool:
        """Whether `verify` answers for `secret` without asking."""
        found = self._known.get(secret) if self._heard() else None
        return found is not None and found[0] >= time.monotonic()

    def revoke(self, key_id: int) -> None:
        """Refuses a key from now on. It is noted for as long as a check that ran beside the revocation may be remembered."""
        now_s = time.monotonic()
        self._revoked.pop(key_id, None)
        self._revoked[key_id] = now_s + REVOKED_KEPT_S
        while (oldest := next(iter(self._revoked.items())))[1] <= now_s:
            del self._revoked[oldest[0]]
        if len(self._revoked) > REVOCATIONS_KEPT_MAX:
            del self._revoked[oldest[0]]
            self.forget()

    def forget(self) -> None:
        """Forgets what was checked: every credential is asked for anew, also one whose check is under way."""
        self._known.clear()
        self._forgotten += 1

    @property
    def revocations_kept(self) -> int:
        """Keys that are refused whatever is remembered of them."""
        return len(self._revoked)

    async def _asked(self, secret: str) -> Credential:
        forgotten = self._forgotten
        credential = await self._check(secret)
        if self._heard() and self._forgotten == forgotten:
            if len(self._known) >= CHECKS_KEPT_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[secret] = time.monotonic() + CHECK_KEPT_S, credential
        return credential


async def while_allowed(
    answers: AsyncGenerator[M, None], judge: Callable[[], Awaitable[object]]
) -> AsyncGenerator[M, None]:
    """`answers` until they end or `judge`, asked twice a second, raises; an idle stream is judged as often.

    While nobody can judge (`Unavailable` other than `Stopping`, `DeadlineExceeded`), a stream goes on for as long as a check is remembered.
    """
    async with aclosing(answers):
        judging: asyncio.Future[None] = asyncio.ensure_future(_until_refused(judge))
        coming: asyncio.Future[M | None] = asyncio.ensure_future(anext(answers, None))
        try:
            while True:
                either: set[asyncio.Future[Any]] = {judging, coming}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if judging.done():
                    judging.result()
                if (answer := coming.result()) is None:
                    return
                yield answer
                coming = asyncio.ensure_future(anext(answers, None))
        finally:
            for task in (judging, coming):
                task.cancel()
            await asyncio.gather(judging, coming, return_exceptions=True)


async def _until_refused(judge: Callable[[], Awaitable[object]]) -> None:
    judged_s = time.monotonic()
    while True:
        await asyncio.sleep(JUDGED_AGAIN_S)
        try:
            await judge()
            judged_s = time.monotonic()
        except errors.Stopping:
            raise
        except (errors.Unavailable, errors.DeadlineExceeded):
            if time.monotonic() - judged_s > CHECK_KEPT_S:
                raise
