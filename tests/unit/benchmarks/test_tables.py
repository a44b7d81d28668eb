"""The page of figures follows from the result files, and its targets judge both ways."""

import json
from pathlib import Path

import pytest

from benchmarks.adapters import ADAPTERS, chosen
from benchmarks.results import RESULTS, Target
from benchmarks.tables import MARKERS, PAGES, filled, table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_committed_page_shows_the_committed_results(page: Path):
    text = page.read_text()
    assert filled(text, RESULTS) == text, "make bench ARGS=tables"


def test_every_result_file_has_its_table_on_the_page():
    shown = {found["name"] for page in PAGES for found in MARKERS.finditer(page.read_text())}
    assert {path.stem for path in RESULTS.glob("*.json")} <= shown


def test_a_table_without_a_result_says_how_to_get_one(tmp_path: Path):
    page = "before\n<!-- table b1 -->\nold\n<!-- end -->\nafter"
    assert filled(page, tmp_path).splitlines()[2] == "Not measured yet: `make bench ARGS=B1`."
    assert filled(filled(page, tmp_path), tmp_path) == filled(page, tmp_path)


def test_a_figure_we_lose_is_printed_like_one_we_win(tmp_path: Path):
    spread = {"median": 9.0, "low": 8.0, "high": 10.0, "rounds": 5}
    row = {"name": "raa-embedded", "title": "ours", "durability": "synced", "cpu_ms": spread, "invalid_runs": 0}
    row |= {"cpu_parts_ms": {"client": 1, "workers": 8, "servers": 0}, "tasks_per_second": spread, "memory_mb": 70}
    target = {"what": "CPU", "goal": 0.5, "measured": 9.0, "unit": "ms", "at_most": True, "met": False}
    machine = {"cores": 2, "load_average_before": [0.1, 0, 0], "python": "3.11"}
    result = {"rows": [row], "targets": [target], "machine": machine, "measured_at": "2026-01-02T03:04:05", "rounds": 5}
    (tmp_path / "b1.json").write_text(json.dumps(result | {"versions": {"redis": "7.0"}}))

    text = filled("<!-- table b1 -->\n<!-- end -->", tmp_path)

    assert "| **ours** | 9 (8-10) | 1 / 8 / 0 |" in text
    assert "| CPU | ≤ 0.5 ms | 9 ms | **missed** |" in text
    assert "redis 7.0" in text


def test_columns_of_text_stay_left_and_those_of_numbers_go_right():
    assert table(["a", "b", "c "], [["x", 1, "y"]]).splitlines() == [
        "| a | b | c |", "| --- | ---: | --- |", "| x | 1 | y |",
    ]  # fmt: skip


def test_a_target_knows_which_way_is_good():
    assert Target("cost", 20, 19.0, "ms").met
    assert not Target("rate", 1_500, 1_499.0, "/s", at_most=False).met
    assert Target("rate", 1_500, None, "/s", at_most=False).met is None


def test_every_adapter_states_its_durability_and_ours_always_take_part():
    assert all(adapter.durability for adapter in ADAPTERS)
    assert {adapter.name for adapter in chosen("celery")} == {
        "celery", *(adapter.name for adapter in ADAPTERS if adapter.own)
    }  # fmt: skip
