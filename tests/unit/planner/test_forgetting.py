"""The files of a task go with the last memory of it."""

from pathlib import Path

import pytest

from raa_planner.app import _delete_blobs, build
from raa_planner.domain.task import TASK
from raa_planner.settings import PlannerSettings
from raa_runtime.blobs import LocalBlobs
from raa_runtime.errors import ClaimGone, Misconfigured
from raa_runtime.platform import open_platform
from raa_runtime.scope import TenantScope
from raa_schemas.ids import TenantId

pytestmark = pytest.mark.anyio
ACME = TenantScope(TenantId("acme"))


async def test_the_files_of_a_forgotten_task_are_deleted_and_no_others(tmp_path: Path):
    blobs = LocalBlobs(tmp_path, "")
    gone, kept = await blobs.put(ACME, "t1", b"one"), await blobs.put(ACME, "t2", b"two")
    await _delete_blobs(blobs, TASK, "acme/t1")
    with pytest.raises(ClaimGone):
        await blobs.get(ACME, "t1", gone)
    assert await blobs.get(ACME, "t2", kept) == b"two"


async def test_files_that_would_go_before_the_records_that_cite_them_are_refused(tmp_path: Path):
    settings = PlannerSettings(data=tmp_path, blob_seconds=86_400)
    async with open_platform(settings) as platform:
        with pytest.raises(Misconfigured, match="RAA_BLOB_SECONDS"):
            build(settings, platform)


async def test_a_planner_remembers_a_task_for_as_long_as_its_files(tmp_path: Path):
    settings = PlannerSettings(data=tmp_path)
    async with open_platform(settings) as platform:
        service = build(settings, platform)
        assert service._dispatcher.work.remember_seconds == settings.blob_seconds
        await service.drain()
