"""Names the family of a task from its plan, so that planner, reflector and memory mean the same by it."""

from typing import Any

from raa_schemas.plan import Plan

QUERY_TOOL = "table.query"
AGGREGATE_FAMILY = "table.aggregate"


def family_of(plan: Plan) -> str:
    """Name the family: `table.aggregate` if any query aggregates, else the tools used, sorted and joined by `+`."""
    if any(step.tool == QUERY_TOOL and _aggregates(step.args.get("select")) for step in plan.steps):
        return AGGREGATE_FAMILY
    return "+".join(sorted({step.tool for step in plan.steps}))


def _aggregates(select: Any) -> bool:
    return isinstance(select, list) and any(isinstance(item, dict) and item.get("fn") for item in select)
