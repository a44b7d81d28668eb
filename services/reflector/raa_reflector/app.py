"""The composition root of the reflector: the only place where its parts are put together."""

from functools import partial

from raa_reflector import handlers
from raa_reflector.activities import FETCH, Fetching
from raa_reflector.adapters.blob_outputs import BlobOutputs
from raa_reflector.domain.case import CASE
from raa_reflector.metrics import ReflectorMetrics, observer
from raa_reflector.ports import Outputs
from raa_reflector.settings import ReflectorSettings
from raa_runtime.platform import Platform
from raa_runtime.service import Does, On, Service, Timer
from raa_runtime.telemetry import Metrics
from raa_schemas.cancel import CancelRequested
from raa_schemas.plan import PlanReady
from raa_schemas.step import StepDone
from raa_schemas.task import TaskCreated


def build(settings: ReflectorSettings, platform: Platform, outputs: Outputs | None = None) -> Service:
    """Wire the reflector. Every dependency is a defaulted argument."""
    outputs = outputs or BlobOutputs(platform.blobs, settings.max_output_bytes)
    metrics, patience = Metrics(), settings.patience
    return Service(
        "reflector",
        settings,
        platform,
        kinds=[CASE],
        on=[
            On(TaskCreated, CASE, partial(handlers.on_task_created, patience=patience)),
            On(PlanReady, CASE, partial(handlers.on_plan_ready, patience=patience)),
            On(StepDone, CASE, partial(handlers.on_step_done, patience=patience)),
            On(CancelRequested, CASE, handlers.on_cancel_requested),
        ],
        does=[Does(FETCH, CASE, run=Fetching(outputs), completed=handlers.on_fetched)],
        timers=[
            Timer(handlers.PARTIAL, CASE, handlers.on_partial),
            Timer(handlers.END, CASE, handlers.on_end),
        ],
        observers=[observer(ReflectorMetrics(metrics), platform.logger("reflector"))],
        metrics=metrics,
    )
