"""Writes the story of a task as one HTML page: nothing is loaded from outside, no script runs, all text is escaped."""

import json
from html import escape
from typing import Any

from raa_cli.page_style import STYLE
from raa_cli.plan_picture import draw_plan
from raa_cli.timeline import short
from raa_client.story import AttemptStory, DecisionStory, LessonStory, StepStory, Story

_STEP_BADGES = {"succeeded": "good", "failed": "bad", "outcome_unknown": "bad"}
_VERDICT_BADGES = {"accept": "good", "replan": "wait", "give_up": "bad"}
_VALUE_CHARACTERS = 4_000
# No source is allowed at all: a page that leaves this machine must not call home.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(story: Story) -> str:
    """Return the whole page."""
    body = "".join([_header(story), *map(_attempt, story.attempts), _artifacts(story), _safety(story.decisions)])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(story.goal)}</title>\n<style>{STYLE}</style>\n</head>\n<body><main>\n{body}\n</main></body>\n</html>\n"
    )


def _header(story: Story) -> str:
    done = story.done
    facts = [("Attempts", str(done.attempts if done else len(story.attempts)))]
    if story.success_check:
        facts.append(("Success check", story.success_check))
    if done and done.outcome == "succeeded":
        facts.append(("Checked", "yes" if done.checked else "no, nobody checked it"))
    facts += [("Inputs", ", ".join(story.inputs) or "none"), ("Memory", story.memory)]
    if done:
        facts += [("Took", f"{done.durations.total_ms / 1000:.2f} s"), ("Cost", f"{done.cost_microusd / 1e6:.4f} USD")]
    result = ""
    if done and done.outcome == "succeeded":
        result = f"<h3>Result</h3><pre>{escape(_long(done.result))}</pre>"
    if done and done.error:
        hint = f" {done.error.hint}" if done.error.hint else ""
        result += f'<p class="why bad"><b>{escape(done.error.code)}</b> {escape(done.error.message)}.{escape(hint)}</p>'
    if story.waiting_for and not done:
        result += f'<p class="why wait">Waits for {escape(story.waiting_for)}</p>'
    kind = "wait" if done is None else "good" if done.outcome == "succeeded" else "bad"
    when = f"{story.submitted_at:%Y-%m-%d %H:%M:%S} UTC" if story.submitted_at else ""
    return (
        f'<header><p class="quiet mono">{escape(story.task_id)} · tenant {escape(story.tenant)} · {when}</p>'
        f"<h1>{escape(story.goal)}</h1><p>{_badge(story.state.replace('_', ' '), kind)}</p></header>"
        f'<section class="card">{_facts(facts)}{result}</section>'
    )


def _facts(facts: list[tuple[str, str]]) -> str:
    return (
        '<dl class="facts">'
        + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
        + "</dl>"
    )


def _badge(text: str, kind: str) -> str:
    return f'<span class="badge {kind}">{escape(text)}</span>'


def _attempt(attempt: AttemptStory) -> str:
    verdict = attempt.verdict or attempt.state
    kind = "bad" if attempt.state == "rejected" else _VERDICT_BADGES.get(verdict, "wait")
    title = f"Attempt {attempt.attempt}" if attempt.executed else f"Plan {attempt.plan_version}, not executed"
    badge = _badge(verdict.replace("_", " "), kind)
    origin = f'<span class="quiet">plan {attempt.plan_version}, by {escape(attempt.origin)}</span>'
    parts = [
        f'<section class="card"><div class="head"><h2>{title}</h2>{badge}{origin}</div>',
        _listed("Tries", attempt.tried),
        _lessons("Lessons used", attempt.lessons_used),
        f'<div class="scroll">{draw_plan(attempt.steps, f"Plan {attempt.plan_version}")}</div>',
        f'<p class="why {kind}"><b>Why it ended:</b> {escape(attempt.why_ended)}</p>',
        _lessons("Lessons learned", attempt.lessons_learned),
        _steps(attempt.steps),
        "</section>",
    ]
    return "".join(parts)


def _listed(title: str, items: list[str]) -> str:
    if not items:
        return ""
    return f"<h3>{escape(title)}</h3><ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _lessons(title: str, lessons: list[LessonStory]) -> str:
    if not lessons:
        return ""
    rows = []
    for lesson in lessons:
        evidence = f' <span class="quiet">{escape("; ".join(lesson.evidence))}</span>' if lesson.evidence else ""
        then = (
            f"<details><summary>What it changes</summary><pre>{escape(_long(lesson.then))}</pre></details>"
            if lesson.then
            else ""
        )
        rows.append(
            f"<li>{escape(lesson.text or 'learned from another task')} <code>{escape(lesson.id)}</code>{evidence}"
            f"{then}</li>"
        )
    return f"<h3>{escape(title)}</h3><ul>{''.join(rows)}</ul>"


def _steps(steps: list[StepStory]) -> str:
    return (
        "<h3>Steps</h3><table><tr><th>step</th><th>tool</th><th>outcome</th><th>what it gave</th></tr>"
        + "".join(map(_step, steps))
        + "</table>"
    )


def _step(step: StepStory) -> str:
    said = (
        f"{step.error_code}: {step.error}" if step.error else short(step.output, 160) if step.output is not None else ""
    )
    took = f' <span class="quiet">{step.duration_ms} ms</span>' if step.tries else ""
    more = (
        f"<details><summary>Arguments and output</summary><pre>{escape(_long(step.args))}</pre>"
        f"<pre>{escape(_long(step.output))}</pre></details>"
    )
    badge = _badge(step.outcome.replace("_", " "), _STEP_BADGES.get(step.outcome, "wait"))
    return (
        f"<tr><td><b>{escape(step.id)}</b></td><td><code>{escape(step.tool)}</code></td><td>{badge}{took}</td>"
        f"<td>{escape(said)}{more}</td></tr>"
    )


def _artifacts(story: Story) -> str:
    files = story.done.artifacts if story.done else []
    return _listed("Files", [f"{file.name} ({file.size} bytes, sha256 {file.sha256[:16]}…)" for file in files])


def _safety(decisions: list[DecisionStory]) -> str:
    if not decisions:
        return ""
    rows = "".join(
        f"<tr><td>{decision.at:%H:%M:%S}</td><td>{escape(decision.about)}</td><td>{escape(decision.decision)}</td>"
        f"<td>{escape(decision.why)}</td></tr>"
        for decision in decisions
    )
    return (
        '<h2>What safety decided</h2><section class="card"><table><tr><th>when</th><th>about</th><th>decision</th>'
        f"<th>why</th></tr>{rows}</table></section>"
    )


def _long(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return text if len(text) <= _VALUE_CHARACTERS else text[:_VALUE_CHARACTERS] + f"\n… {len(text)} characters in all"
