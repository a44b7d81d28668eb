"""The page about replay and whatif runs as written, by somebody who has just played the demo."""

from pathlib import Path

from tests.integration.readme_blocks import sections
from tests.integration.test_readme import reader
from tests.source_tree import ROOT

PAGE = sections(ROOT / "docs" / "replay.md")
FOLLOWED = ["Something to replay", "Replay", "What if", "As a gate"]


def test_every_block_of_the_page_runs_as_written(data_folder: Path):
    with reader(data_folder) as somebody:
        for title in FOLLOWED:
            somebody.follow(PAGE[title])


def test_no_block_of_the_page_is_left_out():
    assert [title for title, blocks in PAGE.items() if any(block.language for block in blocks)] == FOLLOWED
