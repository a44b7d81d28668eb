"""Turns a request into steps: which query on which file, what compares them, what is written; no read option yet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raa_router.offline.lexer import Token, columns_like
from raa_router.offline.prompt import Source
from raa_router.offline.request import Filter, Measure, NotUnderstoodError, Request

QUERY, PROFILE, CALCULATE, WRITE, READ, LIST = (
    "table.query", "table.profile", "calculate", "file.write", "file.read", "file.list",
)  # fmt: skip
_LIMIT = 1000
_MOST = 10_000
_DECIMALS = 4


@dataclass(frozen=True)
class _Job:
    """One query: what is computed of which file under which conditions."""

    source: Source
    measures: tuple[Measure, ...]
    filters: tuple[Filter, ...]
    label: str


def reference(step: str, *path: str | int) -> dict[str, Any]:
    """Refer to a part of a step's output by JSON pointer."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return {"ref": step, "path": "".join(f"/{part}" for part in parts)}


def single_step(step: str, tool: str, args: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Build a plan of one step whose output at `path` is the result."""
    return {"steps": [_step(step, tool, args)], "result": {"ref": step, "path": path}, "lessons": []}


def with_report(plan: dict[str, Any], title: str, path: str) -> dict[str, Any]:
    """Add a step that writes the plan's result to a file."""
    lines = ["# ", title, "\n\n", plan["result"], "\n"]
    steps = [*plan["steps"], _step("write", WRITE, {"path": path, "parts": lines, "decimals": _DECIMALS})]
    return plan | {"steps": steps}


def plan_of(request: Request, sources: Sequence[Source], goal: str) -> dict[str, Any]:
    """Choose a skeleton for the request and fill it in.

    Raises:
        NotUnderstoodError: a column or file cannot be told, or the request does not say what to compute.
    """
    request = _settled(request)
    if request.profile or (request.read and not request.measures):
        return _look(request, sources, goal)
    jobs = list(_jobs(request, sources))
    steps = [_step(name, QUERY, _query(job, request)) for name, job in zip(_ids(jobs), jobs, strict=True)]
    names = [step["id"] for step in steps]
    values = _values(names, jobs, request)
    if request.compare and len(values) > 1 and not any(_is_rows(value) for value in values.values()):
        steps.append(_comparison(values))
        values = values | {"difference": reference(steps[-1]["id"], "value")}
    if path := _output(request):
        steps.append(_report(path, goal, jobs, values, request))
    result = next(iter(values.values())) if len(values) == 1 else values
    return {"steps": steps, "result": result, "lessons": []}


def _step(step: str, tool: str, args: dict[str, Any]) -> dict[str, Any]:
    return {"id": step, "tool": tool, "args": args, "after": []}


def _output(request: Request) -> str | None:
    if request.path is not None:
        return request.path
    if request.writes and not request.report:
        raise NotUnderstoodError("the goal asks to write something, but not where; add for example `to report.md`")
    return "report.md" if request.report else None


def _settled(request: Request) -> Request:
    """Decide what a top n ranks, and refuse requests that do not say what to compute."""
    if request.top is not None and request.measures:
        groups = request.groups or request.picks
        if not groups:
            raise NotUnderstoodError("the goal asks for the top of a single number; say by which column to group")
        request = replace(request, groups=groups, picks=[])
    elif request.top is not None:
        order = request.order_by or next(iter(request.picks), None)
        if order is None:
            raise NotUnderstoodError("the goal asks for a top n, but names no column to order by")
        request = replace(request, order_by=order)
    if request.picks and request.measures:
        spare = ", ".join(f"'{token.text}'" for token in request.picks)
        raise NotUnderstoodError(f"the goal asks about {spare} beside what it computes, without saying what for")
    computes = request.measures or request.top is not None or (request.picks and request.filters)
    if not computes and not request.profile and not request.read:
        raise NotUnderstoodError(
            "the goal asks for nothing that can be computed; say which function (mean, sum, count, …) of which column"
        )
    return request


# -- files and columns


def _column(token: Token, source: Source) -> str:
    own = [name for name in token.names if name in source.columns] or list(columns_like(token.text, source.columns))
    if not own:
        raise NotUnderstoodError(f"the goal asks for '{token.text}', which {_lacks(source)}")
    return own[0]


def _lacks(source: Source) -> str:
    if not source.columns:
        kind = f"{source.format}, not a table" if source.format else "no table"
        return f"cannot be read from {source.name}: it is {kind}"
    shown = ", ".join(source.columns[:20]) + (", …" if len(source.columns) > 20 else "")
    return f"is no column of {source.name}; it has {shown}"


def _has(source: Source, tokens: Sequence[Token]) -> bool:
    return all(any(name in source.columns for name in token.names) for token in tokens)


def _needed(request: Request) -> list[Token]:
    columns = [measure.column for measure in request.measures if measure.column is not None]
    columns += [condition.column for condition in request.filters]
    return [*columns, *request.groups, *request.picks, *([request.order_by] if request.order_by else [])]


def _chosen(request: Request, sources: Sequence[Source]) -> list[Source]:
    """Return the files the goal names, or the one input that has the columns it names."""
    if not sources:
        raise NotUnderstoodError("the goal asks about a table, but no input is attached; attach it with --input FILE")
    if request.files:
        return [source for name in request.files for source in sources if source.name == name]
    if request.every_file or len(sources) == 1:
        return list(sources)
    needed = _needed(request)
    able = [source for source in sources if source.columns and _has(source, needed)]
    if len(able) == 1 or (able and request.compare):
        return able
    names = ", ".join(source.name for source in able or sources)
    asked = ", ".join(f"'{token.text}'" for token in needed) or "rows"
    which = f"all of {names} have" if able else f"none of {names} has all of"
    raise NotUnderstoodError(f"the goal asks for {asked} without naming a file, and {which} that; name the file")


def _paired(request: Request, sources: Sequence[Source]) -> Iterator[tuple[Source, tuple[Measure, ...]]]:
    """Pair measures with files as the goal does: `the mean of A in F and the max of B in G` are two pairs."""
    if not request.files:
        for source in _chosen(request, sources):
            yield source, tuple(request.measures)
        return
    by_name = {source.name: source for source in sources}
    for names, measures in _segments(request.mentions):
        for name in names:
            yield by_name[name], tuple(measures)


def _segments(mentions: Sequence[Measure | str]) -> list[tuple[list[str], list[Measure]]]:
    """Cut the mentions where a new pair begins; what lacks its counterpart takes that of its neighbour."""
    files_first = isinstance(mentions[0], str)
    segments: list[tuple[list[str], list[Measure]]] = []
    for mention in mentions:
        opens = isinstance(mention, str) == files_first
        closed = segments and (segments[-1][1] if files_first else segments[-1][0])
        if not segments or (opens and closed):
            segments.append(([], []))
        names, measures = segments[-1]
        if isinstance(mention, str):
            names.append(mention)
        else:
            measures.append(mention)
    if len(segments) > 1 and not all(segments[-1]):
        last = segments[-1]
        segments[-1] = (last[0] or segments[-2][0], last[1] or segments[-2][1])
    return segments


# -- queries


def _jobs(request: Request, sources: Sequence[Source]) -> Iterator[_Job]:
    pairs = list(dict.fromkeys(_paired(request, sources)))
    several = len({source.name for source, _ in pairs}) > 1
    for source, measures in pairs:
        if request.compare and not several and not request.groups:
            yield from _sides(source, measures, request)
        else:
            label = source.name if len({name.name for name, _ in pairs}) == len(pairs) else _titled(measures, source)
            yield _Job(source, measures, tuple(request.filters), label)


def _titled(measures: Sequence[Measure], source: Source) -> str:
    return f"{' and '.join(_named(measure) for measure in measures)} in {source.name}"


def _named(measure: Measure) -> str:
    return f"{measure.function} of {measure.column.text}" if measure.column else "count of rows"


def _sides(source: Source, measures: tuple[Measure, ...], request: Request) -> Iterator[_Job]:
    """Split a comparison within one file: by its measures, or by conditions that no row could fulfil together."""
    opposed = [one for one in request.filters if one.operator == "=="
               and sum(other.column.names == one.column.names for other in request.filters) > 1]  # fmt: skip
    common = tuple(one for one in request.filters if one not in opposed)
    if len(opposed) > 1:
        for one in opposed:
            yield _Job(source, measures, (*common, one), f"{one.column.text} {one.value}")
    elif len(measures) > 1:
        for measure in measures:
            yield _Job(source, (measure,), tuple(request.filters), _named(measure))
    else:
        raise NotUnderstoodError("the goal asks to compare, but names one thing only; name two files or two columns")


def _query(job: _Job, request: Request) -> dict[str, Any]:
    groups = [_column(token, job.source) for token in request.groups]
    selected = [_selected(measure, job, groups) for measure in job.measures]
    order: list[dict[str, Any]] = []
    if request.top is not None and selected:
        order = [{"as": selected[0]["as"], "desc": request.descending}]
    elif request.order_by is not None:
        order = [{"column": _column(request.order_by, job.source), "desc": request.descending}]
    if not selected and (request.picks or not request.whole_rows):
        shown = [*request.picks, *([request.order_by] if request.order_by else [])]
        selected = [{"column": name} for name in dict.fromkeys(_column(token, job.source) for token in shown)]
    return {
        "table": {"file": job.source.name},
        "select": selected,
        "where": [_condition(one, job.source) for one in job.filters],
        "group_by": groups,
        "order_by": order,
        "limit": min(max(request.top or _LIMIT, 1), _MOST),
    }


def _selected(measure: Measure, job: _Job, groups: Sequence[str]) -> dict[str, Any]:
    column = "*" if measure.column is None else _column(measure.column, job.source)
    return {"fn": measure.function, "column": column, "as": _alias(measure, job, groups)}


def _alias(measure: Measure, job: _Job, groups: Sequence[str]) -> str:
    """Call a value by its function where that is clear, else also by its column; never like a group column."""
    alike = sum(other.function == measure.function for other in job.measures)
    name = measure.function
    if alike > 1 and measure.column is not None:
        name = f"{name}_{_column(measure.column, job.source)}"
    while name in groups:
        name += "_value"
    return name


def _condition(one: Filter, source: Source) -> dict[str, Any]:
    return {"column": _column(one.column, source), "op": one.operator, "value": one.value}


def _ids(jobs: Sequence[_Job]) -> list[str]:
    """Name the query steps: by the function if there is one query, else also numbered."""
    stems = ["_".join(dict.fromkeys(measure.function for measure in job.measures)) or "query" for job in jobs]
    return [f"{stem[:40]}_{place}" if len(jobs) > 1 else stem[:40] for place, stem in enumerate(stems, 1)]


# -- results


def _values(names: Sequence[str], jobs: Sequence[_Job], request: Request) -> dict[str, dict[str, Any]]:
    """Name every value of the result: single numbers by what they are, rows by their file."""
    values: dict[str, dict[str, Any]] = {}
    for name, job in zip(names, jobs, strict=True):
        if request.groups or not job.measures:
            values[_free(job.label, values)] = reference(name, "rows")
            continue
        for measure in job.measures:
            label = job.label if len(job.measures) == 1 and len(jobs) > 1 else _named(measure)
            if len(job.measures) > 1 and len(jobs) > 1:
                label = f"{_named(measure)} in {job.source.name}"
            values[_free(label, values)] = reference(name, "rows", 0, _alias(measure, job, ()))
    return values


def _is_rows(value: Mapping[str, Any]) -> bool:
    return bool(value["path"] == "/rows")


def _free(label: str, taken: Mapping[str, Any]) -> str:
    while label in taken or label == "difference":
        label += " (again)"
    return label


def _comparison(values: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Compute first minus second; of more than two values, the distance of the largest from the smallest."""
    letters = [f"v{number}" for number in range(1, len(values) + 1)]
    listed = ", ".join(letters)
    expression = "v1 - v2" if len(letters) == 2 else f"max({listed}) - min({listed})"
    named = dict(zip(letters, values.values(), strict=True))
    return _step("difference", CALCULATE, {"expression": expression, "values": named})


def _report(
    path: str, goal: str, jobs: Sequence[_Job], values: Mapping[str, dict[str, Any]], request: Request
) -> dict[str, Any]:
    """Write each value with its name; what the comparison means is left to its sign, which is known only then."""
    parts: list[Any] = ["# ", _title(jobs, request), "\n\n", f"Goal: {' '.join(goal.split())}\n\n"]
    labels = [label for label in values if label != "difference"]
    for label in labels:
        before, after = (f"{label}:\n\n```json\n", "\n```\n") if _is_rows(values[label]) else (f"- {label}: ", "\n")
        parts += [before, values[label], after]
    if "difference" in values:
        meaning = (
            f"{labels[0]} minus {labels[1]}; above zero the first is larger, below zero the second"
            if len(labels) == 2 else "largest minus smallest"
        )  # fmt: skip
        parts += ["- difference: ", values["difference"], f" ({meaning})\n"]
    return _step("write", WRITE, {"path": path, "parts": parts, "decimals": _DECIMALS})


def _title(jobs: Sequence[_Job], request: Request) -> str:
    measures = list(dict.fromkeys(_named(measure) for job in jobs for measure in job.measures))
    title = ", ".join(measures) or "Rows"
    by = f" by {', '.join(token.text for token in request.groups)}" if request.groups else ""
    return title[:1].upper() + title[1:] + by


def _look(request: Request, sources: Sequence[Source], goal: str) -> dict[str, Any]:
    """Profile the columns of a file, or read a file as text."""
    chosen = _chosen(request, sources)
    if len(chosen) != 1 or request.filters or request.groups or request.top is not None:
        raise NotUnderstoodError("the goal asks to look at a file; name one file, without conditions")
    source = chosen[0]
    if request.read:
        plan = single_step("read", READ, {"file": source.name}, "/text")
    else:
        columns = [_column(token, source) for token in request.picks] or list(source.columns)
        if not columns:
            raise NotUnderstoodError(f"the goal asks for a profile, which {_lacks(source)}")
        plan = single_step("profile", PROFILE, {"table": {"file": source.name}, "columns": columns}, "/columns")
    path = _output(request)
    return with_report(plan, " ".join(goal.split()), path) if path else plan
