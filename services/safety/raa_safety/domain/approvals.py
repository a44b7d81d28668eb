"""Decides what an answer to an approval is worth: whose it is, what it was signed over, and what it settles."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from raa_runtime.state.aggregate import State
from raa_safety.ports import SignatureCheck
from raa_schemas.action import Decision
from raa_schemas.approval import ApprovalDecided, Question, Verdict
from raa_schemas.canonical import canonical_bytes

ANSWERS: Final[dict[Question, tuple[Verdict, ...]]] = {
    "may_run": ("approve", "deny"),
    "did_it_happen": ("happened", "not_happened", "give_up"),
}
# one person is enough to say no
_FINAL: Final[frozenset[Verdict]] = frozenset({"deny", "give_up"})
_DECISIONS: Final[dict[Verdict, Decision]] = {
    "approve": "allowed",
    "deny": "denied",
    "happened": "happened",
    "not_happened": "not_happened",
    "give_up": "give_up",
}


class Approval(State):
    """A question that waits for people. The arguments themselves are in `approval.requested`."""

    approval_id: str
    plan_version: int
    step: str
    tool: str
    question: Question
    args_hash: str
    args: dict[str, Any] | None = None
    args_ref: str | None = None
    effect_summary: str = ""
    approvers: list[str] = Field(default_factory=list)
    quorum: int = 1
    asked_at: datetime
    expires_at: datetime
    votes: dict[str, Verdict] = Field(default_factory=dict)
    reasons: list[str] = Field(default_factory=list)

    def asks(self, plan_version: int, step: str, args_hash: str, question: Question) -> bool:
        """Say whether this is the question about exactly that action."""
        own = (self.plan_version, self.step, self.args_hash, self.question)
        return own == (plan_version, step, args_hash, question)

    def vote(self, answer: ApprovalDecided) -> Decision | None:
        """Count an accepted answer; returns the decision once it is made."""
        self.votes[answer.decided_by] = answer.verdict
        if answer.reason:
            self.reasons.append(f"{answer.decided_by}: {answer.reason}")
        agreeing = sum(verdict == answer.verdict for verdict in self.votes.values())
        settled = answer.verdict in _FINAL or agreeing >= self.quorum
        return _DECISIONS[answer.verdict] if settled else None


def why_refused(
    approval: Approval | None,
    answer: ApprovalDecided,
    *,
    deployment: str,
    tenant: str,
    now: datetime,
    keys: Mapping[str, str],
    verified: SignatureCheck,
) -> str | None:
    """Say why an answer does not count, or None if it does; anything that is not exactly right is refused."""
    if approval is None:
        return "no such approval is open"
    if not approval.asks(answer.plan_version, answer.step, answer.args_hash, approval.question):
        return "it is about another step, plan or arguments than the approval"
    if answer.verdict not in ANSWERS[approval.question]:
        return f"{answer.verdict!r} does not answer {approval.question!r}"
    if now >= approval.expires_at:
        return "the approval has expired"
    if answer.decided_by in approval.votes and answer.verdict not in _FINAL:
        return "this approver has answered before"
    if answer.decided_by not in keys or (approval.approvers and answer.decided_by not in approval.approvers):
        return "this key may not decide; list it in RAA_APPROVER_KEYS, or in `approvers` of the policy"
    content = canonical_bytes(answer.signed_content(deployment, tenant))
    if not verified(keys[answer.decided_by], content, answer.signature):
        return "the signature does not fit"
    return None
