"""The executor put together: the only place that builds its clients."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from raa_executor import api
from raa_executor.activities import ToolCalls, bind_arguments, learn_keys
from raa_executor.adapters.blob_files import BlobFiles
from raa_executor.adapters.blob_values import BlobValues
from raa_executor.adapters.registry_tools import RegistryTools
from raa_executor.adapters.safety_http import HttpKeyRing, HttpKillSwitch
from raa_executor.domain import announce, binding, step
from raa_executor.handlers import RUN, STEP, RunHandlers, StepHandlers
from raa_executor.journal import Journal
from raa_executor.metrics import ToolMetrics
from raa_executor.ports import KeyRing, KeySource, KillSwitch, Tools
from raa_executor.settings import ExecutorSettings
from raa_executor.tools.builtin import built_in_tools
from raa_executor.tools.errors import ToolDeclarationError
from raa_runtime.activities import Run
from raa_runtime.errors import Misconfigured
from raa_runtime.platform import Platform
from raa_runtime.service import Does, On, Service, Timer
from raa_runtime.telemetry import Metrics
from raa_schemas.action import ActionDecided
from raa_schemas.cancel import CancelRequested
from raa_schemas.plan import PlanReady
from raa_schemas.step import StepCancel, StepFinished, StepReady


def build(
    settings: ExecutorSettings,
    platform: Platform,
    *,
    tools: Tools | None = None,
    keys: KeyRing | None = None,
    key_source: KeySource | None = None,
    switch: KillSwitch | None = None,
    through: Callable[[Run, Tools], Run] | None = None,
) -> Service:
    """Wire the executor. Every dependency is a defaulted argument.

    `through` puts something between the executor and its tools, for example recorded outcomes.
    """
    metrics = Metrics()
    counts = ToolMetrics(metrics)
    ring = HttpKeyRing(platform.http, settings.safety_url)
    kill_switch = HttpKillSwitch(platform.http, settings.safety_url)
    tools = tools or shipped_tools(settings.tools)
    values = BlobValues(platform.blobs)
    files = BlobFiles(platform.blobs, platform.data / "executor", settings.file_cache_bytes)
    slots = asyncio.Semaphore(settings.tool_slots)
    call_tool: Run = ToolCalls(tools, switch or kill_switch, files, values, slots, counts, settings.secrets)
    call_tool = through(call_tool, tools) if through else call_tool
    runs = RunHandlers(settings.parallel_steps)
    steps = StepHandlers(tools.specs(), keys or ring)
    return Service(
        "executor",
        settings,
        platform,
        kinds=[RUN, STEP],
        metrics=metrics,
        on=[
            On(PlanReady, RUN, runs.on_plan_ready),
            On(StepFinished, RUN, runs.on_step_finished),
            On(CancelRequested, RUN, runs.on_cancel_requested),
            On(StepReady, STEP, steps.on_step_ready),
            On(StepCancel, STEP, steps.on_step_cancel),
            On(ActionDecided, STEP, steps.on_action_decided),
        ],
        does=[
            Does(binding.KIND, RUN, partial(bind_arguments, values=values), runs.on_bound),
            Does(step.KEYS, STEP, partial(learn_keys, source=key_source or ring), steps.on_keys_learned),
            Does(step.TOOL, STEP, call_tool, steps.on_tool_ended),
        ],
        timers=[
            Timer(announce.DEADLINE, RUN, runs.on_deadline),
            Timer(step.AGAIN, STEP, steps.on_step_timer),
            Timer(step.PATIENCE, STEP, steps.on_step_timer),
        ],
        api=api.routes(tools.specs()),
        pings={} if switch else {"safety": kill_switch.ping},
        observers=[counts.stored, Journal(platform.logger("executor")).stored],
    )


def shipped_tools(files: Sequence[Path]) -> RegistryTools:
    """Load the shipped tools and those of the user's files; raises Misconfigured naming the file and the remedy."""
    registry = built_in_tools()
    try:
        for file in files:
            registry.load_file(file)
    except ToolDeclarationError as unusable:
        raise Misconfigured(f"RAA_TOOLS: {unusable}") from unusable
    return RegistryTools(registry)
