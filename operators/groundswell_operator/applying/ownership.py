"""Who wrote a field last, as the API server keeps it."""

from __future__ import annotations

from groundswell_operator.policies import Object

MANAGER = "groundswell-spike"
"""Field manager of everything that the operator writes."""


def owners(metadata: Object, name: str) -> set[str]:
    """The managers of a field of the spec."""
    return {
        each["manager"]
        for each in metadata.get("managedFields", ())
        if name in each.get("fieldsV1", {}).get("f:spec", {}) and each.get("manager")
    }
