"""A policy, an event and what there is to scale, from files: in the words of the saga, as if an API server had taken them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format

from groundswell_operator.applying import reading, scalers
from groundswell_operator.bridge import records
from groundswell_operator.policies import APPS, DEPLOYMENT, STATEFUL_SET, Object, Policy, Target
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Autoscaler, ConfigMap, Governing, Scaled, Spike

OWN = {"namespace": "default", "uid": "", "resourceVersion": "1", "generation": 1}
"""What an API server gives an object."""


class Unreadable(Exception):
    """A file is not what it has to be; the message says which and why."""


def policy(file: Path) -> Object:
    """The policy in a file, with what it leaves out filled in as the API server would; raises `Unreadable`."""
    found = [each for each in _documents(file) if each.get("kind") == "ViralSpikePolicy"]
    if len(found) != 1:
        raise Unreadable(f"{file} holds {len(found)} policies; it must hold one ViralSpikePolicy")
    value: Object = defaulted(_schema(), {**found[0], "metadata": OWN | found[0].get("metadata", {})})
    try:
        Policy.of(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{file} is no policy that an API server takes ({error!r}): see what kubectl apply --dry-run=server says"
        raise Unreadable(said) from error
    return value


def spike(file: Path, owner: Object) -> Spike:
    """The spike that an event in protobuf's JSON tells of, as the bridge would make it; raises `Unreadable`."""
    kind = records.STARTED
    try:
        message = json_format.Parse(file.read_text(), kind(), ignore_unknown_fields=True)
        headers = {records.TYPE: kind.DESCRIPTOR.full_name.encode()}
        seen = records.sighting(headers, message.SerializeToString(), 0, 0, 0.0)
    except (OSError, UnicodeDecodeError, json_format.ParseError, records.Malformed) as error:
        raise Unreadable(f"{file} is no event of spikes: {error}") from error
    if seen is None or seen.level is None:
        raise Unreadable(f"{file} tells of a suspicion only, which is not acted upon")
    name = records.object_name(owner["metadata"]["name"], seen.id)
    made = records.manifest(name, owner, seen, seen.level)
    detected = made["spec"]["detectedAt"]
    metadata = OWN | made["metadata"] | {"creationTimestamp": detected}
    return reading.spike({**made, "metadata": metadata})


def state(owner: Object, found: Spike, objects: Sequence[Path], replicas: int) -> Namespace:
    """What the event would meet: of targets that no file has, so many replicas without an autoscaler."""
    governing = dataclasses.replace(reading.governing(owner), approved=frozenset({found.name}))
    values = [each for file in objects for each in _documents(file)]
    governed = scalers.by_target(
        *([_served(each) for each in values if each.get("kind") == kind] for kind in scalers.KINDS)
    )
    targets = {each.target: each for value in values if (each := _target(value, governed)) is not None}
    for scale in governing.policy.scales:
        targets.setdefault(scale.target, Scaled(scale.target, "1", replicas, replicas))
    config_maps = {each.name: each for each in _config_maps(governing, values)}
    return Namespace({governing.policy.name: governing}, {found.name: found}, targets, config_maps)


def defaulted(schema: Object, value: Any) -> Any:
    """A value with the defaults of an OpenAPI schema, as the API server fills them in: from the outside inwards."""
    if isinstance(value, Mapping) and "properties" in schema:
        known: Object = schema["properties"]
        defaults = {name: each["default"] for name, each in known.items() if "default" in each and name not in value}
        given = {**value, **defaults}
        return {name: defaulted(known.get(name, {}), each) for name, each in given.items()}
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), each) for each in value]
    return value


def _schema() -> Object:
    text = resources.files("groundswell_operator").joinpath("crds/viralspikepolicies.yaml").read_text()
    found: Object = yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def _documents(file: Path) -> Iterator[Object]:
    """The objects in a file of YAML or JSON; those of a List each by itself. Raises `Unreadable`."""
    try:
        found = list(yaml.safe_load_all(file.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Unreadable(f"{file} cannot be read: {error}") from error
    for each in found:
        if isinstance(each, Mapping):
            yield from each["items"] if each.get("kind", "").endswith("List") else [each]


def _served(value: Object) -> Object:
    return {**value, "metadata": OWN | value["metadata"]}


def _target(value: Object, governed: Mapping[Target, Autoscaler]) -> Scaled | None:
    """A target, all of its pods ready; its autoscaler wants what is there, where it does not say what it wants."""
    if value.get("kind") not in (DEPLOYMENT, STATEFUL_SET):
        return None
    scaler = governed.get(Target(APPS, value["kind"], value["metadata"]["name"]))
    found = reading.scaled(_served(value), value["kind"], scaler)
    if scaler is not None:
        found = dataclasses.replace(found, replicas=max(found.replicas, scaler.floor))
        wants = found.replicas if scaler.wants is None else scaler.wants
        found = dataclasses.replace(found, autoscaler=dataclasses.replace(scaler, wants=wants))
    return dataclasses.replace(found, ready=found.replicas)


def _config_maps(governing: Governing, values: Sequence[Object]) -> Iterator[ConfigMap]:
    """Those that the policy names; one that no file has is taken to be empty."""
    found = {each["metadata"]["name"]: each for each in values if each.get("kind") == "ConfigMap"}
    for patch in governing.policy.patches:
        value = found.get(patch.config_map)
        yield reading.config_map(_served(value)) if value else ConfigMap(patch.config_map, "1", {})
