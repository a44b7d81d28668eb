"""A call of a tool: what fails before it never happened, what is lost after it is unknown or done again."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from raa_executor.activities import ToolCalls
from raa_executor.adapters.blob_files import BlobFiles
from raa_executor.adapters.blob_values import BlobValues
from raa_executor.adapters.registry_tools import RegistryTools
from raa_executor.metrics import ToolMetrics
from raa_executor.tools.registry import Happened, ToolError, ToolRegistry, Workspace, tool
from raa_runtime.activities import ActivityFailed, Call
from raa_runtime.blobs import LocalBlobs
from raa_runtime.clock import SystemClock
from raa_runtime.errors import DependencyUnavailable, LeaseLost
from raa_runtime.masking import Secrets
from raa_runtime.scope import TenantScope
from raa_runtime.telemetry import Metrics
from raa_schemas.canonical import digest
from raa_schemas.errors import ErrorInfo
from raa_schemas.ids import TaskId, TenantId

pytestmark = pytest.mark.anyio
SCOPE = TenantScope(TenantId("acme"))


class Bank:
    """The outside world: what was paid, and whether the probe can see it."""

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.blind = ""

    def tools(self) -> RegistryTools:
        def paid_before(amount: int) -> Happened | None:
            if self.blind:
                raise ToolError(self.blind, "nobody can look now")
            return Happened({"paid": amount}) if amount in self.paid else None

        @tool(name="pay", effect="checkable", risk="workspace", probe=paid_before)
        def pay(amount: int) -> dict[str, int]:
            """Pay once."""
            self.paid.append(amount)
            return {"paid": amount}

        @tool(name="note", effect="keyed", risk="workspace")
        def note(workspace: Workspace, text: str) -> int:
            """Write a file."""
            self.paid.append(len(text))
            workspace.write("note.md", text.encode())
            return len(text)

        @tool(name="send", effect="once", risk="workspace", timeout=1)
        async def send(seconds: float = 0, pages: int = 0) -> str:
            """Send a letter."""
            self.paid.append(1)
            await asyncio.sleep(seconds)
            return "page" * pages

        return RegistryTools(ToolRegistry([pay, note, send]))


class FullDisk(LocalBlobs):
    """Blobs on a disk that takes nothing more."""

    async def put_file(self, scope: TenantScope, task_id: str, path: Path) -> tuple[str, int]:
        raise DependencyUnavailable("no space left")

    async def put(self, scope: TenantScope, task_id: str, data: bytes) -> str:
        raise DependencyUnavailable("no space left")


class Off:
    async def closed(self, tenant: str) -> str | None:
        return None


def calls(bank: Bank, folder: Path, blobs: LocalBlobs | None = None, slots: int = 2) -> ToolCalls:
    blobs = blobs or LocalBlobs(folder / "blobs", "")
    return ToolCalls(
        bank.tools(),
        Off(),
        BlobFiles(blobs, folder / "host", 1_000_000),
        BlobValues(blobs),
        asyncio.Semaphore(slots),
        ToolMetrics(Metrics()),
    )


def call(
    name: str,
    args: dict[str, Any],
    effect: str,
    *,
    recovering: bool = False,
    seconds: float = 30,
    lost: bool = False,
    **more: Any,
) -> Call:
    def lease() -> None:
        if lost:
            raise LeaseLost("frozen for too long")

    job = {"step": "s", "tool": name, "args": args, "args_hash": digest(args), "manifest": [], "max_steps": 20} | more
    return Call(
        "tool",
        "tool",
        job,
        TenantId("acme"),
        TaskId("t1"),
        "acme/t1/v1/s",
        "key",
        effect,
        1,
        1,
        datetime.now(UTC) + timedelta(seconds=seconds),
        recovering=recovering,
        clock=SystemClock(),
        lease=lease,
    )


async def test_a_call_gives_output_digest_and_changed_files(tmp_path: Path):
    result = await calls(Bank(), tmp_path)(call("note", {"text": "hello"}, "keyed"))
    assert (result["status"], result["output"], result["output_digest"]) == ("succeeded", 5, digest(5))
    assert [artifact["name"] for artifact in result["changed"]] == ["note.md"]


async def test_after_a_crash_the_probe_is_asked_before_a_checkable_action_is_done_again(tmp_path: Path):
    bank = Bank()
    bank.paid = [7]
    again = await calls(bank, tmp_path)(call("pay", {"amount": 7}, "checkable", recovering=True))
    other = await calls(bank, tmp_path)(call("pay", {"amount": 8}, "checkable", recovering=True))
    assert (again["output"], other["output"], bank.paid) == ({"paid": 7}, {"paid": 8}, [7, 8])


class On:
    async def closed(self, tenant: str) -> str | None:
        return "the kill switch is on"


async def test_a_call_cut_off_by_a_crash_stays_suspect_while_nothing_may_start(tmp_path: Path):
    bank = Bank()
    bank.paid = [7]
    stopped = replace(calls(bank, tmp_path), switch=On())
    held = await stopped(call("pay", {"amount": 7}, "checkable", recovering=True))
    assert (held["status"], held["suspect"]) == ("not_started", True)
    later = await calls(bank, tmp_path)(call("pay", {"amount": 7}, "checkable", suspect=True))
    assert (later["output"], bank.paid) == ({"paid": 7}, [7])


async def test_a_first_call_that_did_not_start_is_not_suspect(tmp_path: Path):
    result = await replace(calls(Bank(), tmp_path), switch=On())(call("pay", {"amount": 7}, "checkable"))
    assert (result["status"], result["suspect"]) == ("not_started", False)


async def test_a_new_start_of_a_step_is_no_call_cut_off_by_a_crash_however_high_its_epoch(tmp_path: Path):
    bank = Bank()
    bank.paid = [7]
    result = await calls(bank, tmp_path)(replace(call("pay", {"amount": 7}, "checkable"), epoch=3))
    assert (result["output"], bank.paid) == ({"paid": 7}, [7, 7])


@pytest.mark.parametrize(("code", "status"), [("tool_timeout", "not_started"), ("forbidden", "unknown")])
async def test_what_cannot_be_looked_up_is_not_taken_for_failed(tmp_path: Path, code: str, status: str):
    bank = Bank()
    bank.blind = code
    result = await calls(bank, tmp_path)(call("pay", {"amount": 7}, "checkable", recovering=True))
    assert (result["status"], bank.paid) == (status, [])


async def test_a_lost_lease_stops_the_call_before_anything_happens(tmp_path: Path):
    bank = Bank()
    result = await calls(bank, tmp_path)(call("pay", {"amount": 7}, "checkable", lost=True))
    assert (result["status"], bank.paid) == ("not_started", [])


async def test_without_a_free_slot_nothing_starts_and_nothing_failed(tmp_path: Path):
    bank = Bank()
    busy = calls(bank, tmp_path, slots=1)
    await busy.slots.acquire()
    result = await busy(call("note", {"text": "x"}, "keyed", seconds=0.2))
    assert (result["status"], bank.paid) == ("not_started", [])


async def test_an_output_that_cannot_be_stored_makes_the_outcome_unknown_or_the_call_repeatable(tmp_path: Path):
    bank = Bank()
    full = calls(bank, tmp_path, FullDisk(tmp_path / "blobs", ""))
    unknown = await full(call("send", {"pages": 2_000}, "once"))
    assert unknown == {"status": "unknown"}
    with pytest.raises(DependencyUnavailable):
        await full(call("note", {"text": "x"}, "keyed"))


async def test_an_action_that_must_not_be_repeated_and_overran_is_unknown(tmp_path: Path):
    bank = Bank()
    result = await calls(bank, tmp_path)(call("send", {"seconds": 9}, "once", seconds=0.3))
    assert (result["status"], bank.paid) == ("unknown", [1])


async def test_arguments_that_are_not_the_tools_fail_before_the_call(tmp_path: Path):
    bank = Bank()
    with pytest.raises(ActivityFailed) as failed:
        await calls(bank, tmp_path)(call("pay", {"amount": "much"}, "checkable"))
    assert (failed.value.info.code, failed.value.info.step_id, bank.paid) == ("bad_arguments", "s", [])


async def test_arguments_from_a_blob_must_be_those_that_were_granted(tmp_path: Path):
    bank = Bank()
    blobs = LocalBlobs(tmp_path / "blobs", "")
    values = BlobValues(blobs)
    reference = await values.put(SCOPE, "t1", {"amount": 9})
    granted = {"args_ref": reference, "args_hash": digest({"amount": 9}), "template": {"amount": 9}}

    def job(**changes: Any) -> Call:
        made = call("pay", {}, "checkable", **(granted | changes))
        made.args = {name: value for name, value in made.args.items() if name != "args"}
        return made

    await calls(bank, tmp_path, blobs)(job())
    for changes in ({"args_hash": digest({"amount": 8})}, {"template": {"amount": 8}}):
        with pytest.raises(ActivityFailed) as failed:
            await calls(bank, tmp_path, blobs)(job(**changes))
        assert failed.value.info.code == "grant_denied"
    assert bank.paid == [9]


KEYS = {"CRM_TOKEN": "s3cr3t/value+1", "DB": "postgres://crm:hunter2hunter2@db/crm", "EDITOR": "vi-is-my-editor"}


async def failure_of(folder: Path, problem: Exception) -> ErrorInfo:
    @tool(name="crm.add", effect="keyed", risk="workspace")
    def add() -> None:
        """Fail as its far side does."""
        raise problem

    tools = RegistryTools(ToolRegistry([add]))
    calling = replace(calls(Bank(), folder), tools=tools, secrets=Secrets.of(KEYS))
    with pytest.raises(ActivityFailed) as failed:
        await calling(call("crm.add", {}, "keyed"))
    return failed.value.info


async def test_an_error_of_a_tool_shows_no_secret_of_its_environment(tmp_path: Path):
    told = f"401 for {KEYS['CRM_TOKEN']} of http://h/?t=s3cr3t%2Fvalue%2B1 with hunter2hunter2, vi-is-my-editor"
    crashed = await failure_of(tmp_path, ValueError(told))
    assert "401 for *** of http://h/?t=*** with ***, vi-is-my-editor" in crashed.message
    raised = await failure_of(tmp_path, ToolError("refused", told, {"tried": [{"with": "s3cr3t/value+1"}], "n": 2}))
    assert (raised.code, raised.details) == ("refused", {"tried": [{"with": "***"}], "n": 2})
    assert "s3cr3t" not in raised.model_dump_json()


async def test_an_error_of_a_tool_shows_nothing_that_looks_like_a_key(tmp_path: Path):
    told = "GET redis://:pass@host/0 with Bearer abcdefgh12345 and sk-abcdefgh12345, risk-assessment.csv stays"
    failed = await failure_of(tmp_path, RuntimeError(told))
    assert "GET redis://***@host/0 with *** and ***, risk-assessment.csv stays" in failed.message


async def test_a_secret_is_hidden_before_a_long_message_is_cut(tmp_path: Path):
    failed = await failure_of(tmp_path, ToolError("refused", "x" * 1_994 + "s3cr3t/value+1"))
    assert "s3" not in failed.message


async def test_a_probe_that_fails_shows_no_secret_either(tmp_path: Path):
    bank = Bank()
    bank.blind = "tool_timeout"
    blind = replace(calls(bank, tmp_path), secrets=Secrets(["nobody can look"]))
    held = await blind(call("pay", {"amount": 7}, "checkable", recovering=True))
    assert held["why"] == "its probe failed: tool_timeout: *** now"
