"""Writes that meet another version than that which they were decided on, at a server on loopback (`serving`)."""

from __future__ import annotations

from typing import Any

import pytest

from groundswell_operator.applying import reading
from groundswell_operator.applying.errors import Conflict
from groundswell_operator.applying.writing import Cluster
from groundswell_operator.planning.raising import SetScale
from groundswell_operator.policies import DEPLOYMENT
from groundswell_operator.saga.namespace import Namespace
from groundswell_operator.saga.state import Scaled
from groundswell_operator.saga.steps import Write
from tests.operators.serving import Answer, Asked, answering


class Deployment:
    """One that is changed behind the back of who writes its scale."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {
            "metadata": {"name": "web", "resourceVersion": "1"},
            "spec": {"replicas": 3},
            "status": {"replicas": 3, "readyReplicas": 1},
        }

    def scaled(self) -> Scaled:
        return reading.scaled(self.value, DEPLOYMENT, None)

    def change(self, part: str, **changes: int) -> None:
        """As somebody else does."""
        version = int(self.value["metadata"]["resourceVersion"]) + 1
        metadata = {**self.value["metadata"], "resourceVersion": str(version)}
        self.value = {**self.value, "metadata": metadata, part: {**self.value[part], **changes}}

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            return 200, self.value
        if asked.value["metadata"]["resourceVersion"] != self.value["metadata"]["resourceVersion"]:
            return 409, {"message": "the object has been modified"}
        self.change("spec", **asked.value["spec"])
        return 200, {}


async def test_a_scale_is_written_at_once_to_a_target_of_which_only_the_pods_have_changed() -> None:
    """As they do all the time while it comes up; another look at everything would take a tenth of a second."""
    web = Deployment()
    async with answering(web.answer) as (server, requests):
        decided_on = web.scaled()
        web.change("status", readyReplicas=2)
        state = Namespace({}, {}, {decided_on.target: decided_on})
        found = await Cluster(requests, "here").perform(Write(decided_on, SetScale(30)), state, 0.0)
    assert web.value["spec"]["replicas"] == found.targets[decided_on.target].replicas == 30
    assert len(server.written()) == 2


async def test_a_scale_that_somebody_else_has_set_meanwhile_is_not_overwritten_unseen() -> None:
    web = Deployment()
    async with answering(web.answer) as (server, requests):
        decided_on = web.scaled()
        web.change("spec", replicas=7)
        state = Namespace({}, {}, {decided_on.target: decided_on})
        with pytest.raises(Conflict):
            await Cluster(requests, "here").perform(Write(decided_on, SetScale(30)), state, 0.0)
    assert web.value["spec"]["replicas"] == 7
    assert len(server.written()) == 1
