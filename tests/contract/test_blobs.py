"""What every blob store promises, in a folder and on S3."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from raa_runtime.blobs import BlobStore, LocalBlobs, open_blobs
from raa_runtime.errors import ClaimGone, DependencyUnavailable, Misconfigured, PermanentError
from raa_runtime.scope import TenantScope
from raa_schemas.ids import TenantId
from tests.backends.process import free_port
from tests.backends.s3 import ACCESS_KEY, BUCKET

pytestmark = pytest.mark.anyio
ACME, OTHER = TenantScope(TenantId("acme")), TenantScope(TenantId("other"))
NEVER = hashlib.sha256(b"never stored").hexdigest()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ACCESS_KEY)


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, credentials: None) -> str:
    if request.param == "file":
        return f"file:{tmp_path / 'blobs'}"
    return f"s3://{BUCKET}/some/prefix?endpoint={request.getfixturevalue('s3')}&region=eu-west-1"


@pytest.fixture
def blobs(url: str, deployment: str) -> BlobStore:
    return open_blobs(url, deployment)


async def test_bytes_come_back_by_their_hash(blobs: BlobStore):
    for data in (b"", b"x", os.urandom(100_000)):
        sha256 = await blobs.put(ACME, "t1", data)
        assert sha256 == hashlib.sha256(data).hexdigest()
        assert await blobs.put(ACME, "t1", data) == sha256
        assert await blobs.exists(ACME, "t1", sha256)
        assert await blobs.get(ACME, "t1", sha256) == data


async def test_a_file_of_several_parts_goes_in_and_out_whole(blobs: BlobStore, tmp_path: Path):
    source, target = tmp_path / "in", tmp_path / "deep" / "out"
    source.write_bytes(os.urandom(1 << 20) * 12 + b"end")
    sha256, size = await blobs.put_file(ACME, "t1", source)
    assert (sha256, size) == (hashlib.sha256(source.read_bytes()).hexdigest(), (12 << 20) + 3)
    await blobs.fetch_to(ACME, "t1", sha256, target)
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["out"]


async def test_head_gives_the_first_bytes(blobs: BlobStore):
    sha256 = await blobs.put(ACME, "t1", b"0123456789")
    empty = await blobs.put(ACME, "t1", b"")
    assert await blobs.head(ACME, "t1", sha256, 4) == b"0123"
    assert await blobs.head(ACME, "t1", sha256, 10) == b"0123456789"
    assert await blobs.head(ACME, "t1", sha256) == b"0123456789"
    assert await blobs.head(ACME, "t1", empty) == b""


@pytest.mark.parametrize("elsewhere", [(OTHER, "t1"), (ACME, "t2")])
async def test_a_hash_opens_nothing_of_another_tenant_or_task(
    blobs: BlobStore, tmp_path: Path, elsewhere: tuple[TenantScope, str]
):
    sha256 = await blobs.put(ACME, "t1", b"secret")
    assert not await blobs.exists(*elsewhere, sha256)
    for reading in (blobs.get(*elsewhere, sha256), blobs.head(*elsewhere, sha256)):
        with pytest.raises(ClaimGone):
            await reading
    with pytest.raises(ClaimGone):
        await blobs.fetch_to(*elsewhere, sha256, tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_deployments_do_not_meet(blobs: BlobStore, url: str):
    sha256 = await blobs.put(ACME, "t1", b"x")
    assert not await open_blobs(url, "").exists(ACME, "t1", sha256)
    assert not await open_blobs(url, "another").exists(ACME, "t1", sha256)


async def test_what_was_never_stored_is_gone(blobs: BlobStore):
    assert not await blobs.exists(ACME, "t1", NEVER)
    with pytest.raises(ClaimGone, match=NEVER):
        await blobs.get(ACME, "t1", NEVER)


@pytest.mark.parametrize("name", ["", "..", "../../other/t1/x", "A" * 64, NEVER + "/..", "sha256:" + NEVER])
async def test_what_is_no_hash_reaches_no_store(blobs: BlobStore, name: str):
    with pytest.raises(ClaimGone):
        await blobs.get(ACME, "t1", name)


@pytest.mark.parametrize("task_id", ["", "..", "a/b", ".hidden", "a" * 129])
async def test_what_is_no_task_id_reaches_no_store(blobs: BlobStore, task_id: str):
    with pytest.raises(PermanentError):
        await blobs.put(ACME, task_id, b"x")


async def test_the_blobs_of_a_task_are_deleted_with_it_and_no_others(blobs: BlobStore):
    mine = [await blobs.put(ACME, "t1", b"%d" % number) for number in range(5)]
    neighbour, stranger = await blobs.put(ACME, "t12", b"x"), await blobs.put(OTHER, "t1", b"x")
    await blobs.delete_task(ACME, "t1")
    await blobs.delete_task(ACME, "t1")
    assert not any([await blobs.exists(ACME, "t1", sha256) for sha256 in mine])
    assert await blobs.exists(ACME, "t12", neighbour)
    assert await blobs.exists(OTHER, "t1", stranger)


async def test_many_writers_of_the_same_content_do_not_disturb_each_other(blobs: BlobStore):
    data = os.urandom(50_000)
    [sha256] = set(await asyncio.gather(*(blobs.put(ACME, "t1", data) for _ in range(20))))
    assert await blobs.get(ACME, "t1", sha256) == data


async def test_a_local_blob_that_was_altered_is_gone(tmp_path: Path):
    blobs = LocalBlobs(tmp_path, "")
    sha256 = await blobs.put(ACME, "t1", b"0123456789")
    (tmp_path / "_" / "acme" / "t1" / sha256).write_bytes(b"0123456780")
    for reading in (blobs.get(ACME, "t1", sha256), blobs.head(ACME, "t1", sha256)):
        with pytest.raises(ClaimGone, match="altered"):
            await reading
    with pytest.raises(ClaimGone, match="altered"):
        await blobs.fetch_to(ACME, "t1", sha256, tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path):
    (tmp_path / "blobs").write_text("a file stands in the way")
    with pytest.raises(DependencyUnavailable):
        await LocalBlobs(tmp_path / "blobs", "").put(ACME, "t1", b"x")


async def test_a_bucket_that_is_not_reachable_is_unavailable(credentials: None):
    blobs = open_blobs(f"s3://{BUCKET}?endpoint=http://127.0.0.1:{free_port()}&region=eu-west-1", "")
    with pytest.raises(DependencyUnavailable):
        await blobs.get(ACME, "t1", NEVER)


@pytest.mark.parametrize("url", ["", "blobs", "ftp://x", "file:", "s3:bucket", "s3://bucket?endpiont=http://x"])
def test_a_url_that_is_none_is_refused_with_the_name_of_its_setting(url: str):
    with pytest.raises(Misconfigured, match="RAA_BLOBS_URL"):
        open_blobs(url, "")
