"""The web application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from reward_model.common.files import read_json
from reward_model.scoring.scorer import Scorer
from reward_model.serving.errors import ErrorAnswer, report_errors
from reward_model.serving.limits import Limits, LimitsMiddleware
from reward_model.serving.metrics import MetricsMiddleware
from reward_model.serving.service import RewardService

PATHS = ("/score", "/get_reward", "/v1/score/evaluation", "/classify", "/health", "/metrics", "/openapi.json")
ERRORS = {
    400: "unreadable",
    401: "no key",
    408: "late body",
    413: "too much",
    422: "not to be scored",
    429: "too many",
    503: "too late",
}


def build_app(scorer: Scorer, folder: Path, name: str, limits: Limits) -> FastAPI:
    """A server of a reward model.

    Args:
        scorer: computes the rewards.
        folder: the model's.
        name: the model's, as answers give it.
        limits: what is taken.
    """
    labels = read_json(folder / "config.json").get("id2label", {})
    service = RewardService(scorer, name, labels.get("0", "LABEL_0"), limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        computing = asyncio.create_task(service.queue.run())
        yield
        computing.cancel()

    app = FastAPI(
        title="Reward model",
        lifespan=lifespan,
        docs_url=None,  # those pages load their scripts from elsewhere
        redoc_url=None,
        responses={status: {"model": ErrorAnswer, "description": text} for status, text in ERRORS.items()},
    )
    app.post("/score")(service.score)
    app.post("/get_reward")(service.get_reward)
    app.post("/v1/score/evaluation")(service.evaluate_scores)
    app.post("/classify")(service.classify)
    app.get("/health")(service.health)
    app.get("/metrics")(service.show_metrics)
    report_errors(app)
    app.add_middleware(LimitsMiddleware, limits=limits)
    app.add_middleware(MetricsMiddleware, metrics=service.metrics, paths=PATHS)
    return app
