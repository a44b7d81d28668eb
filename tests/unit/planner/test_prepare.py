"""Taking inputs in: what may be read, what is refused, what is known of it afterwards; and recall."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from raa_planner.activities import question_digest
from raa_planner.domain.planning import Prepared
from raa_runtime.activities import ActivityFailed
from raa_runtime.errors import DependencyUnavailable
from raa_runtime.scope import TenantScope
from raa_schemas.ids import TenantId
from raa_schemas.recall import RecallAnswer, Recalled, RecallRequest
from tests.unit.planner.outside import Knowing, call_of, preparation
from tests.unit.planner.way import lesson

pytestmark = pytest.mark.anyio
SCOPE = TenantScope(TenantId("default"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inputs").mkdir()
    return tmp_path


async def prepared(
    folder: Path, *inputs: dict[str, Any], memory: Knowing | None = None, recall: bool = False, **more: Any
) -> Prepared:
    args = {"goal": "g", "inputs": list(inputs), "recall": recall, **more}
    return Prepared.model_validate(await preparation(folder, memory)(call_of(args)))


async def refused(folder: Path, item: dict[str, Any]) -> str:
    with pytest.raises(ActivityFailed) as failed:
        await prepared(folder, item)
    assert failed.value.info.details == {"input": item["name"]}
    return failed.value.info.code


async def test_inline_data_becomes_a_blob_with_a_described_source(folder: Path):
    found = await prepared(folder, {"name": "a.csv", "data": "x;y\n1,5;2\n3,5;4\n"})
    (artifact,), (source,) = found.manifest, found.sources
    assert artifact.sha256 == hashlib.sha256(b"x;y\n1,5;2\n3,5;4\n").hexdigest()
    assert artifact.size == 16
    assert (source.format, source.delimiter, source.columns) == ("delimited", ";", ["x", "y"])
    assert source.head[0] == "x;y"
    assert source.media_type == "text/csv"
    assert source.schema_hash is not None
    assert source.schema_hash.startswith("sch_")


@pytest.mark.parametrize("form", ["file:{path}", "file://{path}", "file:a.csv"])
async def test_a_file_below_a_root_is_taken_in(folder: Path, form: str):
    path = folder / "inputs" / "a.csv"
    path.write_text("x,y\n1,2\n")
    found = await prepared(folder, {"name": "a.csv", "uri": form.format(path=path)})
    assert found.manifest[0].size == 8


@pytest.mark.parametrize(
    "uri",
    [
        "file:/etc/passwd",
        "file:///etc/passwd",
        "file:../secret",
        "file:inputs/../../secret",
        "file:link",
        "file:loop",
        "file:/no/such/file",
        "file://%2Fetc%2Fpasswd",
        "file:\0",
    ],
)
async def test_nothing_outside_the_roots_is_read_by_any_path(folder: Path, uri: str):
    (folder / "secret").write_text("s")
    (folder / "inputs" / "link").symlink_to(folder / "secret")
    (folder / "inputs" / "loop").symlink_to(folder / "inputs" / "loop")
    assert await refused(folder, {"name": "a", "uri": uri}) in {"input_outside_roots", "input_missing"}


async def test_a_missing_file_is_told_from_a_forbidden_one_only_below_the_roots(folder: Path):
    assert await refused(folder, {"name": "a", "uri": "file:nothing.csv"}) == "input_missing"
    assert await refused(folder, {"name": "a", "uri": "file:/nothing.csv"}) == "input_outside_roots"


async def test_a_folder_and_a_pipe_are_no_inputs(folder: Path):
    os.mkfifo(folder / "inputs" / "pipe")
    (folder / "inputs" / "sub").mkdir()
    assert await refused(folder, {"name": "a", "uri": "file:pipe"}) == "input_invalid"
    assert await refused(folder, {"name": "a", "uri": "file:sub"}) == "input_invalid"


async def test_a_wrong_hash_is_refused(folder: Path):
    assert await refused(folder, {"name": "a", "data": "x", "sha256": "0" * 64}) == "input_invalid"


@pytest.mark.parametrize("size", [0, 10, 65_536, 200_000])
async def test_a_claim_is_measured_and_never_trusted(folder: Path, size: int):
    blobs = preparation(folder).blobs
    sha256 = await blobs.put(SCOPE, "t1", b"a" * size)
    found = await prepared(folder, {"name": "a.txt", "uri": f"blob:sha256/{sha256}", "size": 5})
    assert found.manifest[0].size == size


async def test_a_claim_that_is_not_there_is_gone(folder: Path):
    assert await refused(folder, {"name": "a", "uri": "blob:sha256/" + "0" * 64}) == "claim_gone"


@pytest.mark.parametrize(("content", "form"), [(b"", "empty"), (b"\x00\x01\x02" * 50, "binary"), (b"just\n", "text")])
async def test_odd_files_are_taken_in_and_named_for_what_they_are(folder: Path, content: bytes, form: str):
    (folder / "inputs" / "odd").write_bytes(content)
    found = await prepared(folder, {"name": "odd", "uri": "file:odd"})
    assert found.sources[0].format == form
    assert found.sources[0].columns == []


async def test_what_is_shown_of_many_wide_inputs_stays_bounded(folder: Path):
    wide = ",".join(f"column_{number}" for number in range(1_000))
    found = await prepared(folder, *({"name": f"{number}.csv", "data": wide + "\n"} for number in range(100)))
    assert sum(len("".join(source.columns + source.head)) for source in found.sources) <= 200_000
    assert len({source.schema_hash for source in found.sources}) == 1


async def test_recall_names_the_inputs_the_tools_and_the_newest_reflections(folder: Path):
    memory = Knowing(
        RecallAnswer(digest="sha256:d", lessons=[Recalled(lesson=lesson(), applies_to=["a.csv"], why=["same_content"])])
    )
    found = await prepared(folder, {"name": "a.csv", "data": "x,y\n1,2\n"}, memory=memory, recall=True)
    (asked,) = memory.asked
    assert (asked.after, asked.tools, asked.goal) == (["newest of default"], ["calculate"], "g")
    assert asked.sources[0].schema_hash == found.sources[0].schema_hash
    assert [one.lesson.id for one in found.lessons] == ["les_1"]
    assert (found.recall_digest, found.memory_degraded) == ("sha256:d", False)


async def test_what_memory_gave_is_kept_among_the_blobs_of_the_task(folder: Path):
    given = [Recalled(lesson=lesson(), applies_to=["a.csv"], why=["same_content"])]
    memory = Knowing(RecallAnswer(digest="sha256:d", lessons=given))
    found = await prepared(folder, {"name": "a.csv", "data": "x,y\n1,2\n"}, memory=memory, recall=True)
    sha256 = (found.recall_ref or "").removeprefix("blob:sha256/")
    kept = json.loads(await preparation(folder).blobs.get(SCOPE, "t1", sha256))
    assert [Recalled.model_validate(one) for one in kept["lessons"]] == given


async def test_the_question_to_memory_is_the_same_whoever_asks_and_however_fresh_it_must_be():
    asked = RecallRequest(task="t1", goal="g", tools=["calculate"], after=["r1"])
    assert question_digest(asked) == question_digest(asked.model_copy(update={"task": "t2", "after": []}))
    assert question_digest(asked) != question_digest(asked.model_copy(update={"tools": []}))


async def test_without_memory_the_task_goes_on_and_says_so(folder: Path):
    found = await prepared(folder, memory=Knowing(DependencyUnavailable("away")), recall=True)
    assert found.memory_degraded
    assert found.lessons == []


async def test_a_stale_answer_is_used_and_called_degraded(folder: Path):
    found = await prepared(folder, memory=Knowing(RecallAnswer(stale=True, digest="sha256:s")), recall=True)
    assert (found.memory_degraded, found.recall_digest) == (True, "sha256:s")


async def test_memory_off_is_not_asked(folder: Path):
    memory = Knowing()
    await prepared(folder, memory=memory, recall=False)
    assert memory.asked == []
