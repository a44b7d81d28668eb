"""The planner put together: the only place that builds its clients."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from raa_planner import api, handlers, standing
from raa_planner.activities import Planning, Preparation
from raa_planner.adapters.http_memory import HttpMemory
from raa_planner.adapters.http_router import HttpRouter
from raa_planner.adapters.http_tools import HttpToolCatalog
from raa_planner.adapters.local_files import RootedFiles
from raa_planner.adapters.stored_tasks import StoredTasks
from raa_planner.dispatch import Dispatcher
from raa_planner.domain.admission import Rules
from raa_planner.domain.instructions import SHIPPED, Instructions
from raa_planner.domain.scheduler import FairQueue, Policy, Ticket
from raa_planner.domain.task import TASK
from raa_planner.handlers import Patience, TaskHandlers
from raa_planner.metrics import PlannerMetrics
from raa_planner.ports import Memory, Model, ToolCatalog
from raa_planner.rejections import on_rejected
from raa_planner.settings import PlannerSettings
from raa_runtime.blobs import BlobStore
from raa_runtime.errors import Misconfigured
from raa_runtime.platform import Platform
from raa_runtime.remembrance import too_short_for_blobs
from raa_runtime.scope import scope_of
from raa_runtime.service import Does, On, Service, Timer
from raa_runtime.state.codec import Kind
from raa_runtime.telemetry import Metrics
from raa_schemas.approval import ApprovalDecided, ApprovalRequested
from raa_schemas.cancel import CancelRequested
from raa_schemas.plan import PlanReady, PlanRejected
from raa_schemas.redrive import RedriveDone
from raa_schemas.reflection import ReflectionDone
from raa_schemas.step import StepDone
from raa_schemas.task import TaskCreated, TaskStalled
from raa_schemas.tenants import IntakePolicy


def build(
    settings: PlannerSettings,
    platform: Platform,
    *,
    memory: Memory | None = None,
    model: Model | None = None,
    catalog: ToolCatalog | None = None,
) -> Service:
    """Wire the planner. Every dependency is a defaulted argument."""
    if problem := too_short_for_blobs(settings.blob_seconds):
        raise Misconfigured(problem)
    log, metrics, http = platform.logger("planner"), Metrics(), platform.http
    counts = PlannerMetrics(metrics)
    router = HttpRouter(http, settings.router_url, settings.model, platform.clock)
    tools = HttpToolCatalog(http, settings.executor_url, log, settings.tools_refresh_seconds)
    memory = memory or HttpMemory(http, settings.memory_url, settings.recall_timeout_seconds)
    queue = FairQueue(_policy(settings))
    dispatcher = Dispatcher(queue, platform.clock, counts, log)
    stored = StoredTasks()
    way = TaskHandlers(queue, _rules(settings), _patience(settings), settings.tenant_topics)
    files = RootedFiles(settings.input_roots)
    prepare = Preparation(platform.blobs, files, memory, stored, catalog or tools, counts, log)
    plan = Planning(model or router, catalog or tools, counts, _instructions(settings))

    async def release(ticket: Ticket) -> bool:
        return await service.call(TASK, ticket.task, way.begin, None)

    service = Service(
        "planner",
        settings,
        platform,
        kinds=[TASK],
        metrics=metrics,
        on=[
            On(TaskCreated, TASK, way.on_task_created),
            On(PlanReady, TASK, way.on_plan_ready),
            On(PlanRejected, TASK, way.on_plan_rejected),
            On(StepDone, TASK, way.on_step_done),
            On(ReflectionDone, TASK, way.on_reflection_done),
            On(ApprovalRequested, TASK, way.on_approval_requested),
            On(ApprovalDecided, TASK, way.on_approval_decided),
            On(TaskStalled, TASK, way.on_task_stalled),
            On(RedriveDone, TASK, way.on_redrive_done),
            On(CancelRequested, TASK, way.on_cancel_requested),
        ],
        does=[
            Does(handlers.PREPARE, TASK, prepare, way.on_prepared),
            Does(handlers.PLAN, TASK, plan, way.on_planned),
        ],
        timers=[
            Timer(standing.DEADLINE, TASK, way.on_deadline),
            Timer(standing.STALLED, TASK, way.on_stall_over),
            Timer(standing.APPROVAL, TASK, way.on_approval_expired),
            Timer(handlers.TURN, TASK, way.on_turn),
            Timer(handlers.HORIZON, TASK, way.on_horizon),
        ],
        api=api.routes(stored.find),
        pings={} if model else {"router": router.ping},  # memory may be away: tasks are planned without it
        background=[partial(dispatcher.run, release), *([] if catalog else [tools.refresh_loop])],
        rejections=partial(
            on_rejected, deployment=settings.deployment, policy=IntakePolicy(settings.allow_anonymous, settings.tenants)
        ),
        observers=[dispatcher.observe],
        forget=partial(_delete_blobs, platform.blobs),
        remember_seconds=max(settings.tombstone_seconds, settings.blob_seconds),
    )
    stored.bind(service.store(TASK))
    return service


async def _delete_blobs(blobs: BlobStore, _: Kind[Any], aggregate: str) -> None:
    """Delete the files of a task with the last memory of it: the planner is the one service every task ends in."""
    await blobs.delete_task(scope_of(aggregate), aggregate.partition("/")[2])


def _policy(settings: PlannerSettings) -> Policy:
    return Policy(
        settings.max_active_tasks,
        settings.max_active_tasks_per_tenant,
        settings.tenant_weights,
        timedelta(seconds=settings.ageing_seconds),
    )


def _instructions(settings: PlannerSettings) -> Instructions:
    """Find the instructions the settings name; raises Misconfigured."""
    if settings.prompt in SHIPPED:
        return SHIPPED[settings.prompt]
    known = ", ".join(SHIPPED)
    try:
        text = Path(settings.prompt).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(f"RAA_PROMPT {settings.prompt!r} is neither a version ({known}) nor a text file") from None
    if not text.strip():
        raise Misconfigured(f"RAA_PROMPT {settings.prompt!r} is empty; write instructions, or name a version ({known})")
    return Instructions(f"file:{Path(settings.prompt).name}", text)


def _rules(settings: PlannerSettings) -> Rules:
    return Rules(settings.reply_topics, reads_files=bool(settings.input_roots))


def _patience(settings: PlannerSettings) -> Patience:
    return Patience(
        prepare=timedelta(seconds=settings.prepare_timeout_seconds),
        plan=timedelta(seconds=settings.plan_timeout_seconds),
        redrive=timedelta(seconds=settings.redrive_window_seconds),
        arrival=timedelta(seconds=settings.horizon_seconds),
    )
