"""What the reflector keeps of an attempt: how its steps read the inputs, what failed, what profiles found.

References are bound once, while the outputs are at hand; after that an attempt is small and stands on its own.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from raa_schemas.artifact import Artifact, Source
from raa_schemas.canonical import digest
from raa_schemas.check import evaluate, parse_check
from raa_schemas.errors import ErrorInfo
from raa_schemas.event import Part
from raa_schemas.plan import Plan, UnboundReferenceError, bind, references
from raa_schemas.reflection import CheckReport, Hypothesis
from raa_schemas.step import Outcome, RunStatus, StepRecord

PROFILE_TOOL = "table.profile"
MAX_PROFILED_COLUMNS = 100
RESULT = "#result"
"""Stands for the plan's result among outputs that are fetched; no step id begins like this."""


class Use(Part):
    """One call of a tool on a file of the workspace, with the arguments that say how the file is read."""

    step: str = Field(description="step id")
    tool: str = Field(description="tool name")
    argument: str = Field(description="the argument that names the file")
    file: str = Field(description="name of the file")
    options: dict[str, Any] | None = Field(
        description="what the argument says beside the file, references bound; "
        "null: an output they refer to is not there"
    )
    rest: str = Field("", description="digest of the other arguments")
    informed_by: list[str] = Field(default_factory=list, description="steps whose outputs the options were taken from")
    outcome: Outcome = Field(description="how the step ended")
    error: ErrorInfo | None = Field(None, description="why it failed")


class Failure(Part):
    """A step that did not succeed although it was started, or a result that could not be bound."""

    step: str = Field(description="step id; `result` if only the plan's result failed")
    tool: str = Field(description="tool name")
    outcome: Outcome = Field(description="failed or outcome_unknown")
    error: ErrorInfo | None = Field(None, description="the typed error")

    def same_as(self, other: "Failure") -> bool:
        """Say whether this is the same failure come back."""
        return (self.tool, _words(self.error)) == (other.tool, _words(other.error))


class ProfiledColumn(Part):
    """What a profile said of one column."""

    file: str = Field(description="name of the file")
    column: str = Field(description="column name")
    step: str = Field(description="id of the profiling step")
    distinct: int | None = Field(None, description="distinct values")
    low: Any = Field(None, description="minimum")
    high: Any = Field(None, description="maximum")
    suspects: list[Any] = Field(default_factory=list, description="values that look like a code for missing")


class Ran(Part):
    """The end of a run, as the terminal step.done tells it."""

    status: RunStatus = Field(description="how the run ended")
    records: list[StepRecord] = Field(default_factory=list, description="all steps")
    result: Any = Field(None, description="the plan's result")
    result_ref: str | None = Field(None, description="reference to a larger result")
    error: ErrorInfo | None = Field(None, description="why the run failed, as its last event says")
    artifacts: list[Artifact] = Field(default_factory=list, description="files written")


class Attempt(Part):
    """One executed plan and what became of it."""

    number: int = Field(ge=1, description="which attempt of the task")
    plan: Plan = Field(description="the plan that ran")
    sources: list[Source] = Field(default_factory=list, description="the inputs, without their first lines")
    allowed_tools: list[str] | None = Field(None, description="tools a plan may use; null: all")
    status: RunStatus = Field(description="how the run ended")
    uses: list[Use] = Field(default_factory=list, description="calls on files")
    failures: list[Failure] = Field(default_factory=list, description="steps that failed, in plan order")
    profiles: list[ProfiledColumn] = Field(default_factory=list, description="what profiles found")
    report: CheckReport | None = Field(None, description="what the check said; null: there was none, or no result")
    hypotheses: list[Hypothesis] = Field(default_factory=list, description="what was proposed after it")

    def cite(self, step: str) -> str:
        """Name a step as evidence."""
        return f"v{self.plan.version}/{step}"

    def source(self, name: str) -> Source | None:
        """Find the input of a name."""
        return next((source for source in self.sources if source.name == name), None)

    def use_of(self, step: str) -> Use | None:
        """Find the use a step made of a file."""
        return next((use for use in self.uses if use.step == step), None)

    def may_use(self, tool: str) -> bool:
        """Say whether a plan of this task may call a tool."""
        return self.allowed_tools is None or tool in self.allowed_tools


def gather(
    number: int,
    plan: Plan,
    sources: list[Source],
    ran: Ran,
    *,
    check: str | None = None,
    allowed_tools: list[str] | None = None,
    fetched: dict[str, Any] | None = None,
) -> Attempt:
    """Fold a plan and the end of its run into an attempt.

    Args:
        number: which attempt.
        plan: the plan that ran.
        sources: what is known of the inputs.
        ran: the end of the run.
        check: the task's success check; evaluated only if the run succeeded.
        allowed_tools: tools a plan of this task may use.
        fetched: outputs that travelled by reference, by step id, and the result under `RESULT`.
    """
    fetched = fetched or {}
    outputs = outputs_of(ran) | {step: output for step, output in fetched.items() if step != RESULT}
    uses = [use for record in ran.records if (use := _use(record, outputs)) is not None]
    return Attempt(
        number=number,
        plan=plan,
        sources=[source.model_copy(update={"head": []}) for source in sources],
        allowed_tools=allowed_tools,
        status=ran.status,
        uses=uses,
        failures=_failures(ran),
        profiles=[column for use in uses for column in _profiled(use, outputs.get(use.step))],
        report=evaluate(parse_check(check), fetched.get(RESULT, ran.result), outputs, ran.artifacts)
        if check is not None and ran.status == "succeeded"
        else None,
    )


def outputs_of(ran: Ran) -> dict[str, Any]:
    """Collect the outputs that are at hand."""
    return {
        record.definition.id: record.output
        for record in ran.records
        if record.outcome == "succeeded" and record.output_ref is None
    }


def wanted_references(ran: Ran, check: str | None) -> dict[str, str]:
    """Name the outputs that must be fetched before this run can be judged: step id (or `RESULT`) to blob reference."""
    parsed = parse_check(check) if check is not None and ran.status == "succeeded" else None
    wanted = set(parsed.steps()) if parsed is not None else set()
    for record in ran.records:
        if record.definition.tool == PROFILE_TOOL:
            wanted.add(record.definition.id)
        for _, held in _file_arguments(record.definition.args):
            wanted |= {reference.step for reference in references(held)}
    found = {
        record.definition.id: record.output_ref
        for record in ran.records
        if record.output_ref is not None and record.outcome == "succeeded" and record.definition.id in wanted
    }
    if parsed is not None and parsed.looks_at_result() and ran.result_ref is not None:
        found[RESULT] = ran.result_ref
    return found


def _use(record: StepRecord, outputs: dict[str, Any]) -> Use | None:
    step = record.definition
    for name, held in _file_arguments(step.args):
        template = {key: item for key, item in held.items() if key != "file"}
        return Use(
            step=step.id,
            tool=step.tool,
            argument=name,
            file=held["file"],
            options=_bound(template, outputs),
            rest=digest({key: item for key, item in step.args.items() if key != name}),
            informed_by=sorted({reference.step for reference in references(template)}),
            outcome=record.outcome,
            error=record.error,
        )
    return None


def _bound(template: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return {key: bind(item, outputs) for key, item in template.items()}
    except UnboundReferenceError:
        return None


def _file_arguments(args: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the arguments that say which file to read, and how: objects with a `file`."""
    for name, value in args.items():
        if isinstance(value, dict) and isinstance(value.get("file"), str):
            yield name, value


def _failures(ran: Ran) -> list[Failure]:
    """List the steps that failed; if none did and the run failed all the same, its result could not be bound."""
    failures = [_failure(record) for record in ran.records if record.outcome in {"failed", "outcome_unknown"}]
    if not failures and ran.status == "failed" and ran.error is not None:
        return [Failure(step="result", tool="result", outcome="failed", error=ran.error)]
    return failures


def _failure(record: StepRecord) -> Failure:
    status: Literal["failed", "outcome_unknown"]
    status = "outcome_unknown" if record.outcome == "outcome_unknown" else "failed"
    return Failure(step=record.definition.id, tool=record.definition.tool, outcome=status, error=record.error)


def _profiled(use: Use, output: Any) -> Iterator[ProfiledColumn]:
    if use.tool != PROFILE_TOOL or not isinstance(output, dict) or not isinstance(output.get("columns"), list):
        return
    for entry in output["columns"][:MAX_PROFILED_COLUMNS]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            continue
        distinct, suspects = entry.get("distinct"), entry.get("suspects")
        yield ProfiledColumn(
            file=use.file,
            column=entry["name"],
            step=use.step,
            low=entry.get("min"),
            high=entry.get("max"),
            distinct=distinct if isinstance(distinct, int) else None,
            suspects=suspects if isinstance(suspects, list) else [],
        )


def _words(error: ErrorInfo | None) -> tuple[str, str]:
    return (error.code, error.message) if error is not None else ("", "")
