"""The document against the door: Schemathesis sends what it permits and what it forbids, and watches every answer."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from groundswell.gateway.http.openapi import document
from groundswell.gateway.http.routes import RouteTable
from groundswell.gateway.module import SERVICES
from tests.gateway.door import SECRET, Door

EXAMPLES = 25
SEED = 20260101


@pytest.mark.promise("GATEWAY-2")
def test_the_document_of_the_platform_is_valid_openapi_3_1_and_lists_every_route() -> None:
    """GATEWAY-2. One document from the descriptors: valid, with an operation for each route and nothing else."""
    table = RouteTable(SERVICES)
    made = json.loads(document(table))
    validate(made)
    operations = [(path, verb) for path, item in made["paths"].items() for verb in item]
    assert len(operations) == len(table.routes)
    assert made["paths"]["/v1/links"]["post"]["security"] == [{"bearer": []}, {"apiKey": []}]
    assert made["components"]["schemas"]["links.v1.Link"]["required"] == ["destination"]


UNNAMED = {
    "groundswell.api.analytics.v1.AnalyticsService.RunQuery": "reads, with its question in the body",
    "groundswell.api.identity.v1.ApiKeyService.CreateApiKey": "answers with a secret, which may not be kept for a repeat",
}
"""Methods that take more than `GET`, and no request id; the reason for each."""


@pytest.mark.promise("GATEWAY-11")
def test_whatever_changes_something_may_be_asked_again_under_a_request_id() -> None:
    """GATEWAY-11. Every route but those of `GET` has the field that `Idempotency-Key` fills, as text, or its reason."""
    changing = {
        route.method.full_name: route.method.input_type.fields_by_name.get("request_id")
        for route in RouteTable(SERVICES).routes
        if not route.read_only
    }
    assert {name for name, field in changing.items() if field is None} == set(UNNAMED)
    assert all(field is None or field.type == field.TYPE_STRING for field in changing.values())


@pytest.mark.promise("GATEWAY-2")
async def test_the_document_that_is_served_is_the_one_of_the_running_routes(door: Door) -> None:
    """GATEWAY-2. What /openapi.json lists is there; what it lacks is not."""
    answer = await door.client.get("/openapi.json")
    assert answer.status_code == 200
    made = answer.json()
    validate(made)
    assert "/v1/secrets" not in made["paths"], "an internal method must have no route"
    assert (await door.get("/v1/secrets")).status_code == 404
    assert (await door.get("/v1/shelves")).status_code == 404
    ids = [
        operation["operationId"]
        for item in made["paths"].values()
        for verb, operation in item.items()
        if verb[1] != "-"
    ]
    assert len(set(ids)) == len(ids)
    assert "LibraryService_GetBook" in ids


@pytest.mark.promise("GATEWAY-2")
async def test_schemathesis_finds_no_answer_that_the_document_does_not_describe(door: Door, tmp_path: Path) -> None:
    """GATEWAY-2. All checks of Schemathesis, over valid and invalid requests drawn from the document by a fixed seed."""
    import asyncio

    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{door.url}/openapi.json",
        "--checks=all",
        f"--max-examples={EXAMPLES}",
        f"--seed={SEED}",
        "--phases=examples,coverage,fuzzing",
        "--workers=1",
        "--no-color",
        "--exclude-path=/v1/books:watch",  # a stream has no end to wait for; its tests are in test_streams
        f"--header=Authorization: Bearer {SECRET}",
    ]
    run = await asyncio.to_thread(
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "160"},
    )
    assert run.returncode == 0, re.sub(r"\n{3,}", "\n\n", run.stdout)[-12_000:]
