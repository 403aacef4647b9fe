"""The small parts of the kernel: rules without I/O."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundswell.kernel import access, errors, failpoints, ids, pagination, settings
from groundswell.kernel.context import Context
from tests.clocks import HeldClock


def test_ids_rise_even_when_the_clock_steps_back() -> None:
    clock = HeldClock(1_800_000_000_000)
    drawn = ids.Ids(clock)
    made = [drawn.next() for _ in range(5_000)]
    clock.at_ms -= 60_000
    made += [drawn.next() for _ in range(5_000)]
    assert made == sorted(set(made))
    assert all(0 < id_ < 1 << 63 for id_ in made)


@given(st.integers(ids.EPOCH_MS, ids.EPOCH_MS + (1 << 40)), st.integers(0, 8191), st.integers(0, 1023))
def test_an_id_gives_its_parts_back(time_ms: int, shard: int, sequence: int) -> None:
    made = ids.compose(time_ms, shard, sequence)
    assert (ids.time_ms_of(made), ids.shard_of(made)) == (time_ms, shard)


@pytest.mark.parametrize(
    ("held", "asked", "allowed"),
    [
        ({"links.create"}, "links.create", True),
        ({"links.*"}, "links.create", True),
        ({"links.*"}, "links.domains.create", True),
        ({"links.create"}, "links.read", False),
        ({"links.*"}, "linksmore.read", False),
        ({"*"}, "links.create", True),
        ({"*"}, "platform.tenants.create", False),
        ({"platform.*"}, "platform.tenants.create", True),
        ({"platform.*"}, "links.create", False),
        (set(), "links.create", False),
    ],
)
def test_a_permission_is_held_itself_or_by_a_wildcard(held: set[str], asked: str, allowed: bool) -> None:
    assert Context(permissions=frozenset(held)).allows(asked) is allowed


def test_a_page_token_serves_its_own_list_only() -> None:
    key = b"k" * 32
    token = pagination.token([17, "x"], "links/7", key)
    assert pagination.position(token, "links/7", key) == [17, "x"]
    assert pagination.position("", "links/7", key) is None
    for forged, scope in (
        (token, "links/8"),
        (token[:-2] + "AA", "links/7"),
        ("%%%", "links/7"),
        ("AAAA", "links/7"),
        ("é", "links/7"),
    ):
        with pytest.raises(pagination.InvalidPageToken):
            pagination.position(forged, scope, key)


def test_settings_name_the_variable_that_is_wrong() -> None:
    @settings.section("BOOKMARKS")
    class BookmarkSettings:
        per_user_max: int = 10
        title: str = "x"
        loud: bool = False
        ratio: float = 0.5
        hosts: tuple[str, ...] = ()

    loaded = settings.load(
        BookmarkSettings, {"BOOKMARKS_PER_USER_MAX": "3", "BOOKMARKS_LOUD": "yes", "BOOKMARKS_HOSTS": "a, b"}
    )
    assert (loaded.per_user_max, loaded.loud, loaded.hosts, loaded.title) == (3, True, ("a", "b"), "x")
    with pytest.raises(settings.SettingError, match="BOOKMARKS_PER_USER_MAX is 'many'; it must be a whole number"):
        settings.load(BookmarkSettings, {"BOOKMARKS_PER_USER_MAX": "many"})


def test_failpoints_fire_once_at_their_count_and_refuse_nonsense() -> None:
    points = failpoints.parse("a.b=kill@3, c=delay:0.5")
    assert (points["a.b"].action, points["a.b"].left, points["c"].action) == ("kill", 3, "delay:0.5")
    with pytest.raises(ValueError, match="NAME=ACTION"):
        failpoints.parse("a.b=explode")


def test_a_running_process_is_told_to_die_by_a_file_and_its_successor_is_not(tmp_path: Path) -> None:
    """Goal: a crash point can be armed from outside, once: the file is gone before the process is."""
    armed = tmp_path / "points"
    reaching = f"""
import pathlib
from groundswell.kernel import failpoints
failpoints.reach("a.b")
pathlib.Path({str(armed)!r}).write_text("a.b=kill@2")
failpoints.reach("a.b")
print("still here", flush=True)
failpoints.reach("a.b")
print("never reached", flush=True)
"""
    environment = {**os.environ, failpoints.VARIABLE: f"@{armed}"}
    first = subprocess.run(
        [sys.executable, "-c", reaching], env=environment, capture_output=True, text=True, check=False
    )
    assert (first.returncode, first.stdout.split("\n")[0]) == (-signal.SIGKILL, "still here")
    assert "never reached" not in first.stdout
    assert not armed.exists()


def test_an_error_has_a_stable_reason_and_keeps_its_field() -> None:
    class SlugTaken(errors.AlreadyExists):
        pass

    error = SlugTaken("Taken.", field="tenant.slug")
    assert (error.reason, error.fields[0].field) == ("SLUG_TAKEN", "tenant.slug")


class Identity:
    """Counts how often it is asked."""

    def __init__(self, expires_s: float | None = None) -> None:
        self.asked = 0
        self.good = True
        self.expires_s = expires_s

    async def check(self, secret: str) -> access.Credential:
        self.asked += 1
        if secret != "gsk_1_good" or not self.good:
            raise access.InvalidCredential
        return access.Credential(1, Context(tenant=7), self.expires_s)


@pytest.mark.promise("IDENTITY-5")
async def test_a_revoked_key_is_refused_although_its_check_is_remembered() -> None:
    identity = Identity()
    verifier = access.Verifier(identity.check)
    for _ in range(3):
        assert (await verifier.verify("gsk_1_good")).tenant == 7
    assert identity.asked == 1
    verifier.revoke(1)
    with pytest.raises(access.InvalidCredential):
        await verifier.verify("gsk_1_good")


@pytest.mark.promise("IDENTITY-5")
async def test_a_check_is_not_remembered_before_revocations_are_heard() -> None:
    """Goal: a process that starts while the log is away asks identity each time, and may remember once it hears."""
    identity, heard = Identity(), False
    verifier = access.Verifier(identity.check, lambda: heard)
    for _ in range(3):
        await verifier.verify("gsk_1_good")
        assert not verifier.remembers("gsk_1_good")
    assert identity.asked == 3
    heard = True
    for _ in range(3):
        await verifier.verify("gsk_1_good")
        assert verifier.remembers("gsk_1_good")
    assert identity.asked == 4


@pytest.mark.promise("IDENTITY-5")
async def test_a_remembered_check_counts_only_while_revocations_are_heard() -> None:
    """Goal: a process that heard the log once asks identity while the log is away, also for what it remembers."""
    identity, heard = Identity(), True
    verifier = access.Verifier(identity.check, lambda: heard)
    await verifier.verify("gsk_1_good")
    heard, identity.good = False, False
    with pytest.raises(access.InvalidCredential):
        await verifier.verify("gsk_1_good")


@pytest.mark.promise("IDENTITY-5")
async def test_of_however_many_revocations_a_bounded_number_is_kept_and_no_revoked_key_passes() -> None:
    """Goal: the oldest revocation, dropped to make room, is not forgotten while a check from before it is remembered."""
    identity = Identity()
    verifier = access.Verifier(identity.check)
    await verifier.verify("gsk_1_good")
    identity.good = False
    verifier.revoke(1)
    for key in range(2, access.REVOCATIONS_KEPT_MAX + 10):
        verifier.revoke(key)
    assert verifier.revocations_kept == access.REVOCATIONS_KEPT_MAX
    with pytest.raises(access.InvalidCredential):
        await verifier.verify("gsk_1_good")
    assert identity.asked == 2


@pytest.mark.promise("IDENTITY-5")
async def test_a_stream_goes_on_while_nobody_can_judge_its_caller_and_ends_with_the_refusal() -> None:
    """Also while it is silent: the stream here has nothing to say."""
    verdicts = iter([errors.Unavailable("Away."), errors.DeadlineExceeded("Late."), access.InvalidCredential()])
    ended = False

    async def silent() -> AsyncGenerator[str, None]:
        nonlocal ended
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            ended = True

    async def judge() -> None:
        raise next(verdicts)

    answers = access.while_allowed(silent(), judge)
    assert await anext(answers) == "first"
    with pytest.raises(access.InvalidCredential):
        await anext(answers)
    assert ended


async def test_a_key_ends_at_its_expiry_although_its_check_is_remembered() -> None:
    verifier = access.Verifier(Identity(expires_s=1.0).check)
    with pytest.raises(access.InvalidCredential):
        await verifier.verify("gsk_1_good")


@pytest.mark.parametrize("secret", ["", "gsk_", "Bearer x", "gsk_1_bad", "gsk_" + "x" * 10_000, "gsk_1_good\x00"])
async def test_what_is_no_key_is_refused(secret: str) -> None:
    with pytest.raises(access.InvalidCredential):
        await access.Verifier(Identity().check).verify(secret)
