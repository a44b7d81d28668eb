"""The one documented table of error codes that clients see in `task.done`, `step.done` and rejections."""

from typing import Any, Final, NamedTuple

from pydantic import Field

from raa_schemas.event import Part


class Code(NamedTuple):
    """What a code means, whether submitting the same task again can help, and what to do next."""

    meaning: str
    retryable: bool
    hint: str


CODES: Final[dict[str, Code]] = {
    # a task that is not admitted
    "record_invalid": Code("the record cannot be read as a task", False, "send one JSON object; see the message"),
    "goal_missing": Code("the task names no goal", False, 'send {"goal": "…"} with at least one word'),
    "check_invalid": Code("the success check does not parse", False, "see the check language in docs/checks.md"),
    "input_missing": Code("an input file does not exist", False, "check the path, or attach the file with --input"),
    "input_outside_roots": Code(
        "an input lies outside the input roots",
        False,
        "copy it below a configured input root (RAA_INPUT_ROOTS) or attach it as a blob",
    ),
    "input_invalid": Code("an input cannot be used as it is given", False, "see the message; inputs need name and uri"),
    "claim_gone": Code("a referenced blob is no longer there", False, "submit the task again with its inputs"),
    "reply_to_not_allowed": Code(
        "the reply topic is not on the deployment's list", False, "add it to RAA_REPLY_TOPICS or leave reply_to out"
    ),
    "tenant_mismatch": Code("the record names another tenant than its topic", False, "drop the header ce_tenant"),
    # a plan that cannot be used
    "cannot": Code(
        "no plan for this goal with the tools at hand",
        False,
        "rephrase the goal, attach the files it names, or add a tool",
    ),
    "plan_invalid": Code("the plan fails verification", False, "see the findings: each names step, field and hint"),
    "no_new_plan": Code("the next plan equals one that failed", False, "change the goal, the inputs or the model"),
    "unknown_tool": Code("a step names a tool that does not exist", False, "list the tools with `raa tools ls`"),
    "model_garbage": Code("the model's answer holds no usable plan", True, "try a stronger model: `raa model ls`"),
    "model_unavailable": Code("no model endpoint answered", True, "check the endpoint with `raa model test`"),
    # a run that ended early
    "attempts_exhausted": Code("every allowed attempt was used", False, "see why each failed: `raa show TASK`"),
    "tries_exhausted": Code("the task's counter of tries reached zero", False, "raise max_attempts"),
    "budget_exhausted": Code("the task's budget is used up", False, "raise budget_usd"),
    "deadline_exceeded": Code("the task's deadline passed", True, "raise deadline_seconds"),
    "cancelled": Code("somebody cancelled the task", False, "submit it again if that was a mistake"),
    "stalled": Code(
        "an event of this task became a dead letter",
        True,
        "see why with `raa dlq ls`, mend it, then `raa dlq redrive --id ID --as-new-task`",
    ),
    "approval_denied": Code("a person denied the action", False, "ask the approver, or plan without this action"),
    "approval_expired": Code("nobody decided before the approval expired", True, "submit again and decide in time"),
    "gave_up": Code("reflection found nothing that could help", False, "see the reason in `raa show TASK`"),
    # a step that failed
    "bad_arguments": Code("the arguments do not fit the tool's schema", False, "see details: one entry per field"),
    "bad_output": Code("the tool returned something that is not JSON", False, "return dicts, lists, text and numbers"),
    "tool_error": Code("the tool raised an error", False, "see the message; run it alone with `raa tools run`"),
    "tool_timeout": Code("the tool did not end in time", True, "raise its timeout or make the step smaller"),
    "unbound_reference": Code("a reference points at nothing in the step's output", False, "fix the JSON pointer"),
    "workspace_conflict": Code("two parallel steps wrote the same path", False, "order them with `after`"),
    "outcome_unknown": Code("nobody knows whether the action happened", False, "look at the far side, then decide"),
    "grant_denied": Code("safety refused the action", False, "see the reason; the policy is in force"),
    "too_large": Code("a value is larger than its bound", False, "pass large values by reference or as a file"),
    "not_numeric": Code("values of a column are not numbers", False, "see details.shapes, then set read options"),
    "unknown_column": Code("the table has no such column", False, "see details for the nearest names"),
    "not_a_table": Code("the file is not a delimited or JSON table", False, "check the file; read it with file.read"),
    "empty_file": Code("the file is empty", False, "check the file that was attached"),
    "file_not_found": Code("the workspace has no file of this name", False, "see details for the names it has"),
    "bad_expression": Code("the expression does not parse or compute", False, "see the message for the position"),
    "internal": Code("a defect in raa", True, "report it with the trace id and the dead letter"),
}


class ErrorInfo(Part):
    """What went wrong, in the words of the table `CODES`, and what to do next."""

    code: str = Field(description="a key of the table of error codes, or a tool's own code")
    message: str = Field(description="what happened, for a person")
    retryable: bool = Field(False, description="whether the same task may succeed if submitted again")
    step_id: str | None = Field(None, description="the step that failed, if one did")
    hint: str | None = Field(None, description="what to do next")
    details: dict[str, Any] = Field(default_factory=dict, description="facts a program can use")


def error(code: str, message: str | None = None, *, step_id: str | None = None, **details: Any) -> ErrorInfo:
    """Build an error from the table; an unknown code (a tool's own) is taken as it is, not retryable."""
    row = CODES.get(code)
    return ErrorInfo(
        code=code,
        message=message or (row.meaning if row else code),
        retryable=row.retryable if row else False,
        step_id=step_id,
        hint=row.hint if row else None,
        details=details,
    )
