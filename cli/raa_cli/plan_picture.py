"""Draws a plan as a picture: steps in columns by what they wait for, arrows from what they take."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

from raa_client.story import StepStory

WIDTH: Final = 190
HEIGHT: Final = 56
GAP_X: Final = 64
GAP_Y: Final = 22
MARGIN: Final = 8
_CHARACTERS: Final = 24


class _Box(NamedTuple):
    x: int
    y: int


def draw_plan(steps: Sequence[StepStory], name: str) -> str:
    """Return an SVG element; `name` is its title, for those who hear the page."""
    columns = _columns(steps)
    boxes = {
        step.id: _Box(MARGIN + depth * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y))
        for depth, column in enumerate(columns)
        for row, step in enumerate(column)
    }
    width = max(box.x for box in boxes.values()) + WIDTH + MARGIN
    height = max(box.y for box in boxes.values()) + HEIGHT + MARGIN
    arrows = [_arrow(boxes[need], boxes[step.id]) for step in steps for need in step.needs if need in boxes]
    drawn = "".join(arrows) + "".join(_step(step, boxes[step.id]) for step in steps)
    return (
        f'<svg class="plan" role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<title>{escape(name)}</title>{drawn}</svg>"
    )


def _columns(steps: Sequence[StepStory]) -> list[list[StepStory]]:
    depths = _depths({step.id: step.needs for step in steps})
    columns: list[list[StepStory]] = [[] for _ in range(max(depths.values()) + 1)]
    for step in steps:
        columns[depths[step.id]].append(step)
    return [column for column in columns if column]


def _depths(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Give the length of the longest way to each step; a rejected plan may hold circles, whose steps come last."""
    depths: dict[str, int] = {}
    open_steps = dict(needs)
    while open_steps:
        ready = [step for step, before in open_steps.items() if not any(need in open_steps for need in before)]
        for step in ready or list(open_steps):
            known = [depths[need] for need in open_steps.pop(step) if need in depths]
            depths[step] = max(known, default=-1) + 1
    return depths


def _arrow(start: _Box, end: _Box) -> str:
    x1, y1, x2, y2 = start.x + WIDTH, start.y + HEIGHT // 2, end.x, end.y + HEIGHT // 2
    middle = (x1 + x2) // 2
    head = f"M{x2 - 7} {y2 - 5}L{x2} {y2}L{x2 - 7} {y2 + 5}"
    return f'<path class="edge" d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}{head}"/>'


def _step(step: StepStory, box: _Box) -> str:
    return (
        f'<g class="step {escape(step.outcome)}">'
        f'<rect x="{box.x}" y="{box.y}" width="{WIDTH}" height="{HEIGHT}" rx="9"/>'
        f'<text class="name" x="{box.x + 14}" y="{box.y + 24}">{escape(_cut(step.id))}</text>'
        f'<text class="tool" x="{box.x + 14}" y="{box.y + 43}">{escape(_cut(step.tool))}</text></g>'
    )


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 1] + "…"
