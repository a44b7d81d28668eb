"""The composition root of the router: the only place that builds its model clients and its service."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from raa_router import api, handlers
from raa_router.activities import Completion, Keeping, Patience
from raa_router.adapters.answer_cache import KeyValueAnswers
from raa_router.adapters.litellm_model import LitellmModel
from raa_router.adapters.model_file import read_models
from raa_router.adapters.offline_model import OfflineModel
from raa_router.adapters.openai_compatible import OpenAICompatibleModel
from raa_router.adapters.price_list import priced, shipped_prices
from raa_router.domain.catalogue import Catalogue, ModelSpec, UnknownModelError, catalogue_of
from raa_router.domain.chat import CHAT, COMPLETE, EXPIRE
from raa_router.metrics import RouterMetrics
from raa_router.ports import ModelClient
from raa_router.settings import RouterSettings
from raa_runtime.activities import Run
from raa_runtime.errors import Misconfigured
from raa_runtime.platform import Platform
from raa_runtime.service import Does, Service, Timer
from raa_runtime.telemetry import Metrics

_OPENAI = "https://api.openai.com/v1"


def build(
    settings: RouterSettings,
    platform: Platform,
    clients: Mapping[str, ModelClient] | None = None,
    through: Callable[[Run], Run] | None = None,
) -> Service:
    """Wire the router; raises Misconfigured for models that cannot be read.

    `through` puts something between the router and its models, for example recorded answers.
    """
    log, metrics = platform.logger("router"), Metrics()
    counts = RouterMetrics(metrics)
    catalogue = configured(settings)
    clients = clients or {
        "offline": OfflineModel(),
        "openai": OpenAICompatibleModel(platform.http),
        "litellm": LitellmModel(),
    }
    retention = timedelta(seconds=settings.answer_retention_seconds)
    completion = Completion(catalogue, clients, counts, Patience(settings.retry_seconds, settings.refused_seconds))
    complete = Keeping(through(completion) if through else completion, platform.blobs, log)

    # without Redis the cache would only hold in memory what the store next to it holds
    cache = KeyValueAnswers(platform.kv, retention, log) if settings.redis_url else None

    def itself() -> Service:
        return service

    desk = api.ChatDesk(itself, catalogue, platform.clock, counts, request_seconds=settings.request_seconds,
                        refuse_unpriced=settings.unpriced == "refuse", cache=cache)  # fmt: skip
    service = Service(
        "router", settings, platform, kinds=[CHAT], metrics=metrics,
        does=[Does(COMPLETE, CHAT, complete, partial(handlers.on_completed, retention=retention))],
        timers=[Timer(EXPIRE, CHAT, handlers.on_expired)],
        api=api.routes(desk, catalogue, platform.clock, settings.request_seconds, completion.waiting),
    )  # fmt: skip
    return service


def configured(settings: RouterSettings) -> Catalogue:
    """Collect the models of the settings, each with its price; raises Misconfigured.

    An endpoint given as OPENAI_BASE_URL is the default unless another is named, and takes any model name. A key alone
    only opens its provider's models by name: what is asked by default must not leave the machine unnoticed.
    """
    specs = read_models(settings.models)
    passthrough: ModelSpec | None = None
    if settings.openai_base_url or settings.openai_api_key:
        passthrough = ModelSpec(name="openai", model=settings.openai_model, api_key=settings.openai_api_key,
                                base_url=settings.openai_base_url or _OPENAI)  # fmt: skip
        specs += [passthrough] if settings.openai_base_url and "openai" not in {spec.name for spec in specs} else []
    prices = shipped_prices()
    try:
        return catalogue_of([priced(spec, prices) for spec in specs], settings.default_model, passthrough)
    except UnknownModelError as unknown:
        raise Misconfigured(
            f"RAA_DEFAULT_MODEL or a fallback names a model that is not configured: {unknown}"
        ) from None
