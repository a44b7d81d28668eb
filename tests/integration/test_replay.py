"""Recorded tasks of every kind decide again as they did; with one thing changed they say what that would have done."""

import asyncio
import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from raa_cli.__main__ import main
from raa_cli.replay.change import Allowed, Change
from raa_cli.replay.original import opened
from raa_cli.replay.recording import read_tasks, recorded
from raa_cli.replay.run import Asked, _compared, read_gates, replay, whatif
from raa_cli.replay.selection import Selection
from raa_cli.session import Place
from raa_cli.stack import Stack
from raa_client.client import Client
from raa_schemas.task import TaskCreated
from tests.integration.recorded_tasks import AIR, SUM, Town, told
from tests.integration.test_readme import endpoint  # noqa: F401  # a fixture
from tests.source_tree import ROOT

BOTH: frozenset[Allowed] = frozenset({"model", "reads"})
NONE: frozenset[Allowed] = frozenset()
MODEL: frozenset[Allowed] = frozenset({"model"})


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    """Recorded tasks, on a folder that nobody runs on any more."""
    folder = Path(mkdtemp(prefix="raa-"))
    made = Town(folder)
    asyncio.run(made.record())
    yield made
    shutil.rmtree(folder, ignore_errors=True)


def sentinel_lesson(town: Town) -> str:
    """The lesson that -200 stands for a missing value: the other one is about the decimal comma."""
    _, second = town.done["learns"].lessons_learned
    assert second in town.done["uses"].lessons_used
    return second


def test_the_recorded_tasks_are_of_every_kind(town: Town):
    outcomes = {task: done.outcome for task, done in town.done.items()}
    assert outcomes == {
        "learns": "succeeded", "uses": "succeeded", "forgets": "succeeded", "compares": "succeeded",
        "cannot": "failed", "retries": "succeeded", "pays": "succeeded", "refused": "failed",
        "unsure": "succeeded", "later": "succeeded", "bare": "succeeded",
        "cancelled": "cancelled", "expired": "expired",
    }  # fmt: skip
    assert town.ledger.splitlines().count("pay 3.0") == 1


def test_an_unchanged_release_decides_as_it_is_recorded(town: Town, capsys: pytest.CaptureFixture[str]):
    before, ledger = town.contents(), town.ledger
    code = asyncio.run(replay(town.asked(as_json=True)))
    report = told(capsys.readouterr().out)
    assert {task["task_id"]: (task["state"], task["differences"]) for task in report["tasks"]} == dict.fromkeys(
        town.done, ("same", [])
    )
    assert (code, report["failures"]) == (0, [])
    assert town.ledger == ledger, "a replay never runs a tool"
    assert town.contents() == before, "a replay changes nothing of the original"


def test_without_a_lesson_the_value_would_have_been_another(town: Town, capsys: pytest.CaptureFixture[str]):
    before = town.contents()
    change = Change("lesson", sentinel_lesson(town), BOTH)
    code = asyncio.run(whatif(town.asked("uses", change=change, gates=read_gates(()), as_json=True)))
    (task,) = told(capsys.readouterr().out)["tasks"]
    assert task["recorded"]["result"] == pytest.approx(10.0831, abs=1e-4)
    assert task["replayed"]["result"] == pytest.approx(1.8657, abs=1e-4)
    assert (task["state"], task["live_calls"], code) == ("changed", 2, 0)
    assert town.contents() == before


def test_a_changed_result_can_stop_a_pipeline(town: Town, capsys: pytest.CaptureFixture[str]):
    change = Change("lesson", sentinel_lesson(town), BOTH)
    asked = town.asked("uses", change=change, gates=read_gates(["changed<=0"]))
    assert asyncio.run(whatif(asked)) == 1
    printed = capsys.readouterr().out
    assert "succeeded with 1.8657 against succeeded with 10.0831 as recorded" in printed
    assert "changed<=0 does not hold: it is 1" in printed


@pytest.mark.parametrize(
    ("allow", "where", "flag"),
    [(NONE, "model call 1", "--allow model"), (MODEL, "step v1/mean", "--allow reads")],
)
def test_what_may_not_be_asked_again_is_where_a_task_diverges(
    town: Town, capsys: pytest.CaptureFixture[str], allow: frozenset[Allowed], where: str, flag: str
):
    change = Change("lesson", sentinel_lesson(town), allow)
    code = asyncio.run(whatif(town.asked("uses", change=change, gates=read_gates(()), as_json=True)))
    report = told(capsys.readouterr().out)
    (task,) = report["tasks"]
    assert (task["diverged"]["where"], task["diverged"]["flag"]) == (where, flag)
    assert (code, report["summary"]["coverage"]) == (1, 0.0)
    assert report["gate"]["failures"] == ["coverage is 0%, below --min-coverage 100%"]


def test_a_tool_with_an_effect_never_runs_whatever_is_allowed(town: Town, capsys: pytest.CaptureFixture[str]):
    ledger, policy = town.ledger, town.folder / "policy.json"
    policy.write_text('{"default": {"allow_tools": ["pay"]}}')
    change = Change("policy", str(policy), BOTH)
    asked = town.asked("pays", "refused", change=change, gates=read_gates(()), min_coverage=0.5, as_json=True)
    code = asyncio.run(whatif(asked))
    pays, refused = told(capsys.readouterr().out)["tasks"]
    assert (pays["state"], pays["live_calls"]) == ("changed", 0), "its recorded outcome is reused"
    assert refused["diverged"] == {
        "where": "step v1/use", "flag": None,
        "why": "pay is called with arguments or files that are not recorded, and its effect is once: "
               "it never runs here",
    }  # fmt: skip
    assert (code, town.ledger) == (0, ledger)


def test_a_policy_that_asks_more_diverges_where_nobody_was_asked(town: Town, capsys: pytest.CaptureFixture[str]):
    policy = town.folder / "strict.json"
    policy.write_text('{"default": {"ask_tools": ["flaky"]}}')
    asked = town.asked("retries", change=Change("policy", str(policy), BOTH), gates=read_gates(()), as_json=True)
    assert asyncio.run(whatif(asked)) == 1
    (task,) = told(capsys.readouterr().out)["tasks"]
    assert task["diverged"]["where"] == "the approval of v1/use"


def test_other_instructions_to_the_same_effect_reuse_what_the_tools_said(
    town: Town, capsys: pytest.CaptureFixture[str]
):
    prompt = town.folder / "short.txt"
    prompt.write_text("Plan the task with the tools. Answer with one JSON object.")
    found = []
    for allow in (NONE, MODEL):
        asked = town.asked("forgets", change=Change("prompt", str(prompt), allow), gates=read_gates(()), as_json=True)
        asyncio.run(whatif(asked))
        found += told(capsys.readouterr().out)["tasks"]
    assert [task["state"] for task in found] == ["diverged", "changed"]
    task = found[1]
    assert task["recorded"]["result"] == task["replayed"]["result"]
    assert {item["path"].rpartition("/")[2] for item in task["differences"]} >= {"prompt", "prompt_version"}


def test_another_model_has_to_be_asked(town: Town, capsys: pytest.CaptureFixture[str]):
    for allow, state in ((NONE, "diverged"), (MODEL, "same")):
        asked = town.asked("uses", change=Change("model", "offline", allow), gates=read_gates(()), as_json=True)
        asyncio.run(whatif(asked))
        printed = capsys.readouterr()
        assert told(printed.out)["tasks"][0]["state"] == state
        assert "these tasks were planned with offline already; it is only asked anew" in printed.err


def test_this_release_in_a_process_of_its_own_decides_the_same(town: Town, capsys: pytest.CaptureFixture[str]):
    asked = town.asked("learns", "pays", change=Change("version", str(ROOT)), gates=read_gates(()), as_json=True)
    assert asyncio.run(whatif(asked)) == 0
    assert [task["state"] for task in told(capsys.readouterr().out)["tasks"]] == ["same", "same"]


def test_a_task_that_runs_is_skipped_and_counts_against_coverage(town: Town, capsys: pytest.CaptureFixture[str]):
    assert asyncio.run(replay(town.asked("uses", "waits", as_json=True))) == 1
    report = told(capsys.readouterr().out)
    assert [task["skipped"] for task in report["tasks"]] == [None, "it has not ended (it is waiting_approval)"]
    assert report["failures"] == ["coverage is 50%, below --min-coverage 100%"]
    assert asyncio.run(replay(town.asked("uses", "waits", min_coverage=0.5))) == 0


def test_a_blob_that_is_gone_is_named(town: Town, capsys: pytest.CaptureFixture[str], data_folder: Path):
    copy = Town(data_folder / "copy")
    shutil.copytree(town.data, copy.data)
    shutil.copytree(town.tools.parent, copy.tools.parent)
    shutil.rmtree(copy.data / "blobs" / "_" / "default" / "learns")
    asyncio.run(replay(copy.asked("learns", as_json=True)))
    (task,) = told(capsys.readouterr().out)["tasks"]
    assert task["skipped"] == f"the blob of its input {AIR} is gone; the blob of the answer to model call 1 is gone"


def test_without_the_tools_a_task_was_planned_with_it_says_so(town: Town, capsys: pytest.CaptureFixture[str]):
    asyncio.run(replay(dataclasses.replace(town.asked("pays", as_json=True), tools=())))
    assert "name yours with --tools" in told(capsys.readouterr().out)["tasks"][0]["diverged"]["why"]


def run_raa(monkeypatch: pytest.MonkeyPatch, town: Town, *words: str) -> int:
    """Run the command line in this process; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["raa", *words, "--data", str(town.data), "--tools", str(town.tools)])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("replay --task nobody", "no event of the task nobody"),
        ("replay", "name tasks, or a span of time"),
        ("replay --task uses --from 2026-01-01", "and not both"),
        ("replay --from yesterday", "write it as 2026-01-31"),
        ("replay --from 2026-02-01 --to 2026-01-01", "--from 2026-02-01 is not before --to 2026-01-01"),
        ("replay --from 2026-02-01 --to 2026-02-01T00:00:00Z", "no task was created in between"),
        ("replay --from 2999-01-01", "no task of tenant 'default' was created"),
        ("whatif uses", "exactly one thing, not none"),
        ("whatif uses --model a --prompt b", "not --model and --prompt"),
        ("whatif uses --without-lesson les_nothing", "memory gave it to none of these tasks; shown were les_"),
        ("whatif uses --policy nowhere.json", "cannot be read"),
        ("whatif uses --model unheard-of", "there is no model 'unheard-of'"),
        ("whatif uses --prompt nowhere.txt", "neither a version (plan.v1) nor a text file"),
        ("whatif uses --prompt {empty}", "is empty; write instructions, or name a version (plan.v1)"),
        ("whatif uses --version ./nowhere", "there is no such folder"),
        ("whatif uses --version {tools}", "holds neither bin/python nor the sources"),
        ("whatif uses --model offline --allow writes", "there is model and reads"),
        ("whatif uses --model offline --gate fast", "write a metric (success, cost, latency, changed)"),
        ("replay --task uses --tenant Nobody!", "is no tenant"),
    ],
)
def test_a_mistake_in_its_use_is_one_clear_line_and_the_exit_code_2(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, says: str
):
    (empty := town.folder / "empty.txt").write_text(" \n")
    written = words.replace("{tools}", str(town.tools.parent)).replace("{empty}", str(empty)).split()
    assert run_raa(monkeypatch, town, *written) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.out == ""


def test_a_span_of_time_is_replayed_by_the_command(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run_raa(monkeypatch, town, "replay", "--from", "2020-01-01", "--min-coverage", "0.9") == 0
    printed = capsys.readouterr()
    assert f"{len(town.done)} of {len(town.done) + 1} replayed as recorded" in printed.out
    assert f"{len(town.done)}/{len(town.done)} replayed" in printed.err


def test_a_stack_that_runs_is_only_observed(data_folder: Path, capsys: pytest.CaptureFixture[str]):
    async def run() -> int:
        async with Stack(data_folder, environment={}, drain_seconds=0) as stack:
            await stack.ready()
            client = Client(stack.bus, stack.blobs)
            await client.submit(TaskCreated(task_id="sum", goal='use calculate with expression="6 * 7"'))
            await client.result("sum", 30)
            ends = await stack.bus.end_offsets(list(await stack.bus.topics()))
            code = await replay(Asked(Place(data_folder), Selection(["sum"]), Change()))
            assert await stack.bus.end_offsets(list(await stack.bus.topics())) == ends
            return code

    assert asyncio.run(run()) == 0
    assert "1 of 1 replayed as recorded" in capsys.readouterr().out


def test_a_recording_without_its_end_or_its_beginning_says_what_is_gone(town: Town):
    async def read() -> dict[str, Any]:
        async with opened(town.place) as original:
            return dict(await read_tasks(original.bus, "", "default", ["uses"]))

    records = asyncio.run(read())["uses"].records

    def without(event_type: str) -> str | None:
        kept = [record for record in records if record.topic != event_type]
        return recorded(kept, "")["uses"].why_not()

    for gone in ("task.created", "task.done", "step.finished"):
        why = without(gone)
        assert why is not None
        assert gone in why
    assert without("plan.ready") == "a plan.ready is gone: past the retention of the topic"
    assert without("nothing") is None


def test_tasks_of_a_selection_are_chosen_by_id_once_each():
    assert Selection.read(["a", "a", "b"], None, None).tasks == ["a", "b"]


def test_comparing_looks_at_nothing_but_decisions(town: Town):
    compared = asyncio.run(_compared(town.asked("uses")))
    assert [(one.covered, one.same_result) for one in compared] == [(True, True)]


async def _with_models(folder: Path, models: list[dict[str, Any]], *submitted: TaskCreated) -> None:
    """Run tasks on a stack with these models."""
    environment = {"RAA_MODELS": json.dumps(models), "RAA_PLAN_TIMEOUT_SECONDS": "3"}
    async with Stack(folder, environment=environment, drain_seconds=0) as stack:
        await stack.ready()
        client = Client(stack.bus, stack.blobs)
        for task in submitted:
            await client.submit(task)
            await client.result(task.task_id or "", 60)


def test_a_model_that_is_gone_answers_as_it_did_and_costs_as_much(
    data_folder: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
):
    address = request.getfixturevalue("endpoint")
    price = {"input_microusd": 1_000_000, "output_microusd": 10_000_000}
    models = [{"name": "rules", "base_url": address, "price": price}]
    budget = {"budget_usd": "1.00"}
    task = TaskCreated.model_validate({"task_id": "sum", "goal": SUM, "constraints": budget})
    poor = TaskCreated.model_validate({"task_id": "poor", "goal": SUM, "constraints": {"budget_usd": "0.000001"}})
    asyncio.run(_with_models(data_folder, models, task, poor))
    asked = Asked(Place(data_folder), Selection(["sum", "poor"]), Change(), as_json=True)
    assert asyncio.run(replay(asked)) == 0
    first, second = told(capsys.readouterr().out)["tasks"]
    assert first["replayed"]["cost_microusd"] == first["recorded"]["cost_microusd"] == 2_000
    assert second["replayed"]["outcome"] == "budget_exhausted"
    cheaper = dataclasses.replace(
        asked, selection=Selection(["sum"]), change=Change("model", "offline", MODEL), gates=read_gates(["cost<=-2000"])
    )
    assert asyncio.run(whatif(cheaper)) == 0
    assert told(capsys.readouterr().out)["summary"]["cost"]["mean"] == -2_000


def test_a_model_that_never_answered_does_not_answer_again(data_folder: Path, capsys: pytest.CaptureFixture[str]):
    nobody = [{"name": "nobody", "base_url": "http://127.0.0.1:9/v1"}]
    task = TaskCreated.model_validate({"task_id": "sum", "goal": SUM, "constraints": {"deadline_seconds": 600}})
    asyncio.run(_with_models(data_folder, nobody, task))
    assert asyncio.run(replay(Asked(Place(data_folder), Selection(["sum"]), Change(), as_json=True))) == 0
    (replayed,) = told(capsys.readouterr().out)["tasks"]
    assert (replayed["state"], replayed["recorded"]["outcome"]) == ("same", "failed")


def test_another_release_shows_what_it_decides_differently(
    town: Town, data_folder: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("schemas", "runtime", "client", "cli", "services"):
        shutil.copytree(ROOT / name, data_folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    rule = data_folder / "services" / "planner" / "raa_planner" / "domain" / "admission.py"
    rule.write_text(rule.read_text().replace("TRIES_PER_ATTEMPT: Final = 4", "TRIES_PER_ATTEMPT: Final = 3"))
    asked = town.asked("bare", change=Change("version", str(data_folder)), gates=read_gates(()), as_json=True)
    assert asyncio.run(whatif(asked)) == 0
    (task,) = told(capsys.readouterr().out)["tasks"]
    assert task["differences"] == [{"path": "plans/v1/tries_left", "recorded": 12, "replayed": 9}]
