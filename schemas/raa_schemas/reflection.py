"""What the reflector concludes from an attempt: verdict, hypotheses, lessons, the episode."""

from typing import Any, Literal

from pydantic import Field

from raa_schemas.event import Event, Instant, Part

Verdict = Literal["accept", "replan", "give_up"]
LabelSource = Literal["checker", "error", "unchecked", "human"]
LessonKind = Literal["do", "avoid", "requires", "fact", "recover"]
LessonState = Literal["candidate", "trial", "validated", "stale", "quarantined", "retired"]


class Label(Part):
    """How good the outcome was, and who says so."""

    value: float = Field(ge=0, le=1, description="0 failed, 1 succeeded")
    source: LabelSource = Field(description="checker: the success check; error: the run failed; unchecked: nobody")
    confidence: float = Field(ge=0, le=1, description="0 to 1")


class CheckReport(Part):
    """What the success check said."""

    check: str = Field(description="the check")
    value: bool = Field(description="whether it holds")
    reason: str | None = Field(None, description="why it could not be computed, if so")
    failed_atom: dict[str, Any] | None = Field(
        None, description="{path, op, bound, actual} of the comparison that failed"
    )


class Hypothesis(Part):
    """A task-local guess at the cause of a failure; the next plan of the same task tries it."""

    kind: Literal["inspect_values", "adjust_arguments"] = Field(description="what the next plan should do")
    tool: str = Field(description="the tool it is about")
    file: str | None = Field(None, description="the input it is about")
    columns: list[str] = Field(default_factory=list, description="columns it is about")
    then: dict[str, Any] | None = Field(None, description="adjust_arguments: JSON merge patch on the tool's arguments")
    because: dict[str, Any] = Field(default_factory=dict, description="the observation behind it")


class Scope(Part):
    """Where a lesson may be used."""

    family: str = Field(description="family of tasks, for example table.aggregate")
    tool: str = Field(description="the tool whose arguments it patches")


class When(Part):
    """Which input a lesson is about: matches by content or by schema."""

    source_sha256: str | None = Field(None, description="content hash of the input")
    schema_hash: str | None = Field(None, alias="schema", serialization_alias="schema", description="`sch_…`")


class Evidence(Part):
    """The steps that support a lesson, as `v<plan_version>/<step>`."""

    failed: list[str] = Field(default_factory=list, description="steps that failed without it")
    fixed: list[str] = Field(default_factory=list, description="steps that succeeded with it")
    task_id: str | None = Field(None, description="the task they belong to")
    because: dict[str, Any] = Field(default_factory=dict, description="the typed error or failed check")


class Lesson(Part):
    """Something confirmed by an attempt, that a later task can apply."""

    id: str = Field(description="`les_…`, the same for the same lesson learned twice from equal evidence")
    kind: LessonKind | str = Field(description="recover: how to get over an error; unknown kinds are ignored")
    scope: Scope = Field(description="where it may be used")
    when: When = Field(description="which inputs it is about")
    then: dict[str, Any] = Field(description="{args: JSON merge patch on the tool's arguments}; lists are united")
    text: str = Field(max_length=600, description="for models and people, up to 60 words")
    evidence: Evidence = Field(default_factory=Evidence, description="what supports it")
    state: LessonState = Field("candidate", description="how far it is trusted")


class Episode(Part):
    """One attempt, as memory keeps it."""

    attempt: int = Field(ge=1, description="which attempt of the task")
    plan_hash: str = Field(description="content hash of the plan")
    goal: str = Field("", description="the task's goal")
    family: str = Field("", description="family of the task")
    outcome: str = Field("", description="how the run ended")
    error_code: str | None = Field(None, description="typed error of the step that failed")
    sources: list[str] = Field(default_factory=list, description="content hashes of the inputs")
    lessons_used: list[str] = Field(default_factory=list, description="ids of the lessons the plan applied")
    started_at: Instant | None = Field(None, description="when the attempt's plan was ready")


class ReflectionDone(Event):
    """The reflector judged an attempt."""

    plan_version: int = Field(ge=1, description="which plan")
    verdict: Verdict = Field(description="accept ends the task as succeeded, replan asks for another plan")
    reason: str = Field("", description="why, for a person")
    label: Label = Field(description="how good the outcome was")
    checked: bool = Field(description="whether a success check was evaluated")
    check: CheckReport | None = Field(None, description="what the check said")
    partial_evidence: bool = Field(False, description="judged without complete evidence; learns nothing")
    hypotheses: list[Hypothesis] = Field(default_factory=list, description="for the next plan of this task")
    lessons: list[Lesson] = Field(default_factory=list, description="confirmed by this attempt")
    episode: Episode = Field(description="the attempt, for memory")
    memory: Literal["on", "off"] = Field("on", description="off: nothing is learned")
