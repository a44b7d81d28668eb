"""Tells the story of a task, and what the agent knows."""

from datetime import datetime
from pathlib import Path

from rich.console import Console

from raa_cli.execute import CommandFailed
from raa_cli.output import print_json
from raa_cli.session import Place, reading, service_url, something_there
from raa_cli.story_page import page
from raa_cli.telling import printable
from raa_cli.timeline import open_console, short
from raa_cli.web import ask
from raa_client.client import Client
from raa_client.story import AttemptStory, Story, fold_story, lessons_cited
from raa_schemas.recall import KnownLesson, KnownLessons


async def show(place: Place, task_id: str, html: Path | None, *, as_json: bool) -> None:
    """Print the story of a task, or write it as a page."""
    async with reading(place) as session:
        story = await story_of(session.client, task_id)
    if html:
        write_page(story, html)
    if as_json:
        print_json(story.to_json() | ({"html": str(html)} if html else {}))
    elif html:
        print(html)
    else:
        print_story(story, open_console())


async def story_of(client: Client, task_id: str) -> Story:
    """Fold a task's events; lessons it took from elsewhere get their words from where they were learned."""
    events = await client.history(task_id)
    return fold_story(events, await client.lessons(lessons_cited(events)))


def write_page(story: Story, path: Path) -> None:
    """Write the page; raises CommandFailed when the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(story), encoding="utf-8")
    except OSError as problem:
        raise CommandFailed(f"{path} cannot be written: {problem.strerror}; name another with --html") from None


def print_story(story: Story, console: Console) -> None:
    """Print a story for people."""

    def say(text: str, style: str = "") -> None:
        console.print(printable(text), style=style, markup=False, soft_wrap=not console.is_terminal)

    say(f"{story.task_id}: {story.goal}", "bold")
    say(f"  state     {story.state}{f', waiting for {story.waiting_for}' if story.waiting_for else ''}")
    if story.success_check:
        say(f"  check     {story.success_check}")
    if story.inputs:
        say(f"  inputs    {', '.join(story.inputs)}")
    if story.done and story.done.error:
        say(f"  error     {story.done.error.code}: {story.done.error.message}", "red")
    if story.done and story.done.outcome == "succeeded":
        say(f"  result    {short(story.done.result)}{'' if story.done.checked else ' (nobody checked it)'}", "green")
    for attempt in story.attempts:
        for line, style in _attempt_lines(attempt):
            say(line, style)
    say("safety", "bold")
    for decision in story.decisions:
        say(f"  {decision.about}: {decision.decision}{f' ({decision.why})' if decision.why else ''}", "dim")


def _attempt_lines(attempt: AttemptStory) -> list[tuple[str, str]]:
    title = f"attempt {attempt.attempt}, plan {attempt.plan_version} ({attempt.origin})"
    lines = [(title, "bold")]
    lines += [(f"  tries     {tried}", "") for tried in attempt.tried]
    lines += [(f"  uses      {used.id} {used.text or ''}".rstrip(), "") for used in attempt.lessons_used]
    for step in attempt.steps:
        needs = f" after {', '.join(step.needs)}" if step.needs else ""
        said = (
            f"{step.error_code}: {step.error}" if step.error else short(step.output) if step.output is not None else ""
        )
        style = {"succeeded": "", "failed": "red"}.get(step.outcome, "yellow")
        lines.append((f"  step      {step.id} = {step.tool}{needs}: {step.outcome} {said}".rstrip(), style))
    lines.append(
        (
            f"  ended     {attempt.why_ended}{f' -> {attempt.verdict}' if attempt.verdict else ''}",
            "green" if attempt.verdict == "accept" else "yellow",
        )
    )
    lines += [
        (f"  learned   {learned.id} {learned.text} [{'; '.join(learned.evidence)}]", "green")
        for learned in attempt.lessons_learned
    ]
    return lines


async def lessons(place: Place, *, as_json: bool) -> None:
    """List what memory knows: one object per line, or text with the evidence."""
    something_there(place)
    async with service_url(place, "memory") as url:
        known = KnownLessons.model_validate(await ask(url, "/v1/lessons", tenant=place.tenant)).lessons
    for lesson in known:
        if as_json:
            print_json(lesson.model_dump(mode="json"))
        else:
            print("\n".join(map(printable, lesson_lines(lesson))))
    if not known and not as_json:
        print(f"tenant {place.tenant!r} has no lessons yet; they come from tasks that recover from a failure")


def lesson_lines(known: KnownLesson) -> list[str]:
    """Say a lesson and what supports it."""
    lesson = known.lesson
    evidence = lesson.evidence
    steps = [*(f"failed at {step}" for step in evidence.failed), *(f"held at {step}" for step in evidence.fixed)]
    because = ", ".join(f"{name} {value}" for name, value in evidence.because.items() if value is not None)
    tasks = f"{known.tasks} task{'' if known.tasks == 1 else 's'}"
    return [
        f"{lesson.id}  {lesson.text}",
        f"    {lesson.state}, {lesson.kind} for {lesson.scope.tool}; by {tasks}, last {_day(known.confirmed_at)}",
        f"    evidence {evidence.task_id or ''}: {'; '.join(steps)}{f' ({because})' if because else ''}",
    ]


def _day(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
