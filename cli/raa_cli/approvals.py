"""Decides approvals with the key of the person at this machine."""

from raa_cli.execute import UsageProblem
from raa_cli.output import note, print_json
from raa_cli.session import Place, running
from raa_client.operator import operator_of
from raa_schemas.approval import Verdict

# What the two commands mean for each question.
_VERDICTS: dict[tuple[str, bool], Verdict] = {
    ("may_run", True): "approve", ("may_run", False): "deny",
    ("did_it_happen", True): "happened", ("did_it_happen", False): "not_happened",
}  # fmt: skip


async def decide(
    place: Place, task_id: str, step: str, reason: str, *, yes: bool, give_up: bool, as_json: bool
) -> None:
    """Answer the approval that waits for a step."""
    operator = operator_of(place.data)
    async with running(place) as client:
        asked = await client.approval(task_id, step)
        if give_up and asked.question == "may_run":
            raise UsageProblem("--give-up answers whether an action happened; to refuse one use `raa deny` alone")
        if asked.approvers and operator.key_id not in asked.approvers:
            allowed = ", ".join(asked.approvers)
            note(
                f"safety did not know the key {operator.key_id} of {place.data}/keys when it asked; these may decide: "
                f"{allowed}. If nothing happens, add the key to RAA_APPROVER_KEYS of safety"
            )
        verdict: Verdict = "give_up" if give_up else _VERDICTS[asked.question, yes]
        await client.decide(asked, verdict, reason, operator)
    if as_json:
        print_json(
            {
                "task_id": task_id,
                "step": step,
                "approval_id": asked.approval_id,
                "verdict": verdict,
                "decided_by": operator.key_id,
            }
        )
    else:
        print(f"{verdict.replace('_', ' ')}: {asked.tool} of step {step}, signed with key {operator.key_id}")
