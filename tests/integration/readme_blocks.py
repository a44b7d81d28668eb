"""Reads the README as its reader does: sections, code blocks, and the output that a block is said to have."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\S*) *(.*?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One code block; `label` is what follows the language: a file to save it as, or `up` for a terminal of its own."""

    language: str
    label: str
    text: str


def sections(readme: Path) -> dict[str, list[Block]]:
    """Give the code blocks of each section, in order."""
    titles = re.split(r"^## (.+)$", readme.read_text(), flags=re.MULTILINE)
    return {title: list(_blocks(text)) for title, text in zip(titles[1::2], titles[2::2], strict=True)}


def _blocks(text: str) -> Iterator[Block]:
    for language, label, body in FENCE.findall(text):
        yield Block(language, label, body)


def missing_lines(promised: str, printed: str) -> list[str]:
    """Name the promised lines that were not printed; `…` stands for anything within a line, spaces for any space."""
    return [line for line in promised.splitlines() if line.strip() and not re.search(_pattern(line), printed)]


def _pattern(line: str) -> str:
    parts = [r"\s+".join(re.escape(word) for word in part.split()) for part in line.strip().split("…")]
    return ".*".join(parts)
