"""What one home runs: its engines, its processes, and the environment that tells the processes about each other.

An engine whose variable the user has set is somebody else's business: it is neither started nor shown, and its address goes to
the processes as it is.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from aiokafka.errors import KafkaError

from groundswell.engines import topics
from groundswell.engines.children import Launch
from groundswell.engines.engine import Engine, Folders, Say, checked_address, given
from groundswell.engines.errors import EngineError
from groundswell.engines.folders import ClickHouse, Objects
from groundswell.engines.home import FIRST_SLUG, Home, bootstrap_keys
from groundswell.engines.kafka import Kafka
from groundswell.engines.postgres import Postgres
from groundswell.engines.state import ProcessState
from groundswell.engines.topology import Topology
from groundswell.engines.valkey import Valkey

READY_S_MAX = 1.0

Kept = tuple[ProcessState, Callable[[Mapping[str, str]], Launch | None], Callable[[], Awaitable[bool]]]
"""What a keeper wants to know of what it keeps."""


class Platform:
    """One home with one topology."""

    def __init__(self, home: Home, topology: Topology, port: int | None, environment: Mapping[str, str]) -> None:
        """Settles all addresses; `environment` may replace engines. Raises `SupervisorError` when the public port is in use or an address
        is none."""
        self.topology = topology
        self._home = home
        self._environment = environment
        gateway_port = home.settle_gateway_port(port)
        self._replicas = {process: _names(process, topology.bound_of(process).most) for process in topology.processes}
        names = [f"{name} {use}" for each in self._replicas.values() for name in each for use in ("rpc", "ops")]
        self._ports = home.settle_ports([*names, "kafka", "kafka controller", "valkey", "valkey bus", "postgres"])
        self._door = f"127.0.0.1:{gateway_port}"
        self.url = self.url_with({})
        made = [self._engine(name) for name in topology.engines]
        self._engines = [each for each in made if not given(environment, each)]
        self.given = {
            each.variable: checked_address(each.variable, environment[each.variable])
            for each in made
            if given(environment, each)
        }
        """Addresses of engines that are the user's own, by variable."""

    def url_with(self, settings: Mapping[str, str]) -> str:
        """Where visitors come in when the door's process has these settings."""
        return f"http://{settings.get('GATEWAY_ADDRESS') or self._door}"

    def engines(self) -> list[Kept]:
        """The engines to keep."""
        return [self._kept_engine(each) for each in self._engines]

    def processes(self) -> dict[str, list[Kept]]:
        """The processes to keep, in the topology's order, each with all the replicas that there may be of it."""
        return {
            process: [self._kept_process(process, each) for each in names] for process, names in self._replicas.items()
        }

    def prepare(self, say: Say) -> None:
        """Prepares every engine; blocks."""
        for each in self._engines:
            each.prepare(say)

    async def create_topics(self) -> list[str]:
        """Creates the topics that are missing; returns their names. Raises `EngineError` when the broker does not do it."""
        if self.topology.topics is None:
            return []
        address = self._addresses()[Kafka.variable]
        try:
            return await topics.create(address, self.topology.topics)
        except KafkaError as error:
            raise EngineError(
                f"Kafka at {address} does not do what it is asked ({type(error).__name__}). Look after it, and at {Kafka.variable}."
            ) from error

    def _engine(self, name: str) -> Engine:
        folders, port = Folders.under(self._home.path, name), self._ports.get(name, 0)
        match name:
            case "kafka":
                return Kafka(folders, port, self._ports["kafka controller"])
            case "valkey":
                return Valkey(folders, port, self._ports["valkey bus"])
            case "postgres":
                return Postgres(folders, port)
            case "clickhouse":
                return ClickHouse(folders)
            case "objects":
                return Objects(folders)
        raise ValueError(f"there is no engine {name!r}")

    def _kept_engine(self, engine: Engine) -> Kept:
        folders = Folders.under(self._home.path, engine.name)
        # PostgreSQL's address holds a password, which there may not be yet.
        is_secret = engine.name == Postgres.name
        addresses = {"sql": f"127.0.0.1:{self._ports[engine.name]}"} if is_secret else {engine.variable: engine.address}
        described = _described(engine.name, "engine", folders, addresses=addresses)

        def launch(settings: Mapping[str, str]) -> Launch | None:
            made = engine.launch()
            return replace(made, environment={**made.environment, **settings}) if made else None

        return described, launch, engine.healthy

    def _kept_process(self, process: str, name: str) -> Kept:
        """The replica `name` of a process; the first one has the name of its process."""
        folders = Folders(self._home.path / "data" / name, self._home.logs / f"{name}.log")
        modules = tuple(self.topology.processes[process])
        rpc, ops = self._address(name, "rpc"), self._address(name, "ops")
        addresses = {"rpc": rpc, "ops": ops} | ({"http": self._door} if self.topology.door in modules else {})

        def launch(settings: Mapping[str, str]) -> Launch:
            folders.data.mkdir(parents=True, exist_ok=True)
            own = {"GROUNDSWELL_PROCESS": process, "GROUNDSWELL_INSTANCE": name, "GROUNDSWELL_DATA": str(folders.data)}
            own |= {"GROUNDSWELL_RPC_ADDRESS": rpc, "GROUNDSWELL_OPS_ADDRESS": ops}
            own |= {"GROUNDSWELL_LEFT": ",".join(self._left())} if name == self.topology.sender else {}
            own = self._shared() | own
            added = {key: value for key, value in settings.items() if value or key not in own}  # empty is the default
            return Launch(
                [*self.topology.command, *modules],
                folders.log,
                Path.cwd(),
                own | added,
                niceness=self.topology.niceness_of(process),
            )

        async def ready() -> bool:
            return await answers_ready(ops)

        return _described(name, "process", folders, modules=modules, addresses=addresses), launch, ready

    def _left(self) -> list[str]:
        """Folders of data with a journal that no process of this topology holds: another topology, or another version, left them."""
        held = {
            name for process, names in self._replicas.items() if self.topology.keeps_journal(process) for name in names
        }
        found = {segment.parents[1].name for segment in (self._home.path / "data").glob("*/journal/*.log")}
        return sorted(found - held)

    def _address(self, name: str, use: str) -> str:
        return f"127.0.0.1:{self._ports[f'{name} {use}']}"

    def _addresses_of(self, process: str) -> str:
        """Where all of its replicas listen or will, in the words of `GROUNDSWELL_ENDPOINTS`."""
        return " ".join(self._address(name, "rpc") for name in self._replicas[process])

    def _addresses(self) -> dict[str, str]:
        return {each.variable: each.address for each in self._engines} | self.given

    def _shared(self) -> dict[str, str]:
        """What every process is told."""
        keys = self._home.secrets()
        endpoints = {
            module: self._addresses_of(process)
            for process, modules in self.topology.processes.items()
            for module in modules
        }
        return {
            **self._addresses(),
            "GROUNDSWELL_ENDPOINTS": ",".join(f"{module}={addresses}" for module, addresses in endpoints.items()),
            "GROUNDSWELL_INTERNAL_KEY": keys["internal_key"],
            "GROUNDSWELL_STATE_FILE": str(self._home.state_file),
            "GATEWAY_ADDRESS": self._door,
            "IDENTITY_BOOTSTRAP_KEYS": bootstrap_keys(keys),
            "TENANCY_FIRST_SLUG": FIRST_SLUG,
        }


def _names(process: str, replicas_max: int) -> list[str]:
    """links, links-2, links-3."""
    return [process, *(f"{process}-{number}" for number in range(2, replicas_max + 1))]


async def answers_ready(ops_address: str) -> bool:
    """Whether the process that serves its operations port there says that it may take work."""
    host, _, port = ops_address.rpartition(":")
    try:
        async with asyncio.timeout(READY_S_MAX):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]


def _described(
    name: str,
    kind: Literal["engine", "process"],
    folders: Folders,
    *,
    addresses: dict[str, str],
    modules: Sequence[str] = (),
) -> ProcessState:
    return ProcessState(
        name=name,
        kind=kind,
        state="stopped",
        since=time.time(),
        pid=None,
        started=None,
        restarts=0,
        log=str(folders.log),
        data=str(folders.data),
        modules=modules,
        addresses=addresses,
    )
