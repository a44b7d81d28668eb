"""From a failure to what the next plan should try, or to the reason why nothing would help."""

from typing import Any, NamedTuple

from raa_reflector.domain.attempt import PROFILE_TOOL, Attempt, Failure, ProfiledColumn, Use
from raa_reflector.domain.spelling import is_ambiguous, read_options, values_told
from raa_reflector.domain.trace import origins
from raa_schemas.canonical import digest
from raa_schemas.check import failed_path
from raa_schemas.reflection import CheckReport, Hypothesis

# No plan can do anything about these: the reason lies in the file, in a person's decision or in raa itself.
FINAL_CODES = frozenset(
    {
        "empty_file",
        "claim_gone",
        "grant_denied",
        "approval_denied",
        "approval_expired",
        "internal",
        "outcome_unknown",
        "budget_exhausted",
        "deadline_exceeded",
    }
)
_SIDES = {">=": "below", ">": "below", "<=": "above", "<": "above"}


class Diagnosis(NamedTuple):
    """What a failure means; `hopeless` says that another plan could not help."""

    reason: str
    hypotheses: list[Hypothesis]
    hopeless: bool


class Suspicion(NamedTuple):
    """A file whose columns lie behind a value outside its bound."""

    use: Use
    columns: list[str]


def diagnose_failures(history: list[Attempt], attempt: Attempt) -> Diagnosis:
    """Explain a run in which steps failed."""
    failures = attempt.failures
    final = next((failure for failure in failures if _is_final(failure)), None)
    if final is not None:
        return Diagnosis(f"{_told(final)}; no other plan can help", [], hopeless=True)
    if (known := _after_empty_profile(history, attempt)) is not None:
        return known
    proposed = _fresh(history, [hypothesis for failure in failures for hypothesis in _from_error(attempt, failure)])
    told = "; ".join(map(_told, failures)) or "the run failed"
    if proposed:
        return Diagnosis(f"{told}; the error says what to change", proposed, hopeless=False)
    if failures and all(_came_back(history, failure) for failure in failures):
        return Diagnosis(f"{told}; the same error came back, and nothing new suggests itself", [], hopeless=True)
    return Diagnosis(f"{told}; another plan may avoid it", [], hopeless=False)


def diagnose_check(history: list[Attempt], attempt: Attempt, report: CheckReport) -> Diagnosis:
    """Explain a run that succeeded although its check does not hold."""
    told = _told_check(report)
    if not _suspicions(attempt, report):
        if any(_same_check(report, earlier.report) for earlier in history):
            return Diagnosis(f"{told}, as before, and nothing ties it to the values of an input", [], hopeless=True)
        return Diagnosis(f"{told}; another plan may do better", [], hopeless=False)
    return _weigh(history, attempt, report, attempt.profiles)


def _after_empty_profile(history: list[Attempt], attempt: Attempt) -> Diagnosis | None:
    """Go back to the check that asked for a profile, if the plan failed only because it counted on its suspects."""
    codes = {failure.error.code for failure in attempt.failures if failure.error is not None}
    asked = next((past for past in reversed(history) if past.report is not None), None)
    if codes != {"unbound_reference"} or not attempt.profiles or asked is None or asked.report is None:
        return None
    if asked.report.value or not _suspicions(asked, asked.report):
        return None
    return _weigh(history, asked, asked.report, attempt.profiles)


def _weigh(history: list[Attempt], attempt: Attempt, report: CheckReport, newest: list[ProfiledColumn]) -> Diagnosis:
    """Weigh what is known of the columns behind a failed check."""
    seen = [*(column for past in history for column in past.profiles), *newest]
    hypotheses: list[Hypothesis] = []
    reasons: list[str] = []
    for suspicion in _suspicions(attempt, report):
        proposal, reason = _suspect(attempt, report, suspicion, seen)
        hypotheses += [proposal] if proposal is not None else []
        reasons.append(reason)
    fresh = _fresh(history, hypotheses)
    if not fresh and hypotheses:
        reasons = ["this was already proposed, and the plan that followed did not settle it"]
    told = "; ".join([_told_check(report), *dict.fromkeys(reasons)])
    return Diagnosis(told, fresh, hopeless=not fresh)


def error_options(attempt: Attempt, use: Use) -> dict[str, Any]:
    """Infer from a use's typed error the options that would have avoided it, as a patch on its options."""
    if use.error is None or use.error.code != "not_numeric":
        return {}
    source = attempt.source(use.file)
    known = (use.options or {}).get("read")
    details = {"count": values_told(use.error.message)} | use.error.details
    options = read_options(
        details, known if isinstance(known, dict) else {}, source.delimiter if source is not None else None
    )
    return {"read": options} if options else {}


def _from_error(attempt: Attempt, failure: Failure) -> list[Hypothesis]:
    use = attempt.use_of(failure.step)
    if use is None or failure.error is None:
        return []
    because = {
        "step": attempt.cite(failure.step),
        "code": failure.error.code,
        "column": failure.error.details.get("column"),
    }
    if patch := error_options(attempt, use):
        return [_adjust(use, _outspoken(patch, failure.error.details), because)]
    near = failure.error.details.get("near")
    if failure.error.code == "unknown_column" and isinstance(near, list) and near and isinstance(near[0], str):
        # A merge patch cannot rename an entry of a list: the nearest name goes to the next plan as a column.
        return [
            Hypothesis(
                kind="adjust_arguments",
                tool=use.tool,
                file=use.file,
                columns=[near[0]],
                because=because | {"near": near},
            )
        ]
    return []


def _outspoken(patch: dict[str, Any], details: dict[str, Any]) -> dict[str, Any]:
    """Say what both signs are where one could be taken for the other, so that no other reading is merged with ours."""
    if not is_ambiguous(details):
        return patch
    return {"read": {"decimal": ".", "thousands": None} | patch["read"]}


def _adjust(use: Use, patch: dict[str, Any], because: dict[str, Any]) -> Hypothesis:
    return Hypothesis(
        kind="adjust_arguments", tool=use.tool, file=use.file, then={"args": {use.argument: patch}}, because=because
    )


def _suspicions(attempt: Attempt, report: CheckReport) -> list[Suspicion]:
    """Follow a bound that does not hold to the files and columns behind it."""
    atom, place = report.failed_atom, failed_path(report)
    if atom is None or place is None or atom["op"] not in _SIDES or not _is_number(atom["bound"]):
        return []
    found = [(attempt.use_of(origin.step), list(origin.columns)) for origin in origins(attempt.plan, place)]
    return [Suspicion(use, columns) for use, columns in found if use is not None]


def _suspect(
    attempt: Attempt, report: CheckReport, suspicion: Suspicion, seen: list[ProfiledColumn]
) -> tuple[Hypothesis | None, str]:
    """Decide on one file: look at its values, leave suspects out, or believe them."""
    use, columns = suspicion
    because = {"check": report.check, "actual": (report.failed_atom or {}).get("actual")}
    looked = [column for column in seen if column.file == use.file and column.column in columns]
    if {column.column for column in looked} != set(columns):
        if not attempt.may_use(PROFILE_TOOL):
            return None, f"the values of {', '.join(columns)} may be wrong, but {PROFILE_TOOL} is not allowed here"
        asked = Hypothesis(kind="inspect_values", tool=PROFILE_TOOL, file=use.file, columns=columns, because=because)
        return asked, f"the values of {', '.join(columns)} in {use.file} need a look"
    suspects = list(dict.fromkeys(value for column in looked for value in column.suspects if _is_number(value)))
    if not suspects:
        return None, _believed(report, looked)
    listed = ", ".join(map(str, suspects))
    left_out = _left_out(use)
    if all(value in left_out for value in suspects):
        return None, f"leaving out {listed} in {use.file} does not make it hold"
    adjusted = _adjust(use, {"read": {"missing": suspects}}, because)
    return adjusted, f"{listed} in {use.file} may stand for missing values"


def _believed(report: CheckReport, looked: list[ProfiledColumn]) -> str:
    atom = report.failed_atom or {}
    where = f"{_SIDES.get(str(atom.get('op')), 'beyond')} {atom.get('bound')}"
    newest = {column.column: column for column in looked}
    return "; ".join(
        f"values {where} in {name} are spread over {column.distinct} distinct values, {column.low} to {column.high}, "
        "none of them apart; they look real"
        for name, column in newest.items()
    )


def _left_out(use: Use) -> list[Any]:
    read = (use.options or {}).get("read")
    missing = read.get("missing") if isinstance(read, dict) else None
    return missing if isinstance(missing, list) else []


def _fresh(history: list[Attempt], hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Keep what was not proposed before, each once."""
    known = {_key(hypothesis) for attempt in history for hypothesis in attempt.hypotheses}
    fresh = {key: hypothesis for hypothesis in hypotheses if (key := _key(hypothesis)) not in known}
    return list(fresh.values())


def _key(hypothesis: Hypothesis) -> str:
    return digest(hypothesis.model_dump(include={"kind", "tool", "file", "columns", "then"}))


def _is_final(failure: Failure) -> bool:
    return failure.outcome == "outcome_unknown" or (failure.error is not None and failure.error.code in FINAL_CODES)


def _came_back(history: list[Attempt], failure: Failure) -> bool:
    return any(failure.same_as(earlier) for attempt in history for earlier in attempt.failures)


def _same_check(report: CheckReport, earlier: CheckReport | None) -> bool:
    return (
        earlier is not None
        and not earlier.value
        and (report.reason, report.failed_atom) == (earlier.reason, earlier.failed_atom)
    )


def _told(failure: Failure) -> str:
    if failure.step == failure.tool == "result" and failure.error is not None:
        return failure.error.message
    if failure.error is None:
        return f"step {failure.step} ({failure.tool}) ended as {failure.outcome}"
    return f"step {failure.step} ({failure.tool}) failed: {failure.error.message}"


def _told_check(report: CheckReport) -> str:
    if report.reason is not None:
        return f"the check {report.check!r} could not be computed: {report.reason}"
    atom = report.failed_atom or {}
    return f"the check {report.check!r} does not hold: {atom.get('path') or 'its value'} is {atom.get('actual')}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
