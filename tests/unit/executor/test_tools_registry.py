"""A typed function becomes a tool: schema, injection, typed errors, the user's own file."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.registry import (
    CallContext,
    Happened,
    Tool,
    ToolDeclarationError,
    ToolError,
    ToolRegistry,
    Workspace,
    call,
    probe,
    tool,
)
from raa_schemas.errors import ErrorInfo

CONTEXT = CallContext("key-1", "acme", "task-1", "step-1", 1, datetime(2026, 1, 1, tzinfo=UTC))


def run(declared: Tool[..., Any], args: dict[str, Any], folder: Path, **more: Any) -> Any:
    workspace = Workspace(folder, {})
    return asyncio.run(call(ToolRegistry([declared]), declared.spec.name, args, workspace, CONTEXT, **more))


def failure(declared: Tool[..., Any], args: dict[str, Any], folder: Path, **more: Any) -> ToolError:
    with pytest.raises(ToolError) as raised:
        run(declared, args, folder, **more)
    return raised.value


class Address(BaseModel):
    street: str
    number: int = 1


@tool(effect="keyed", risk="external", timeout=5)
def send(to: Address, text: str, urgency: Literal["low", "high"] = "low") -> dict[str, Any]:
    """Send a letter.

    More words that no model needs.
    """
    return {"to": to, "text": text, "urgency": urgency}


def test_schema_comes_from_the_type_hints_and_is_closed():
    spec = send.spec

    assert (spec.name, spec.description, spec.effect, spec.risk) == ("send", "Send a letter.", "keyed", "external")
    assert spec.arguments["required"] == ["to", "text"]
    assert spec.arguments["additionalProperties"] is False
    assert spec.arguments["properties"]["urgency"]["enum"] == ["low", "high"]
    assert spec.schema_hash.startswith("sha256:")


def test_undeclared_tool_is_taken_to_be_the_most_dangerous():
    @tool
    def pay(amount: int) -> None:
        """Pay."""

    assert (pay.spec.effect, pay.spec.risk) == ("once", "external")


def test_models_arrive_typed_and_leave_as_json(tmp_path: Path):
    assert run(send, {"to": {"street": "Main"}, "text": "hi"}, tmp_path) == {
        "to": {"street": "Main", "number": 1},
        "text": "hi",
        "urgency": "low",
    }


def test_bad_arguments_name_every_field(tmp_path: Path):
    error = failure(send, {"to": {"street": 3}, "txt": "hi"}, tmp_path)

    assert error.code == "bad_arguments"
    assert [one["at"] for one in error.details["errors"]] == ["/to/street", "/text", "/txt"]
    assert error.info("s1").step_id == "s1"


def test_text_is_not_silently_read_as_a_number(tmp_path: Path):
    @tool
    def double(n: int) -> int:
        return 2 * n

    assert run(double, {"n": 2}, tmp_path) == 4
    assert failure(double, {"n": "2"}, tmp_path).code == "bad_arguments"


def test_workspace_and_context_are_injected_and_no_part_of_the_schema(tmp_path: Path):
    @tool
    async def note(text: str, files: Workspace, context: CallContext) -> str:
        files.write("note.txt", text.encode())
        return context.idempotency_key

    assert set(note.spec.arguments["properties"]) == {"text"}
    assert run(note, {"text": "x"}, tmp_path) == "key-1"
    assert (tmp_path / "out" / "note.txt").read_text() == "x"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_tool_raises_ends_its_step_and_nothing_else(error: BaseException, tmp_path: Path):
    @tool
    def breaks() -> None:
        raise error

    @tool
    async def breaks_too() -> None:
        raise error

    for broken in (breaks, breaks_too):
        raised = failure(broken, {}, tmp_path)
        assert raised.code == "tool_error"
        assert raised.details == {"type": type(error).__name__}
        assert "test_tools_registry.py" in raised.message


def test_own_error_code_of_a_tool_reaches_the_caller(tmp_path: Path):
    @tool
    def refuses() -> None:
        raise ToolError("out_of_stock", "none left; order tomorrow", {"left": 0})

    raised = failure(refuses, {}, tmp_path)

    assert (raised.code, raised.details) == ("out_of_stock", {"left": 0})


@pytest.mark.parametrize("value", [object(), float("nan"), {"x": float("inf")}, {1: lambda: 1}])
def test_output_that_json_cannot_carry_is_an_error(value: Any, tmp_path: Path):
    @tool
    def returns() -> Any:
        return value

    assert failure(returns, {}, tmp_path).code == "bad_output"


@pytest.mark.parametrize("value", ["a\ud800", {"x": ["\ud800"]}, {"\ud800": 1}])
def test_output_with_half_a_surrogate_pair_is_an_error_that_names_it(value: Any, tmp_path: Path):
    @tool
    def returns() -> Any:
        return value

    raised = failure(returns, {}, tmp_path)

    assert raised.code == "bad_output"
    assert r"holds '\ud800', half a surrogate pair" in raised.message


def test_an_error_carries_what_is_no_json_as_text(tmp_path: Path):
    @tool
    def refuses() -> None:
        details = {"code": 404, "message": ("a", float("nan")), "\udcff": b"\x00", "at": CONTEXT.deadline, "left": 1.5}
        raise ToolError("refused", "no file caf\udce9.txt; rename it", details)

    info = failure(refuses, {}, tmp_path).info("s")

    assert (info.code, info.message, info.step_id) == ("refused", r"no file caf\udce9.txt; rename it", "s")
    at = "2026-01-01 00:00:00+00:00"
    plain = {"code": 404, "message": ["a", "nan"], r"\udcff": r"b'\x00'", "at": at, "left": 1.5}
    assert (info.details, ErrorInfo.model_validate_json(info.model_dump_json())) == (plain, info)


def test_slow_tool_ends_at_its_timeout(tmp_path: Path):
    @tool(timeout=30)
    def slow() -> None:
        time.sleep(0.3)

    @tool(timeout=0.02)
    async def waits() -> None:
        await asyncio.Event().wait()

    assert failure(slow, {}, tmp_path, timeout_seconds=0.02).code == "tool_timeout"
    assert failure(waits, {}, tmp_path).code == "tool_timeout"


def test_many_blocking_tools_run_side_by_side(tmp_path: Path):
    import threading

    everybody = threading.Barrier(40)

    @tool
    def meets() -> int:
        return everybody.wait(timeout=20)

    async def all_at_once() -> list[Any]:
        registry, workspace = ToolRegistry([meets]), Workspace(tmp_path, {})
        return await asyncio.gather(*(call(registry, "meets", {}, workspace, CONTEXT) for _ in range(40)))

    assert sorted(asyncio.run(all_at_once())) == list(range(40))


def test_probe_tells_what_happened(tmp_path: Path):
    sent: dict[str, str] = {}

    def was_sent(text: str, context: CallContext) -> Happened | None:
        return Happened(sent[context.idempotency_key]) if context.idempotency_key in sent else None

    @tool(effect="checkable", probe=was_sent)
    def deliver(text: str, context: CallContext) -> str:
        sent[context.idempotency_key] = text
        return text

    registry, workspace = ToolRegistry([deliver]), Workspace(tmp_path, {})

    def ask() -> Happened | None:
        return asyncio.run(probe(registry, "deliver", {"text": "a"}, workspace, CONTEXT))

    assert ask() is None
    run(deliver, {"text": "a"}, tmp_path)
    assert ask() == Happened("a")


def test_declarations_that_cannot_work_are_refused():
    with pytest.raises(ToolDeclarationError, match="give the parameter 'x' a type"):

        @tool
        def untyped(x) -> None:  # noqa: ANN001
            pass

    with pytest.raises(ToolDeclarationError, match="declare each argument"):

        @tool
        def any_number(*x: int) -> None:
            pass

    with pytest.raises(ToolDeclarationError, match="belong together"):
        tool(name="x", effect="checkable")(lambda: None)
    with pytest.raises(ToolDeclarationError, match="a name is"):
        tool(name="drop table")(lambda: None)


GOOD = '''
from raa_executor.tools.registry import tool

@tool(effect="read", risk="read", timeout=2)
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()
'''


def test_users_file_is_loaded_by_its_path(tmp_path: Path):
    file = tmp_path / "my_tools.py"
    file.write_text(GOOD)
    registry = built_in_tools()

    loaded = registry.load_file(file)

    assert [spec.name for spec in loaded] == ["shout"]
    assert asyncio.run(call(registry, "shout", {"text": "a"}, Workspace(tmp_path, {}), CONTEXT)) == "A"
    assert "shout" in [spec.name for spec in registry.specs()]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:\n", "line 1"),
        ("import nothing_of_this_name\n", "cannot be imported: ModuleNotFoundError"),
        ("x = 1\n", "declares no tool"),
        (GOOD.replace("@tool(", "@tool(name='calculate', "), "two tools are named calculate"),
        (
            GOOD + GOOD.replace("def shout", "def whisper").replace("@tool(", "@tool(name='shout', "),
            "two tools are named",
        ),
        (GOOD.replace("text: str", "text"), "give the parameter 'text' a type"),
        ("raise SystemExit('no')\n", "cannot be imported: SystemExit"),
    ],
)
def test_unusable_file_stops_the_start_with_a_reason(source: str, message: str, tmp_path: Path):
    file = tmp_path / "my_tools.py"
    file.write_text(source)

    with pytest.raises(ToolDeclarationError, match=message):
        built_in_tools().load_file(file)


def test_unknown_tool_lists_the_tools_there_are(tmp_path: Path):
    with pytest.raises(ToolError) as raised:
        built_in_tools().get("table.guess")

    assert raised.value.code == "unknown_tool"
    assert raised.value.details["tools"] == [
        "calculate",
        "file.list",
        "file.read",
        "file.write",
        "table.profile",
        "table.query",
    ]


def test_shipped_tools_declare_what_a_crash_allows():
    declared = {spec.name: (spec.effect, spec.risk) for spec in built_in_tools().specs()}

    assert declared.pop("file.write") == ("keyed", "workspace")
    assert set(declared.values()) == {("read", "read")}
    assert all(spec.description for spec in built_in_tools().specs())
