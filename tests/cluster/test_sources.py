"""What the bridge says of its log on a real API server: what came too late, and who is away."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

from groundswell.api.spikes.v1.spikes_events_pb2 import SpikeEnded, SpikeStarted
from groundswell.api.spikes.v1.spikes_pb2 import Spike
from groundswell.engines import ports, running, topics
from groundswell.engines.children import Child
from groundswell.engines.engine import Folders
from groundswell.engines.kafka import Kafka
from groundswell_operator.applying.reading import HEARTBEAT
from groundswell_operator.bridge.records import object_name
from groundswell_operator.leading import LEASE
from tests.cluster.bridging import bridge, event, new_id, publish
from tests.cluster.control_plane.api import until
from tests.cluster.control_plane.handle import ROOT
from tests.cluster.forms import slow
from tests.cluster.operating import BRIDGE, QUICK, Operated, scales


@slow
async def test_a_bridge_that_dies_is_told_of_and_what_is_raised_stays_though_the_spike_was_over(
    place: Operated, log: str
) -> None:
    await place.target("workers", 2)
    process = bridge(place, log)
    await place.leads(place.start("one"))
    policy = await place.policy(actions=[scales("workers", 3)], cooldown=QUICK)
    identifier = new_id()
    await publish(log, [event(SpikeStarted, identifier)])
    path = f"{place.spikes}/{object_name(policy['metadata']['name'], identifier)}"
    await until(lambda: place.ready("workers", 6), 60)
    await place.says(f"{place.policies}/default", "SourceConnected", "Connected", 60)
    process.kill()
    silent = await place.says(f"{place.policies}/default", "SourceConnected", "BridgeSilent", 60)
    assert silent["status"] == "False"
    source = (await place.admin.get(f"{place.policies}/default"))["status"]["source"]
    assert source["lag"] == 0
    assert source["lastRecordTime"]
    await place.admin.patch(f"{path}/status", {"status": {"over": "2026-11-25T00:00:00Z"}})
    await publish(log, [event(SpikeEnded, identifier, Spike.OVER)])
    assert await place.ready("workers", 6)
    bridge(place, log, "another")
    await place.says(f"{place.policies}/default", "SourceConnected", "Connected", 60)
    await place.comes_to(path, "Restored", 60)
    assert not place.refusals()


@slow
async def test_a_log_that_dies_is_told_of_with_what_was_last_known_and_so_is_its_return(
    place: Operated, engines_home: Path
) -> None:
    broker = Kafka(Folders.under(engines_home, "dying-kafka"), *ports.draw(2))
    await asyncio.to_thread(broker.prepare, print)
    child = await _started(broker)
    try:
        await topics.create(broker.address, ROOT / "protos" / "topics")
        policy, identifier = await place.policy(mode="Observe", actions=[scales("web", 10)]), new_id()
        bridge(place, broker.address)
        await publish(broker.address, [event(SpikeStarted, identifier)])
        name = object_name(policy["metadata"]["name"], identifier)

        async def made() -> bool:
            return not await place.gone(f"{place.spikes}/{name}")

        await until(made, 60)
        where = f"{place.policies}/default"
        await place.says(where, "SourceConnected", "Connected", 60)
        lease = place.path("coordination.k8s.io/v1", "leases", "groundswell-bridge")
        before = (await place.admin.get(lease))["spec"]["renewTime"]
        await child.stop()
        away = await place.says(where, "SourceConnected", "KafkaAway", 60)
        assert (away["status"], away["message"]) == ("False", "what is raised stays raised")
        source = (await place.admin.get(where))["status"]["source"]
        assert {"lag", "lastRecordTime"} <= source.keys()

        async def heard() -> bool:
            return bool((await place.admin.get(lease))["spec"]["renewTime"] > before)

        await until(heard, 60)
        child = await _started(broker)
        await place.says(where, "SourceConnected", "Connected", 60)
    finally:
        await child.stop()


@slow
async def test_a_bridge_that_starts_before_its_log_says_so_and_reads_once_it_is_there(
    place: Operated, engines_home: Path
) -> None:
    broker = Kafka(Folders.under(engines_home, "late-kafka"), *ports.draw(2))
    await asyncio.to_thread(broker.prepare, print)
    policy, identifier = await place.policy(mode="Observe", actions=[scales("web", 10)]), new_id()
    process = bridge(place, broker.address)
    await place.says(f"{place.policies}/default", "SourceConnected", "KafkaAway", 60)
    child = await _started(broker)
    try:
        await topics.create(broker.address, ROOT / "protos" / "topics")
        await publish(broker.address, [event(SpikeStarted, identifier)])
        path = f"{place.spikes}/{object_name(policy['metadata']['name'], identifier)}"

        async def made() -> bool:
            return not await place.gone(path)

        await until(made, 60)
        await place.says(f"{place.policies}/default", "SourceConnected", "Connected", 60)
        assert process.popen.poll() is None
    finally:
        await child.stop()


async def _started(broker: Kafka) -> Child:
    child = await running.start(broker)
    assert child is not None
    return child


@slow
async def test_the_leases_of_operator_and_bridge_go_when_their_deployments_do(place: Operated, log: str) -> None:
    """As in an uninstall, under the rights that the chart gives them."""
    for name in (LEASE, HEARTBEAT):  # which is what the chart calls them, too
        await place.target(name, 1)
    leases = [place.path("coordination.k8s.io/v1", "leases", name) for name in (LEASE, HEARTBEAT)]
    operator = place.start("one", environment={"GROUNDSWELL_DEPLOYMENT": LEASE})
    words = ("groundswell_operator", "bridge")
    own = {"GROUNDSWELL_DEPLOYMENT": HEARTBEAT, "KAFKA_BOOTSTRAP_SERVERS": log}
    reader = place.start("bridge", *words, account=BRIDGE, environment=own)
    await place.leads(operator)

    async def heard() -> bool:
        return not await place.gone(leases[1])

    await until(heard, 60)
    for process in (operator, reader):
        process.kill()
    for name, lease in zip((LEASE, HEARTBEAT), leases, strict=True):
        await place.admin.delete(place.deployment(name))
        await until(functools.partial(place.gone, lease), 60)
