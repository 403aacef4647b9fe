"""The policies that the bridge goes by, while an API server on loopback (`serving`) changes them between any two of its requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeEscalated, SpikeStarted, SpikeUpdated
from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell_operator.applying.reading import level_of
from groundswell_operator.bridge.records import object_name
from groundswell_operator.policies import Level
from tests.operators.serving import Answer, Asked, answering
from tests.operators.test_odd_objects import SPEC, made
from tests.operators.test_taking import HEADERS, Store, record, seen, started, taker

NAME = object_name("default", "00000000000000aa")


def dismissing(policy: dict[str, Any]) -> None:
    """What the operator writes before it lets a spike go that somebody has deleted."""
    policy["status"] = {"dismissed": [{"name": NAME, "at": "2026-11-25T10:00:00Z"}]}


class Changing(Store):
    """The same, where something happens before it answers a request."""

    def __init__(self, before: Callable[[Asked], bool], happens: Callable[[Store], None]) -> None:
        """What `happens` does so before the first request of which `before` is true."""
        super().__init__()
        self._before, self._happens = before, happens
        self._happened = False

    def answer(self, asked: Asked) -> Answer:
        if not self._happened and self._before(asked):
            self._happened = True
            self._happens(self)
        return super().answer(asked)


async def test_policies_are_asked_for_once_for_all_records_though_there_is_none() -> None:
    async with answering(lambda _: (200, {"items": []})) as (server, requests):
        found, _ = taker(requests)
        await found.take([record(started(1), HEADERS)] * 50)
    assert len(server.asked) == 1


async def test_records_wait_where_the_kinds_are_not_installed_yet() -> None:
    answers = iter([(404, {"message": "the server could not find the requested resource"}), (200, {"items": []})])

    def answer(_: Asked) -> Answer:
        return next(answers)

    async with answering(answer) as (server, requests):
        found, _ = taker(requests)
        await found.take([record(started(1), HEADERS)])
    assert len(server.asked) == 2


@pytest.mark.parametrize("kind", [SpikeStarted, SpikeUpdated, SpikeEscalated])
async def test_a_spike_that_was_deleted_while_it_lived_is_not_made_anew_though_the_bridge_begins_anew(
    kind: type[Any],
) -> None:
    name = object_name("default", "00000000000000aa")
    dismissing = {"dismissed": [{"name": name, "at": "2026-11-25T10:00:00Z"}]}
    policies: list[dict[str, Any]] = [made("default", spec=SPEC, status=dismissing), made("another", spec=SPEC)]

    def answer(asked: Asked) -> Answer:
        return (
            (200, {"items": policies}) if asked.method == "GET" else (201, {**asked.value, "status": {"level": "HOT"}})
        )

    async with answering(answer) as (server, requests):
        found, records = taker(requests)
        await found.take([seen(kind, Spike.HOT)])
    assert [each.value["metadata"]["name"] for each in server.written()] == [object_name("another", "00000000000000aa")]
    assert records.labels("dismissed")._value.get() == 1


async def test_a_spike_that_is_deleted_just_before_the_bridge_looks_for_it_is_not_made_anew() -> None:
    """Goal: its policies were read before that, and do not say so yet. The operator writes it before the object goes."""

    def deleted(store: Store) -> None:
        dismissing(store.policy)
        store.spikes.clear()

    store = Changing(lambda asked: asked.path.endswith(f"/{NAME}"), deleted)
    async with answering(store.answer) as (_, requests):
        found, records = taker(requests, known_s=0)
        await found.take([seen(), seen(SpikeUpdated)])
    assert not store.spikes
    assert records.labels("dismissed")._value.get() == 1


@pytest.mark.parametrize("policies_s_max", [0.0, 600.0])
async def test_policies_that_change_in_the_middle_of_a_long_look_are_looked_at_anew(policies_s_max: float) -> None:
    """Method: one is replaced by another of its name after the first record. Control: they are taken for granted all the while."""

    def replaced(store: Store) -> None:
        store.policy = {**store.policy, "metadata": {**store.policy["metadata"], "uid": "another"}}

    store = Changing(lambda asked: asked.method == "POST", replaced)
    async with answering(store.answer) as (_, requests):
        found, _ = taker(requests, policies_s_max=policies_s_max)
        await found.take([seen(identifier=1, views=2), seen(identifier=2, views=1)])
    owners = [each["metadata"]["ownerReferences"][0]["uid"] for each in store.spikes.values()]
    assert (owners[-1] == "another") is (policies_s_max == 0)


async def test_a_policy_that_was_replaced_gets_an_object_of_its_own_once_that_of_the_one_before_is_gone() -> None:
    """Both have one name. Meanwhile nothing is said of the object that goes: it is of a policy that is not there any more."""
    store = Store()
    async with answering(store.answer) as (server, requests):
        found, _ = taker(requests)
        await found.take([seen()])
        store.policy["metadata"]["uid"] = "another"
        (spike,) = store.spikes.values()
        spike["metadata"]["deletionTimestamp"] = "2026-11-25T10:00:00Z"
        await found.take([seen(SpikeEscalated, Spike.HOT)])
        assert not any(each.method == "PATCH" for each in server.asked)
        store.spikes.clear()
        await found.take([seen(SpikeUpdated, Spike.HOT)])
    (spike,) = store.spikes.values()
    assert spike["metadata"]["ownerReferences"][0]["uid"] == "another"
    assert level_of(spike) is Level.HOT
