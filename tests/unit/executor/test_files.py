"""Workspaces out of blobs: fetched once, never shared between tenants, never larger than allowed."""

from pathlib import Path

import pytest

from raa_executor.adapters.blob_files import BlobFiles
from raa_executor.adapters.blob_values import BlobValues
from raa_runtime.blobs import LocalBlobs
from raa_runtime.errors import ClaimGone
from raa_runtime.scope import TenantScope
from raa_schemas.artifact import Artifact
from raa_schemas.ids import TenantId

pytestmark = pytest.mark.anyio
ACME, OTHER = TenantScope(TenantId("acme")), TenantScope(TenantId("other"))


async def stored(blobs: LocalBlobs, name: str, content: bytes, task: str = "t1") -> Artifact:
    return Artifact(name=name, sha256=await blobs.put(ACME, task, content), size=len(content))


async def test_a_step_reads_the_manifest_and_what_it_writes_becomes_artifacts(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs", "")
    files = BlobFiles(blobs, tmp_path / "host", 1_000_000)
    manifest = [await stored(blobs, "in.csv", b"a;b")]
    async with files.workspace(ACME, "t1", manifest) as workspace:
        assert workspace.path_of("in.csv").read_bytes() == b"a;b"
        folder = workspace.write("out/report.md", b"# hi").parent
        kept = await files.keep(ACME, "t1", workspace)
    assert [(item.name, item.size, item.media_type) for item in kept] == [("out/report.md", 4, "text/markdown")]
    assert await blobs.get(ACME, "t1", kept[0].sha256) == b"# hi"
    assert not folder.exists()


async def test_another_host_with_the_same_blobs_sees_what_the_first_wrote(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs", "")
    one, two = (BlobFiles(blobs, tmp_path / name, 1_000_000) for name in ("one", "two"))
    async with one.workspace(ACME, "t1", []) as workspace:
        workspace.write("x.md", b"from one")
        kept = await one.keep(ACME, "t1", workspace)
    async with two.workspace(ACME, "t1", kept) as workspace:
        assert workspace.path_of("x.md").read_bytes() == b"from one"


async def test_a_file_is_copied_to_this_host_once_per_task(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs", "")
    files = BlobFiles(blobs, tmp_path / "host", 1_000_000)
    manifest = [await stored(blobs, "in.csv", b"a;b")]
    async with files.workspace(ACME, "t1", manifest) as workspace:
        first = workspace.path_of("in.csv").stat().st_ino
    await blobs.delete_task(ACME, "t1")
    async with files.workspace(ACME, "t1", manifest) as workspace:
        assert workspace.path_of("in.csv").stat().st_ino == first


async def test_a_restarted_process_uses_what_the_last_one_fetched(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs", "")
    manifest = [await stored(blobs, "in.csv", b"a;b")]
    async with BlobFiles(blobs, tmp_path / "host", 1_000_000).workspace(ACME, "t1", manifest):
        pass
    await blobs.delete_task(ACME, "t1")
    async with BlobFiles(blobs, tmp_path / "host", 1_000_000).workspace(ACME, "t1", manifest) as workspace:
        assert workspace.path_of("in.csv").read_bytes() == b"a;b"


async def test_knowing_a_hash_opens_no_other_tenants_file(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs", "")
    files = BlobFiles(blobs, tmp_path / "host", 1_000_000)
    manifest = [await stored(blobs, "in.csv", b"secret")]
    async with files.workspace(ACME, "t1", manifest):
        pass
    for scope, task in ((OTHER, "t1"), (ACME, "t2")):
        with pytest.raises(ClaimGone):
            async with files.workspace(scope, task, manifest):
                pass


async def test_the_oldest_unused_copies_go_first_and_those_in_use_stay(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs", "")
    files = BlobFiles(blobs, tmp_path / "host", 250)
    one, two, three = [await stored(blobs, f"{n}.bin", bytes([n]) * 100, f"t{n}") for n in (1, 2, 3)]
    async with files.workspace(ACME, "t1", [one]) as used:
        async with files.workspace(ACME, "t2", [two]):
            pass
        async with files.workspace(ACME, "t3", [three]):
            pass
        assert used.path_of("1.bin").is_file()
        kept = {path.name for path in (tmp_path / "host" / "files").rglob("*") if path.is_file()}
        assert kept == {one.sha256, three.sha256}


async def test_a_tool_cannot_change_a_file_that_later_steps_read(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "blobs", "")
    files = BlobFiles(blobs, tmp_path / "host", 1_000_000)
    async with files.workspace(ACME, "t1", [await stored(blobs, "in.csv", b"a;b")]) as workspace:
        assert workspace.path_of("in.csv").stat().st_mode & 0o222 == 0
        workspace.write("in.csv", b"new")
        assert workspace.path_of("in.csv").read_bytes() == b"new"
    async with files.workspace(ACME, "t1", [await stored(blobs, "in.csv", b"a;b")]) as workspace:
        assert workspace.path_of("in.csv").read_bytes() == b"a;b"


async def test_values_come_back_as_they_were_and_a_reference_to_nothing_is_gone(tmp_path: Path):
    values = BlobValues(LocalBlobs(tmp_path, ""))
    value = {"rows": [{"mean": 1.5, "name": "ü", "none": None}]}
    reference = await values.put(ACME, "t1", value)
    assert reference.startswith("blob:sha256/")
    assert await values.get(ACME, "t1", reference) == value
    for wrong in (reference[:-1] + ("0" if reference[-1] != "0" else "1"), "file:/etc/passwd"):
        with pytest.raises(ClaimGone):
            await values.get(ACME, "t1", wrong)
