import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raa_planner.domain.answers import Cannot, Planned, read_answer
from raa_router.offline.answer import answer
from raa_router.offline.words import VOCABULARY
from raa_schemas.artifact import Source
from tests.source_tree import ROOT
from tests.unit.router.prompts import MOTORS, messages

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = st.sampled_from(
    [*sorted(VOCABULARY), "maker", "T", "power (kW)", "motors.csv", "report.md", "5", "-1.5", "1e999", ">", "<=", "=",
     ",", "'Acme'", "`T`", "(", ")", "%", "**", "use", "calculate", "2020-01-01", "\ud800", "²", "İ"]
)  # fmt: skip
GOALS = st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=80)
NAMES = st.lists(st.text(min_size=1, max_size=12), max_size=6)
LESSON = st.fixed_dictionaries(
    {"id": JSON, "applies_to": st.just(["motors.csv"]) | JSON, "tool": st.just("table.query") | JSON,
     "then": st.fixed_dictionaries({"args": JSON | st.fixed_dictionaries({"table": JSON})}) | JSON}
)  # fmt: skip
SHAPE = st.fixed_dictionaries(
    {"shape": st.text("9a.,' -", max_size=6), "count": JSON, "example": st.text(max_size=5)}
)  # fmt: skip
ERROR = st.fixed_dictionaries(
    {"code": st.sampled_from(["not_numeric", "unknown_column"]), "message": st.text(max_size=20),
     "details": JSON | st.fixed_dictionaries({"column": st.just("T"), "shapes": st.lists(
         SHAPE, max_size=3)})}
)  # fmt: skip
STEP = {"id": "mean", "tool": "table.query", "args": {"table": {"file": "motors.csv"}}}
ATTEMPT = st.fixed_dictionaries(
    {"plan": st.just({"steps": [STEP]}) | JSON,
     "failed_step": st.fixed_dictionaries({"step": st.just("mean") | JSON, "error": ERROR | JSON}) | JSON,
     "hypotheses": st.lists(st.fixed_dictionaries(
         {"kind": st.sampled_from(["inspect_values", "adjust_arguments"]), "tool": st.just("table.query") | JSON,
          "file": st.just("motors.csv") | JSON, "columns": st.just(["T"]) | JSON, "then": JSON}), max_size=2) | JSON}
)  # fmt: skip


def usable(text: str) -> None:
    """An answer is plain JSON, encodable, and the planner reads it as a plan or as a refusal."""
    json.dumps(json.loads(text), allow_nan=False)
    text.encode()
    assert isinstance(read_answer(text), Planned | Cannot), text


@given(GOALS)
def test_any_goal_gets_a_plan_or_a_refusal(goal: str) -> None:
    usable(answer(messages(goal, MOTORS)))


@given(GOALS, NAMES, NAMES)
def test_any_names_of_columns_and_files_are_survived(goal: str, columns: list[str], names: list[str]) -> None:
    sources = [Source(name=name, sha256="0" * 64, size=1, format="delimited", columns=columns) for name in names]
    usable(answer(messages(goal, *sources)))


@given(st.lists(LESSON, max_size=3), st.lists(ATTEMPT, max_size=2), JSON)
def test_any_experience_gets_a_plan_or_a_refusal(lessons: Any, attempts: Any, findings: Any) -> None:
    given_ = messages("mean of T by maker", MOTORS, lessons=lessons, earlier_attempts=attempts, findings=findings)
    text = answer(given_)
    json.loads(text)
    text.encode()


@given(st.lists(JSON, max_size=4) | st.lists(st.fixed_dictionaries({"role": JSON, "content": JSON}), max_size=3))
def test_messages_that_are_no_prompt_are_refused(anything: list[Any]) -> None:
    assert "cannot" in json.loads(answer(anything))


@given(NAMES)
def test_a_column_is_found_by_its_exact_name_whatever_it_holds(names: list[str]) -> None:
    for name in names:
        if name.isprintable() and name.strip() == name and not set("`\"'") & set(name):
            source = Source(name="f.csv", sha256="0" * 64, size=1, format="delimited", columns=[name])
            text = answer(messages(f"mean of `{name}` in f.csv", source))
            assert json.loads(text)["steps"][0]["args"]["select"][0]["column"] == name


ODD = st.from_regex(r"[A-Za-z][A-Za-z0-9_. ()%/-]{0,12}[A-Za-z0-9)]", fullmatch=True)
ORDINARY = st.lists(st.sampled_from(sorted(word for word in VOCABULARY if word.isalpha())), min_size=1, max_size=2)
COLUMNS = st.lists(
    ODD | ORDINARY.map(" ".join) | ORDINARY.map("_".join),
    min_size=1, max_size=5, unique_by=lambda name: "".join(filter(str.isalnum, name)).casefold(),
)  # fmt: skip
FILES = st.from_regex(r"[a-z][a-z0-9_-]{1,8}\.(csv|tsv|txt|json)", fullmatch=True)


@given(COLUMNS, FILES, st.data())
def test_the_column_asked_for_is_the_column_taken_whatever_the_others_are_called(
    columns: list[str], file: str, data: st.DataObject
) -> None:
    column = data.draw(st.sampled_from(columns))
    source = Source(name=file, sha256="0" * 64, size=1, format="delimited", columns=columns)
    found = json.loads(answer(messages(f"Average of {column} in {file}", source)))
    assert found["steps"][0]["args"]["select"] == [{"fn": "mean", "column": column, "as": "mean"}]


def test_preview_values_change_nothing_about_the_plan() -> None:
    shown = MOTORS.model_copy(update={"head": ["id;T", "1;2,6", "2;-200,0"], "delimiter": "\t"})
    assert answer(messages("mean of T", MOTORS)) == answer(messages("mean of T", shown))


AUDITED = """
import sys
from raa_router.offline.answer import answer
import encodings.idna, json
prompts = json.load(sys.stdin)
FORBIDDEN = {"open", "socket", "subprocess", "os", "import", "ctypes", "exec", "compile", "shutil", "glob", "tempfile"}
seen = []
def hook(event, arguments):
    if seen is not None and event.split(".")[0] in FORBIDDEN:
        seen.append(event)
sys.addaudithook(hook)
answers = [answer(prompt) for prompt in prompts]
found, seen = seen, None
print(json.dumps([len(answers), found]))
"""


def test_answering_opens_no_file_no_socket_and_no_process() -> None:
    inspect = {"kind": "inspect_values", "tool": "table.profile", "file": "motors.csv", "columns": ["T"]}
    prompts = [
        messages(goal, MOTORS, earlier_attempts=[{"attempt": 1, "hypotheses": [inspect]}])
        for goal in ("mean of T", "use file.read with file=/etc/passwd", "read /etc/passwd", "what is 2 ** 8",
                     "open http://example.org and mean of T", "top 5 maker by mean T and write report.md")
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", AUDITED], input=json.dumps(prompts), capture_output=True, text=True, check=True,
        cwd=Path(ROOT), timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout) == [len(prompts), []]
