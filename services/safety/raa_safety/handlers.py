"""One function per consumed event: what safety decides, and what it publishes about it."""

from dataclasses import dataclass
from datetime import timedelta

from raa_runtime.unit import Received, Unit
from raa_safety.domain.actions import Answer, judge_action, shown_arguments, summarise
from raa_safety.domain.approvals import Approval, why_refused
from raa_safety.domain.grants import Terms, expiry, grant_plan
from raa_safety.domain.policy import PolicyBook
from raa_safety.domain.task import WAITING, Refusal, SafetyTask
from raa_safety.domain.verify import verify
from raa_safety.ports import ApproverKeys, SignatureCheck, Signer, ToolCatalog
from raa_schemas.action import ActionDecided, ActionProposed, Decider, Decision
from raa_schemas.approval import ApprovalDecided, ApprovalRequested, Question
from raa_schemas.cancel import CancelRequested
from raa_schemas.canonical import digest
from raa_schemas.plan import Grant, PlanProposed, PlanReady, PlanRejected

Task = Unit[SafetyTask]


@dataclass(frozen=True, slots=True)
class Desk:
    """What safety decides with. A task is forgotten `linger` after its deadline."""

    catalog: ToolCatalog
    policies: PolicyBook
    signer: Signer
    approvers: ApproverKeys
    verified: SignatureCheck
    grant_lifetime: timedelta
    approval_lifetime: timedelta
    linger: timedelta


def on_plan_proposed(unit: Task, event: Received[PlanProposed], *, desk: Desk) -> None:
    """Publish plan.ready with grants, or plan.rejected with every finding.

    Transient while no tools are known. A version that was verified before is ignored.
    """
    proposed, plan, state = event.data, event.data.plan, unit.state
    if state.phase == "ended" or plan.version <= state.plan_version:
        unit.ignore("the task has ended, or a plan of this version was verified before")
        return
    tools = desk.catalog.tools()
    state.deadline = proposed.limits.deadline
    findings = verify(plan, proposed.limits, tools, desk.policies.of(unit.tenant))
    if findings:
        unit.publish(PlanRejected(task_id=unit.task_id, plan_version=plan.version, findings=findings))
    else:
        state.put_in_force(plan)
        grants = grant_plan(plan, tools, _terms(unit, plan.version, desk))
        unit.publish(PlanReady.model_validate(dict(proposed) | {"grants": grants}))
    _arm(unit, desk)


def on_action_proposed(unit: Task, event: Received[ActionProposed], *, desk: Desk) -> None:
    """Decide at once where the policy can, else publish approval.requested and wait for people.

    The same question about the same arguments is asked once, however often it is proposed.
    """
    action = event.data
    question: Question = "did_it_happen" if action.reason == "outcome_unknown" else "may_run"
    if unit.state.phase == "ended" or unit.state.asks(action.plan_version, action.step, action.args_hash, question):
        unit.ignore("the task has ended, or people have been asked this already")
        return
    answer = _judge(unit, action, question, desk)
    if answer.judgement == "ask":
        _ask(unit, action, question, desk)
    elif answer.judgement == "deny":
        _decide(unit, action, "denied", "policy", answer.reason)
    else:
        _decide(unit, action, "allowed", "policy", answer.reason, _bound_grant(unit, action, desk))
    _arm(unit, desk)


def on_approval_decided(unit: Task, event: Received[ApprovalDecided], *, desk: Desk) -> None:
    """Count a person's signed answer; publish action.decided once the quorum is reached.

    An answer that is not exactly right changes nothing but the list of refused answers.
    """
    answer, state = event.data, unit.state
    if unit.is_new or state.phase == "ended":
        unit.ignore("no such task waits for an approval")
        return
    approval = state.approvals.get(answer.approval_id)
    refused = why_refused(
        approval,
        answer,
        deployment=unit.deployment,
        tenant=unit.tenant,
        now=unit.now,
        keys=desk.approvers.known(),
        verified=desk.verified,
    )
    if approval is None or refused:
        state.refuse(
            Refusal(
                at=unit.now,
                approval_id=answer.approval_id[:80],
                decided_by=answer.decided_by[:80],
                why=refused or "no such approval is open",
            )
        )
    elif decision := approval.vote(answer):
        _settle(unit, approval, decision, desk)
    _arm(unit, desk)


def on_cancel_requested(unit: Task, _event: Received[CancelRequested]) -> None:
    """Close the task with its open approvals; executors stop the steps by the same event.

    A cancel that comes before its plan leaves the tombstone that swallows the plan.
    """
    if unit.state.phase == "ended":
        unit.ignore("the task has ended")
        return
    _end(unit)


def on_expiry(unit: Task, _timer: str, *, desk: Desk) -> None:
    """Close the approvals that nobody decided in time."""
    for approval in unit.state.expired(unit.now):
        approval.reasons.append("nobody decided in time")
        _settle(unit, approval, "expired", desk)
    _arm(unit, desk)


def on_end(unit: Task, _timer: str) -> None:
    """Forget a task some time after its deadline."""
    _end(unit)


def _judge(unit: Task, action: ActionProposed, question: Question, desk: Desk) -> Answer:
    state = unit.state
    if question == "did_it_happen":
        return Answer("ask", "only a person can find out")
    if not state.in_force(action.plan_version, action.step, action.tool):
        return Answer("deny", "the verified plan in force has no such step with this tool")
    if state.deadline and unit.now >= state.deadline:
        return Answer("deny", "the task's deadline has passed")
    return judge_action(action, desk.catalog.tools(), desk.policies.of(unit.tenant))


def _ask(unit: Task, action: ActionProposed, question: Question, desk: Desk) -> None:
    policy, state = desk.policies.of(unit.tenant), unit.state
    state.asked += 1
    approval = Approval(
        approval_id="apr_" + digest([unit.deployment, unit.id, state.asked]).removeprefix("sha256:")[:20],
        plan_version=action.plan_version,
        step=action.step,
        tool=action.tool,
        question=question,
        args_hash=action.args_hash,
        args=shown_arguments(action),
        args_ref=action.args_ref,
        effect_summary=summarise(desk.catalog.tools().get(action.tool), action.tool),
        approvers=list(policy.approvers),
        quorum=policy.quorum,
        asked_at=unit.now,
        expires_at=unit.now + desk.approval_lifetime,
    )
    state.open_approval(approval, unit.now)
    may_decide = approval.approvers or sorted(desk.approvers.known())
    unit.publish(
        ApprovalRequested(
            task_id=unit.task_id,
            **approval.model_dump(include=_TOLD),
            args=action.args,
            approvers=may_decide,
        )
    )


_TOLD = {
    "plan_version",
    "step",
    "approval_id",
    "question",
    "tool",
    "args_ref",
    "args_hash",
    "effect_summary",
    "quorum",
    "expires_at",
}


def _settle(unit: Task, approval: Approval, decision: Decision, desk: Desk) -> None:
    unit.state.close_approval(approval.approval_id, unit.now)
    grant = _bound_grant(unit, approval, desk) if decision == "allowed" else None
    by: Decider = "policy" if decision == "expired" else "person"
    _decide(unit, approval, decision, by, "; ".join(approval.reasons)[:2_000], grant)


def _decide(
    unit: Task,
    action: ActionProposed | Approval,
    decision: Decision,
    by: Decider,
    reason: str,
    grant: Grant | None = None,
) -> None:
    unit.publish(
        ActionDecided(
            task_id=unit.task_id,
            plan_version=action.plan_version,
            step=action.step,
            args_hash=action.args_hash,
            decision=decision,
            by=by,
            grant=grant,
            reason=reason,
        )
    )


def _bound_grant(unit: Task, action: ActionProposed | Approval, desk: Desk) -> Grant:
    return _terms(unit, action.plan_version, desk).grant(action.step, action.tool, action.args_hash, "bound")


def _terms(unit: Task, plan_version: int, desk: Desk) -> Terms:
    return Terms(
        deployment=unit.deployment,
        tenant=unit.tenant,
        task=unit.task_id,
        plan_version=plan_version,
        policy=desk.policies.of(unit.tenant),
        signer=desk.signer,
        expires_at=expiry(unit.now, desk.grant_lifetime, unit.state.deadline),
    )


def _arm(unit: Task, desk: Desk) -> None:
    """Wake for the first approval that expires; without one, some time after the deadline."""
    state = unit.state
    unit.mark(WAITING, state.paused_at.timestamp() if state.paused_at else None)
    if state.approvals:
        unit.clear_timer("end")
        unit.set_timer("expiry", min(approval.expires_at for approval in state.approvals.values()))
    else:
        unit.clear_timer("expiry")
        unit.set_timer("end", (state.deadline or unit.now) + desk.linger)


def _end(unit: Task) -> None:
    unit.state.end()
    unit.mark(WAITING, None)
    unit.close()
