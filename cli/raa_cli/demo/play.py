"""Plays the demo: real tasks through a real stack with the ordinary client, live, judged against the truth."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from raa_cli.demo.generate import generate
from raa_cli.demo.scenario import Run, Scenario, read_scenario
from raa_cli.demo.truth import mean_of
from raa_cli.demo.verdict import Verdict, judge
from raa_cli.execute import FAILED
from raa_cli.output import print_json
from raa_cli.session import OWN_DRAIN_SECONDS, stack_overrides
from raa_cli.show import lesson_lines, story_of, write_page
from raa_cli.stack import Stack
from raa_cli.timeline import Timeline, open_console
from raa_cli.web import ask
from raa_client.client import Client, new_task_id
from raa_client.story import Story
from raa_runtime.telemetry import configure_logging
from raa_schemas.recall import KnownLesson, KnownLessons
from raa_schemas.task import Constraints, TaskCreated

EXAMPLES: Final = Path(__file__).resolve().parents[3] / "examples"
PAGE: Final = "run-1.html"


async def demo(*, seed: int | None, model: str | None, data: Path | None, log_level: str, as_json: bool) -> int:
    """Play all runs; 0 only if every line is as required. With a model of one's own the lines only inform."""
    configure_logging(log_level)
    # A folder with a short path, because a local socket lies in it, and a fresh one, because memory must be empty.
    folder = data or Path(tempfile.mkdtemp(prefix="raa-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    scenario = generate(seed, folder) if seed is not None else read_scenario(EXAMPLES / "demo.json", EXAMPLES / "data")
    console = open_console(quiet=as_json)
    _banner(console, model, seed, folder)
    overrides = stack_overrides(folder, model=model)
    async with Stack(folder, environment=_environment(), drain_seconds=OWN_DRAIN_SECONDS, **overrides) as stack:
        await stack.ready()
        stage = Stage(stack, console, folder, "default" if data is None else f"demo-{uuid4().hex[:8]}")
        verdicts = [await stage.play(scenario, run) for run in scenario.runs]
        known = await stage.known()
    _report(console, verdicts, known, stage, model)
    if as_json:
        _report_json(verdicts, known, stage, model)
    return 0 if model or all(verdict.right for verdict in verdicts) else FAILED


def _environment() -> dict[str, str]:
    """Give the settings of the embedded demo: what this machine is set up to run on is not asked."""
    return {
        name: value for name, value in os.environ.items() if name.startswith(("OPENAI_", "RAA_OPENAI_", "RAA_MODELS"))
    }


class Stage:
    """The stack the runs are played on, with one tenant that remembers and others that are fresh."""

    def __init__(self, stack: Stack, console: Console, folder: Path, tenant: str) -> None:
        self._stack, self._console = stack, console
        self.page = folder / PAGE
        self.folder, self.tenant = folder, tenant
        self._client = Client(stack.bus, stack.blobs, tenant=tenant)

    async def play(self, scenario: Scenario, run: Run) -> Verdict:
        """Run one task live, and judge it."""
        remark = f" ({run.remark})" if run.remark else ""
        self._console.rule(f"run {run.name}{remark}", align="left", style="dim")
        client = self._client if run.tenant == "same" else self._client.of_tenant(f"{self.tenant}-{run.tenant}")
        story = await self._followed(client, scenario, run)
        if not self.page.exists() or run is scenario.runs[0]:
            write_page(story, self.page)
        artifact = await self._text_of(client, story, run.artifact)
        return judge(run, story, artifact, partial(mean_of, scenario.folder))

    async def _followed(self, client: Client, scenario: Scenario, run: Run) -> Story:
        task_id, timeline = new_task_id(), Timeline(self._console)
        inputs = [await client.attach(task_id, scenario.folder / name) for name in run.inputs]
        task = TaskCreated(task_id=task_id, goal=run.goal, inputs=inputs, success_check=run.check,
                           constraints=Constraints.model_validate({"memory": run.memory}))  # fmt: skip
        async with aclosing(client.run(task)) as events:
            async for observed in events:
                timeline.show(observed)
        return await story_of(client, task_id)

    async def _text_of(self, client: Client, story: Story, name: str | None) -> str | None:
        artifacts = story.done.artifacts if story.done else []
        found = next((artifact for artifact in artifacts if artifact.name == name), None)
        if found is None:
            return None
        return (await client.blobs.get(client.scope, story.task_id, found.sha256)).decode(errors="replace")

    async def known(self) -> list[KnownLesson]:
        """Ask memory what the agent now knows."""
        answer = await ask(self._stack.urls["memory"], "/v1/lessons", tenant=self.tenant)
        return KnownLessons.model_validate(answer).lessons


def _label(model: str | None) -> str:
    return f"MODEL {model}" if model else "SIMULATED POLICY"


def _banner(console: Console, model: str | None, seed: int | None, folder: Path) -> None:
    about = (
        "plans come from this model; what is compared below informs, it does not decide"
        if model
        else "a deterministic planner that sees only the prompt; everything else is real: six services, tools, events"
    )
    files = f"a file generated from seed {seed}" if seed is not None else "real files from examples/data"
    console.print(Panel(f"{about}\non {files}, in {folder}", title=_label(model), style="yellow", expand=False))


def _report(console: Console, verdicts: Sequence[Verdict], known: Sequence[KnownLesson], stage: Stage,
            model: str | None) -> None:  # fmt: skip
    console.rule("against the truth, computed from the files in plain Python", align="left", style="dim")
    console.print(_table(verdicts, model))
    for verdict in verdicts:
        for difference in verdict.differences:
            console.print(f"run {verdict.run.name}: {difference}", style="red", markup=False)
    console.rule("what the agent now knows", align="left", style="dim")
    for lesson in known:
        console.print("\n".join(lesson_lines(lesson)), markup=False)
    console.print(f"\nrun 1 as a page: {stage.page}", markup=False)
    where = f"--data {stage.folder}" + ("" if stage.tenant == "default" else f" --tenant {stage.tenant}")
    console.print(f"look around:     raa lessons {where}; raa show {verdicts[0].task_id} {where}", markup=False)
    if hint := _whatif(verdicts, known):
        console.print(f"ask what if:     {hint} {where}", markup=False)
    right = sum(verdict.right for verdict in verdicts)
    console.print(
        f"{right} of {len(verdicts)} runs are as they must be", style="green" if right == len(verdicts) else "red"
    )


def _whatif(verdicts: Sequence[Verdict], known: Sequence[KnownLesson]) -> str | None:
    """Suggest a counterfactual: the first run that used a lesson, without the lesson it needed most recently."""
    used = next((verdict for verdict in verdicts if verdict.used), None)
    if used is None or not known:
        return None
    return f"raa whatif {used.task_id} --without-lesson {known[0].lesson.id} --allow model,reads"


def _table(verdicts: Sequence[Verdict], model: str | None) -> Table:
    table = Table(title=_label(model), title_style="yellow", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("run", "task", "tries", "result", "truth", "lessons", "checked", ""):
        table.add_column(name, justify="right" if name in {"tries", "result", "truth"} else "left",
                         overflow="fold", no_wrap=name not in {"task", "lessons"})  # fmt: skip
    for verdict in verdicts:
        table.add_row(
            verdict.run.name,
            Text.assemble(verdict.run.goal, "\n", (verdict.run.remark, "dim")),
            str(verdict.attempts),
            verdict.got.replace(" / ", "\n"),
            verdict.truth.replace(" / ", "\n"),
            f"{verdict.used} used\n{verdict.learned} new",
            "yes" if verdict.checked else "no",
            Text("ok", "green") if verdict.right else Text("differs", "red"),
        )
    return table


def _report_json(verdicts: Sequence[Verdict], known: Sequence[KnownLesson], stage: Stage, model: str | None) -> None:
    lessons: list[dict[str, Any]] = [lesson.model_dump(mode="json") for lesson in known]
    print_json({"policy": model or "simulated", "right": all(verdict.right for verdict in verdicts),
                "runs": [verdict.to_json() for verdict in verdicts], "lessons": lessons, "page": str(stage.page),
                "data": str(stage.folder), "tenant": stage.tenant})  # fmt: skip
