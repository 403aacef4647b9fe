"""The chart on a real API server with Helm itself: whole releases, in a namespace that admits restricted pods only."""

import asyncio

from tests.cluster.chart import FOLDER
from tests.cluster.control_plane.api import Api
from tests.cluster.control_plane.handle import ControlPlane

LIMIT = ("--wait", "--wait-for-jobs", "--timeout", "120s")


async def test_a_release_is_installed_upgraded_tested_and_uninstalled_and_leaves_its_keys_and_volumes(
    control_plane: ControlPlane, namespace: str, admin: Api
) -> None:
    """Goal: nothing is refused, by a schema or by Pod Security, and every pod finds a node. What the pods run is another test's matter."""

    async def helm(*command: str) -> None:
        await asyncio.to_thread(control_plane.helm, *command, "--namespace", namespace)

    async def keys() -> dict[str, str]:
        secret = await admin.get(f"/api/v1/namespaces/{namespace}/secrets/groundswell-keys")
        return dict(secret["data"])

    await helm("install", "groundswell", str(FOLDER), *LIMIT)
    first = await keys()
    await helm("upgrade", "groundswell", str(FOLDER), "--set", "public.port=9000", *LIMIT)
    assert await keys() == first
    data = (await admin.get(f"/api/v1/namespaces/{namespace}/configmaps/groundswell-config"))["data"]
    assert data["LINKS_PUBLIC_PORT"] == "9000"
    assert not await admin.items(f"/apis/batch/v1/namespaces/{namespace}/jobs"), "the hook has ended and is gone"
    await helm("test", "groundswell", "--timeout", "60s")
    await helm("uninstall", "groundswell", "--wait", "--timeout", "120s")
    assert await keys() == first
    claims = await admin.items(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
    kept = {each["metadata"]["name"].removeprefix("data-groundswell-").rpartition("-")[0] for each in claims}
    assert kept == {"gateway", "analytics", "kafka", "postgres", "clickhouse"}
    await helm("install", "groundswell", str(FOLDER), *LIMIT)
    assert await keys() == first, "an install of the same name takes them up again"
