"""What the server counts, in Prometheus' text format."""

import time
from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "reward_model_requests", "Answers, by path and status", ["path", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "reward_model_request_seconds",
            "From a request's headers to the end of its answer",
            ["path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.under_way = Gauge("reward_model_requests_under_way", "Requests not yet answered", registry=self._registry)
        self.batch_texts = Histogram(
            "reward_model_batch_texts", "Texts computed together", buckets=TEXTS, registry=self._registry
        )

    def to_text(self) -> bytes:
        """All of them as they are now."""
        return generate_latest(self._registry)


class MetricsMiddleware:
    """Counts and times the answers of an application.

    Args:
        app: the application.
        metrics: where it is counted.
        paths: those with counters of their own; any other counts as "other".
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(path, message["status"]).inc()
            await send(message)

        start = time.perf_counter()
        try:
            with self._metrics.under_way.track_inprogress():
                await self._app(scope, receive, counting)
        except Exception:  # becomes a 500 further out
            self._metrics.requests.labels(path, 500).inc()
            raise
        self._metrics.seconds.labels(path).observe(time.perf_counter() - start)
