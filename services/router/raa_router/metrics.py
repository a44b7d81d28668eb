"""Metrics of the router: calls, tokens, money, and what had no price."""

from raa_router.domain.catalogue import ModelSpec
from raa_router.domain.chat import Answer
from raa_runtime.telemetry import Metrics


class RouterMetrics:
    """What the router counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.calls = metrics.counter("raa_router_calls_total", "model calls by outcome", ("model", "outcome"))
        self.tokens = metrics.counter("raa_router_tokens_total", "tokens sent and received", ("model", "direction"))
        self.cost = metrics.counter("raa_router_cost_microusd_total", "settled cost of priced models", ("model",))
        self.unpriced = metrics.counter("raa_router_unpriced_calls_total", "answers without a known price", ("model",))
        self.duration = metrics.histogram("raa_router_call_duration_seconds", "time to the whole answer", ("model",))
        self.requests = metrics.counter("raa_router_requests_total", "requests by how they were served", ("served",))

    def answered(self, answer: Answer, seconds: float) -> None:
        """Count an answer."""
        self.calls.labels(answer.model, "fallback" if answer.fallback else "answered").inc()
        self.tokens.labels(answer.model, "sent").inc(answer.prompt_tokens)
        self.tokens.labels(answer.model, "received").inc(answer.completion_tokens)
        self.duration.labels(answer.model).observe(seconds)
        if answer.cost_microusd is None:
            self.unpriced.labels(answer.model).inc()
        else:
            self.cost.labels(answer.model).inc(answer.cost_microusd)

    def failed(self, spec: ModelSpec, why: str) -> None:
        """Count a call without an answer."""
        self.calls.labels(spec.name, why).inc()
