"""Answers the requests that operator and bridge make of an API server: their own kinds from the book, targets from the supervisor.

A target is the process of its name, with or without the name of a release before it, and whatever its kind: so the policy of a cluster is
understood as it stands. Who wrote a number of replicas last is kept by the supervisor, as field managers are by an API server, and every
write names the version that it was decided on. There are no autoscalers, ConfigMaps, Secrets, pods or nodes here.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from groundswell_operator.applying.errors import Conflict, Refused
from groundswell_operator.applying.reading import Paths
from groundswell_operator.applying.statuses import moment
from groundswell_operator.laptop import policies
from groundswell_operator.laptop.book import Book
from groundswell_operator.laptop.supervisor import Process, Supervisor
from groundswell_operator.policies import Level, Object
from groundswell_operator.rehearsing import files

log = logging.getLogger(__name__)

NAMESPACE = "laptop"
TOLD_MAX = 10_000
"""Events that are remembered, so that one is told once."""


class Local:
    """One home in the place of a namespace."""

    def __init__(self, supervisor: Supervisor, book: Book, sources: Sequence[Path], release: str) -> None:
        """`sources` are the files of the policies, looked at again whenever policies are asked for; raises `files.Unreadable`."""
        self._supervisor, self._book, self._release = supervisor, book, release
        self._paths = Paths(NAMESPACE)
        self._sources = {file: policies.read(file) for file in sources}
        self._seen = {file: _stamp(file) for file in sources}
        self._told: dict[str, None] = {}
        self._heartbeat: Object | None = None
        self.changed: Callable[[], None] = lambda: None
        """Called when something has changed that may call for a pass."""

    async def get(self, path: str, **_: str) -> Object:
        paths = self._paths
        if path == paths.policies:
            found = await self._governing()
        elif path == paths.spikes:
            found = list(self._book.spikes.values())
        elif path in (paths.deployments, paths.stateful_sets):
            processes = _named(await self._supervisor.processes(), self._release)
            found = [_target(name, process) for name, process in processes.items()]
        elif path in (paths.autoscalers, paths.pods, paths.events):
            found = []
        else:
            return await self._one(path)
        return {"items": found, "metadata": {}}

    async def create(self, path: str, value: Object) -> Object:
        name = value["metadata"]["name"]
        if path == self._paths.events:
            return self._tell(name, value)
        if path != self._paths.spikes:
            raise Refused(404, f"nothing is made at {path}")
        if name in self._book.spikes:
            raise Conflict(f"{name} is there already")
        own = {
            "namespace": NAMESPACE,
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": moment(time.time()),
        }
        return self._kept(name, {**value, "metadata": {**value["metadata"], **own}})

    async def merge(self, path: str, value: Object, manager: str) -> Object:
        if path.endswith("/scale"):
            return await self._scale(path.removesuffix("/scale"), value, manager)
        subject = path.removesuffix("/status")
        before = await self._one(subject)
        _require_version(before, value["metadata"].get("resourceVersion") if "metadata" in value else None)
        levels = [each.get("status", {}).get("level") for each in (before, value)]
        if None not in levels and Level[levels[1]] < Level[levels[0]]:
            raise Refused(422, "level never falls")
        after = merged(before, value)
        if subject.startswith(f"{self._paths.policies}/"):
            return self._noted(after)
        return self._kept(after["metadata"]["name"], after)

    async def apply(self, path: str, value: Object, manager: str) -> Object:
        """Of the Lease by which the bridge says that it looks, and of a policy's status, whose conditions are told apart by their types."""
        if path == self._paths.heartbeat:
            self._heartbeat = value
            return value
        before = await self._one(path.removesuffix("/status"))
        status, told = before.get("status", {}), value["status"]
        conditions = {each["type"]: each for each in (*status.get("conditions", ()), *told.get("conditions", ()))}
        after = {**before, "status": {**status, **told, "conditions": list(conditions.values())}}
        return self._noted(after)

    async def delete(self, path: str, version: str) -> None:
        found = await self._one(path)
        _require_version(found, version)
        self._end(found)

    def require_lead(self) -> None:
        """Whoever holds the lock of the home leads."""

    def now_s(self) -> float:
        return time.time()

    def end_all(self) -> None:
        """Every spike is to be given back."""
        for each in tuple(self._book.spikes.values()):
            self._end(each)

    @property
    def spikes(self) -> Mapping[str, Object]:
        """Those that are kept, by name."""
        return self._book.spikes

    def _end(self, spike: Object) -> None:
        """As an API server deletes: what somebody holds stays until it is let go."""
        metadata = spike["metadata"]
        if not metadata.get("finalizers"):
            self._book.drop_spike(metadata["name"])
        elif "deletionTimestamp" not in metadata:
            self._kept(metadata["name"], {**spike, "metadata": {**metadata, "deletionTimestamp": moment(time.time())}})
        self.changed()

    def _kept(self, name: str, value: Object) -> Object:
        metadata = value["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            self._book.drop_spike(name)
            return value
        made = self._book.put_spike(name, value)
        self.changed()
        return made

    async def _one(self, path: str) -> Object:
        collection, _, name = path.rpartition("/")
        found: Object | None = None
        if path == self._paths.heartbeat:
            found = self._heartbeat
        elif collection == self._paths.spikes:
            found = self._book.spikes.get(name)
        elif collection == self._paths.policies:
            found = next((each for each in await self._governing() if each["metadata"]["name"] == name), None)
        elif collection in (self._paths.deployments, self._paths.stateful_sets):
            process = _named(await self._supervisor.processes(), self._release).get(name)
            found = _target(name, process) if process else None
        if found is None:
            raise Refused(404, f"{name} is not there, or of a kind that a laptop does not have")
        return found

    async def _scale(self, path: str, value: Object, manager: str) -> Object:
        name = path.rpartition("/")[2]
        process = _named(await self._supervisor.processes(), self._release).get(name)
        if process is None:
            raise Refused(404, f"no process is called {name}")
        version = int(value["metadata"]["resourceVersion"])
        await self._supervisor.scale(process.name, value["spec"]["replicas"], manager, version)
        return {}

    async def _governing(self) -> Sequence[Object]:
        """The policies as their files say now, within what the supervisor lets a process have; raises what it does."""
        processes = _named(await self._supervisor.processes(), self._release)
        self._look()
        said = {each["metadata"]["name"]: each for each in self._sources.values()}
        for name in self._book.policies.keys() - said.keys():
            self._book.drop_policy(name)
        for spike in tuple(self._book.spikes.values()):
            if not _owners(spike) & said.keys() and "deletionTimestamp" not in spike["metadata"]:
                self._end(spike)
        most = {name: process.most for name, process in processes.items()}
        return [policies.bounded(self._known(name, each), most) for name, each in said.items()]

    def _look(self) -> None:
        """Reads the files that have changed; a policy that cannot be read any more stays as it was."""
        for file, seen in self._seen.items():
            if (stamp := _stamp(file)) == seen:
                continue
            self._seen[file] = stamp
            try:
                self._sources[file] = policies.read(file)
            except files.Unreadable as error:
                log.warning("the policy stays as it was: %s", error)

    def _known(self, name: str, said: Object) -> Object:
        """A policy with what is kept of it; what its file says anew is its next generation."""
        kept = self._book.policies.get(name)
        if kept is None or kept["spec"] != said["spec"]:
            metadata = {
                "uid": kept["metadata"]["uid"] if kept else str(uuid.uuid4()),
                "generation": kept["metadata"]["generation"] + 1 if kept else 1,
            }
            value = {"metadata": metadata, "spec": said["spec"], "status": kept.get("status", {}) if kept else {}}
            kept = self._book.put_policy(name, value)
        return {**said, "metadata": {**said["metadata"], **kept["metadata"]}, "status": kept.get("status", {})}

    def _noted(self, policy: Object) -> Object:
        """The policy with its new status; what is kept besides is the spec of its file, unbounded."""
        name, metadata = policy["metadata"]["name"], policy["metadata"]
        own = {key: metadata[key] for key in ("uid", "generation")}
        kept = {"metadata": own, "spec": self._book.policies[name]["spec"], "status": policy["status"]}
        made = self._book.put_policy(name, kept)
        return {**policy, "metadata": {**metadata, **made["metadata"]}}

    def _tell(self, name: str, event: Object) -> Object:
        if name in self._told:
            raise Conflict(f"{name} was told")
        self._told[name] = None
        if len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]
        about = event["involvedObject"]
        level = logging.WARNING if event["type"] == "Warning" else logging.INFO
        log.log(level, "%s: %s (%s)", about["name"], event["message"], event["reason"])
        return event


def merged(value: object, patch: object) -> Object:
    """RFC 7386: members are merged, null takes one away, everything else replaces."""
    assert isinstance(patch, Mapping)
    found: dict[str, object] = dict(value) if isinstance(value, Mapping) else {}
    for name, each in patch.items():
        if each is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), each) if isinstance(each, Mapping) else each
    return found


def _require_version(found: Object, version: str | None) -> None:
    if version is not None and version != found["metadata"]["resourceVersion"]:
        raise Conflict(f"{found['metadata'].get('name')} is not what was read")


def _named(processes: Sequence[Process], release: str) -> dict[str, Process]:
    """The names under which a policy may speak of each process."""
    return {name: each for each in processes for name in (each.name, f"{release}-{each.name}")}


def _target(name: str, process: Process) -> Object:
    """A process as a Deployment would show it."""
    fields: Object = {"f:spec": {"f:replicas": {}}}
    return {
        "metadata": {
            "name": name,
            "uid": process.name,
            "resourceVersion": str(process.version),
            "managedFields": [{"manager": process.by, "fieldsV1": fields}] if process.by else [],
        },
        "spec": {"replicas": process.desired},
        "status": {"replicas": process.desired, "readyReplicas": process.ready},
    }


def _owners(spike: Object) -> set[str]:
    return {each["name"] for each in spike["metadata"].get("ownerReferences", ())}


def _stamp(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
