"""Applies what is known from experience: lessons, the typed errors of earlier attempts, and hypotheses.

Attempts are read from the first on, every time, so that a later plan keeps what an earlier failure taught.
"""

from collections.abc import Mapping
from typing import Any

from raa_router.offline.merge import merged, united
from raa_router.offline.prompt import Prompt, mapping, mappings, strings, text_of
from raa_router.offline.read_options import options_from_error
from raa_router.offline.skeleton import PROFILE, reference

Plan = dict[str, Any]
_TABLE_TOOLS = frozenset({"table.query", PROFILE})


def apply_lessons(plan: Plan, prompt: Prompt) -> Plan:
    """Merge each lesson into the steps it is about, and cite those that were about one."""
    cited: list[str] = []
    for lesson in prompt.lessons:
        patch = mapping(mapping(lesson.get("then")).get("args"))
        files = strings(lesson.get("applies_to"))
        tool = text_of(lesson.get("tool"))
        places = [place for place, step in enumerate(plan["steps"]) if _concerns(step, tool, files)]
        if not patch or not places:
            continue
        plan = _patched(plan, places, patch)
        cited += [lesson["id"]] if isinstance(lesson.get("id"), str) else []
    return plan | {"lessons": list(dict.fromkeys(cited))}


def apply_attempts(plan: Plan, prompt: Prompt) -> Plan:
    """Merge what earlier attempts' typed errors and hypotheses imply.

    Raises:
        NotUnderstoodError: an error shows that the values cannot be read as what the goal wants.
    """
    for attempt in prompt.attempts:
        plan = _after_error(plan, attempt)
        for hypothesis in mappings(attempt.get("hypotheses")):
            if hypothesis.get("kind") == "adjust_arguments":
                plan = _adjusted(plan, hypothesis)
    for file, columns in _inspections(prompt).items():
        plan = _inspected(plan, prompt, file, columns)
    return plan


def _concerns(step: Mapping[str, Any], tool: str, files: list[str]) -> bool:
    if step["tool"] != tool:
        return False
    file = _file_of(step)
    return file is None or file in files


def _file_of(step: Mapping[str, Any]) -> str | None:
    args = mapping(step.get("args"))
    file = mapping(args.get("table")).get("file", args.get("file"))
    return file if isinstance(file, str) else None


def _patched(plan: Plan, places: list[int], patch: Mapping[str, Any]) -> Plan:
    steps = [
        step | {"args": merged(step["args"], patch)} if place in places else step
        for place, step in enumerate(plan["steps"])
    ]
    return plan | {"steps": steps}


def _reading(plan: Plan, file: str, patch: Mapping[str, Any]) -> Plan:
    """Merge into every step that reads the table `file`, whatever its tool: they read the same cells."""
    places = [
        place for place, step in enumerate(plan["steps"]) if step["tool"] in _TABLE_TOOLS and _file_of(step) == file
    ]
    return _patched(plan, places, patch)


def _after_error(plan: Plan, attempt: Mapping[str, Any]) -> Plan:
    failed = mapping(attempt.get("failed_step"))
    error = mapping(failed.get("error"))
    steps = {step.get("id"): step for step in mappings(mapping(attempt.get("plan")).get("steps"))}
    step = mapping(steps.get(failed["step"])) if isinstance(failed.get("step"), str) else {}
    file = _file_of(step)
    if file is None:
        return plan
    details = mapping(error.get("details"))
    if error.get("code") == "not_numeric":
        read = mapping(mapping(mapping(step.get("args")).get("table")).get("read"))
        options = options_from_error(details, text_of(error.get("message")), read)
        return _reading(plan, file, {"table": {"read": options}}) if options else plan
    if error.get("code") == "unknown_column":
        return _renamed(plan, file, text_of(details.get("column")), strings(details.get("near")))
    return plan


def _renamed(plan: Plan, file: str, column: str, near: list[str]) -> Plan:
    """Take the nearest name for a column the table turned out not to have."""
    if not column or not near:
        return plan
    steps = [
        step | {"args": _replaced(step["args"], column, near[0])} if _file_of(step) == file else step
        for step in plan["steps"]
    ]
    return plan | {"steps": steps}


def _replaced(args: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    def one(value: Any) -> Any:
        if isinstance(value, dict) and value.get("column") == old:
            return value | {"column": new}
        return new if value == old else value

    lists = ("select", "where", "order_by", "group_by", "columns")
    return {
        key: [one(item) for item in value] if key in lists and isinstance(value, list) else value
        for key, value in args.items()
    }


def _adjusted(plan: Plan, hypothesis: Mapping[str, Any]) -> Plan:
    patch = mapping(mapping(hypothesis.get("then")).get("args"))
    file = text_of(hypothesis.get("file"))
    tool = text_of(hypothesis.get("tool"))
    places = [
        place for place, step in enumerate(plan["steps"])
        if step["tool"] == tool and (not file or _file_of(step) in {None, file})
    ]  # fmt: skip
    return _patched(plan, places, patch) if patch else plan


def _inspections(prompt: Prompt) -> dict[str, list[str]]:
    """Collect by file the columns whose values some hypothesis wants inspected; the empty name means any file."""
    found: dict[str, list[str]] = {}
    for attempt in prompt.attempts:
        for hypothesis in mappings(attempt.get("hypotheses")):
            file, columns = text_of(hypothesis.get("file")), strings(hypothesis.get("columns"))
            if hypothesis.get("kind") == "inspect_values" and columns:
                found[file] = list(dict.fromkeys([*found.get(file, []), *columns]))
            elif _missing_told(hypothesis):
                found.pop(file, None)
    return found


def _missing_told(hypothesis: Mapping[str, Any]) -> bool:
    """Say whether a hypothesis names the missing values itself: then nobody has to look for them any more."""
    table = mapping(mapping(mapping(hypothesis.get("then")).get("args")).get("table"))
    return hypothesis.get("kind") == "adjust_arguments" and bool(mapping(table.get("read")).get("missing"))


def _inspected(plan: Plan, prompt: Prompt, file: str, columns: list[str]) -> Plan:
    """Put a profile with the same read options before each query, and leave out as missing what it suspects."""
    if PROFILE not in prompt.tools:
        return plan
    steps: list[Any] = []
    taken = {step["id"] for step in plan["steps"]}
    for step in plan["steps"]:
        own = [column for column in columns if column in _computed(step)]
        if step["tool"] != "table.query" or not own or (file and _file_of(step) != file):
            steps.append(step)
            continue
        name = _free_id("profile", taken)
        read = mapping(mapping(step["args"].get("table")).get("read"))
        table = {"file": _file_of(step)} | ({"read": dict(read)} if read else {})
        steps.append({"id": name, "tool": PROFILE, "args": {"table": table, "columns": own}, "after": []})
        complete = {"file": _file_of(step), "read": dict(read) | {"missing": _missing(name, own, read)}}
        steps.append(step | {"args": step["args"] | {"table": complete}})
    return plan | {"steps": steps}


def _computed(step: Mapping[str, Any]) -> set[str]:
    """Name the columns a query aggregates, orders by or filters on."""
    args = mapping(step.get("args"))
    parts = [*mappings(args.get("select")), *mappings(args.get("where")), *mappings(args.get("order_by"))]
    return {part["column"] for part in parts if isinstance(part.get("column"), str)}


def _missing(profile: str, columns: list[str], read: Mapping[str, Any]) -> Any:
    """Refer to the suspects as a whole if nothing else is missing; else a list can only take them one by one."""
    known = read.get("missing")
    if len(columns) == 1 and not known:
        return reference(profile, "columns", 0, "suspects")
    firsts = [reference(profile, "columns", place, "suspects", 0) for place in range(len(columns))]
    return united(known if isinstance(known, list) else [], firsts)


def _free_id(stem: str, taken: set[Any]) -> str:
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name
