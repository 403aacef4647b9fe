"""What a spike does besides scaling, on a real control plane: keys of a ConfigMap, and notices to a receiver on loopback."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from groundswell.engines import ports
from tests.cluster.control_plane.api import Object, until
from tests.cluster.forms import slow
from tests.cluster.operating import Operated, scales, spike
from tests.cluster.raising import led_with_targets, lives_until

SETS = {"name": "cache", "configMapPatch": {"name": "flags", "data": {"ttl": "60", "stale": "yes"}}}
TELLS = {"name": "chat", "notify": {"webhookSecretRef": {"name": "hook"}}}
ITEM = "links/7?$(touch here)\n{}&key=1"


class Receiver:
    """Takes notices."""

    def __init__(self) -> None:
        self.answers = [200]
        """The statuses of the next answers; the last one stays."""
        self.silent = False
        self.came: list[tuple[str, str, Object]] = []
        """Path and query, key and body of each request."""

    async def take(self, request: web.Request) -> web.Response:
        self.came.append((request.path_qs, request.headers["Idempotency-Key"], await request.json()))
        while self.silent:
            await asyncio.sleep(0.1)
        return web.Response(status=self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


@asynccontextmanager
async def receiving(place: Operated) -> AsyncIterator[Receiver]:
    """A receiver whose address is in the Secret `hook`."""
    receiver, port, application = Receiver(), ports.draw(1)[0], web.Application()
    application.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    address = base64.b64encode(f"http://127.0.0.1:{port}/hooks/sesame?team=web".encode()).decode()
    await place.admin.create(place.path("v1", "secrets"), {"metadata": {"name": "hook"}, "data": {"url": address}})
    try:
        yield receiver
    finally:
        receiver.silent = False
        await runner.cleanup()


async def with_flags(place: Operated, **values: str) -> None:
    flags = {"metadata": {"name": "flags"}, "data": values}
    await place.admin.create(place.path("v1", "configmaps"), flags)


async def flags(place: Operated) -> dict[str, str]:
    found: dict[str, str] = (await place.admin.get(place.path("v1", "configmaps", "flags")))["data"]
    return found


async def until_flags(place: Operated, **values: str) -> None:
    async def there() -> bool:
        return await flags(place) == values

    await until(there)


async def test_keys_of_a_config_map_are_set_while_a_spike_lives_and_given_back_by_value(place: Operated) -> None:
    await with_flags(place, ttl="5", title="ours")
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[SETS])
    path = await place.spike("vs-a", policy)
    await until_flags(place, ttl="60", title="ours", stale="yes")
    await place.says(path, "Configured", "ValuesSet")
    other = {"data": {"ttl": "7", "title": "theirs"}}
    await place.admin.patch(place.path("v1", "configmaps", "flags"), other, fieldManager="helm")
    await until_flags(place, ttl="60", title="theirs", stale="yes")
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await flags(place) == {"ttl": "7", "title": "theirs"}
    assert set(place.foreign()) == {"configmaps/flags"}
    assert not place.refusals()


@slow
async def test_a_key_that_somebody_else_has_set_to_the_same_value_is_left_to_them(place: Operated) -> None:
    await with_flags(place, ttl="5")
    await place.leads(place.start("one"))
    path = await place.spike("vs-a", await place.policy(actions=[SETS]))
    await place.says(path, "Configured", "ValuesSet")
    same = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flags"}, "data": {"ttl": "60"}}
    await place.admin.patch(place.path("v1", "configmaps", "flags"), same, "apply", fieldManager="helm")
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await flags(place) == {"ttl": "60"}


@slow
async def test_a_config_map_that_goes_during_a_spike_is_told_of_and_not_made_anew(place: Operated) -> None:
    await with_flags(place, ttl="5")
    await place.leads(place.start("one"))
    path = await place.spike("vs-a", await place.policy(actions=[SETS]))
    await place.says(path, "Configured", "ValuesSet")
    await place.admin.delete(place.path("v1", "configmaps", "flags"))
    gone = await place.says(path, "Configured", "ConfigMapGone")
    assert (gone["status"], gone["message"]) == ("False", "flags is gone")
    await place.says(f"{place.policies}/default", "Ready", "ActionsUnusable")
    await place.admin.delete(path)
    await until(lambda: place.gone(path))
    assert await place.gone(place.path("v1", "configmaps", "flags"))


@slow
async def test_a_config_map_that_the_operator_has_no_right_to_is_named_and_the_rest_is_done(place: Operated) -> None:
    await with_flags(place, ttl="5")
    await place.leads(place.start("one"))
    closed = {"name": "closed", "configMapPatch": {"name": "kube-root-ca.crt", "data": {"ca.crt": "mine"}}}
    path = await place.spike("vs-a", await place.policy(actions=[closed, SETS]))
    ready = await place.says(f"{place.policies}/default", "Ready", "ActionsUnusable")
    assert (
        ready["message"] == "ConfigMap kube-root-ca.crt is not there, or not among those that the operator may change"
    )
    await place.says(path, "Configured", "ValuesSet")
    assert (await flags(place))["ttl"] == "60"


@pytest.mark.promise("OPERATOR-6")
async def test_observing_sets_no_key_and_tells_nobody(place: Operated) -> None:
    await with_flags(place, ttl="5")
    await place.leads(place.start("one"))
    async with receiving(place) as receiver:
        path = await place.spike("vs-a", await place.policy(mode="Observe", actions=[SETS, TELLS]))
        admitted = await place.says(path, "Admitted", "Admitted")
        assert admitted["message"] == "sets stale, ttl in flags; tells chat"
        await place.says(path, "Scaled", "WouldRaise")
        assert not place.foreign()
        assert not receiver.came


@slow
async def test_what_is_said_of_a_spike_is_in_the_body_only_and_a_notice_that_is_refused_is_sent_again(
    place: Operated,
) -> None:
    process = place.start("one")
    await place.leads(process)
    async with receiving(place) as receiver:
        receiver.answers = [500, 302, 204]
        made = spike("vs-a", await place.policy(actions=[TELLS]), level="HOT")
        made["spec"] |= {"item": ITEM, "tenant": "acme\r\nX-Evil: 1"}
        await place.admin.create(place.spikes, made)
        path = f"{place.spikes}/vs-a"
        await place.says(path, "Notified", "Sent")
        assert [(where, key) for where, key, _ in receiver.came] == [("/hooks/sesame?team=web", "vs-a")] * 3
        body = receiver.came[-1][2]
        assert (body["item"], body["tenant"], body["level"]) == (ITEM, "acme\r\nX-Evil: 1", "HOT")
        assert (body["spike"], body["policy"], body["namespace"]) == ("vs-a", "default", place.namespace)
    written = process.log.read_text()
    assert "the notice chat of vs-a was not sent: answered 500" in written
    assert "sesame" not in written
    assert "touch" not in written
    assert "sesame" not in str(await place.admin.items(place.spikes))
    assert not place.refusals()


@pytest.mark.alone
@slow
async def test_a_receiver_that_never_answers_keeps_nobody_waiting_for_replicas(place: Operated) -> None:
    await led_with_targets(place)
    async with receiving(place) as receiver:
        receiver.silent = True
        policy = await place.policy(actions=[TELLS, scales("web", 10)])
        first = await place.spike("vs-a", policy)

        async def asked() -> bool:
            return bool(receiver.came)

        await until(asked)
        await place.comes_to(first, "Holding", 4.0)  # the receiver is waited for 5 s
        failed = await place.says(first, "Notified", "Retrying")
        assert failed["message"] == "chat: no answer (TimeoutError), attempt 1"


@slow
async def test_an_address_that_is_missing_is_told_of_and_looked_for_again(place: Operated) -> None:
    await place.leads(place.start("one"))
    path = await place.spike("vs-a", await place.policy(actions=[TELLS]))
    failed = await place.says(path, "Notified", "Retrying")
    assert failed["message"] == "chat: the Secret hook cannot be read (404), attempt 1"
    async with receiving(place) as receiver:
        await place.says(path, "Notified", "Sent")
        assert len(receiver.came) == 1


@pytest.mark.promise("OPERATOR-5")
@slow
async def test_an_operator_that_is_killed_after_every_single_step_sets_and_gives_back_keys_once_and_tells_of_the_spike(
    place: Operated,
) -> None:
    await with_flags(place, ttl="5")
    async with receiving(place) as receiver:
        policy = await place.policy(actions=[SETS, TELLS])
        path = await place.spike("vs-a", policy)
        await lives_until(place, path, "Holding")
        await place.leads(place.start("well"))
        await place.says(path, "Notified", "Sent")
        assert await flags(place) == {"ttl": "60", "stale": "yes"}
        assert {key for _, key, _ in receiver.came} == {"vs-a"}
    place.processes[-1].kill()
    await place.forget_leader()
    await place.admin.delete(path)
    await lives_until(place, path, "")
    assert await flags(place) == {"ttl": "5"}
    assert place.foreign() == ["configmaps/flags"] * 2
