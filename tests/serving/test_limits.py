"""Requests that take too long or are too many, by ASGI's own messages: no sockets, no waiting."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from reward_model.serving.errors import report_errors
from reward_model.serving.limits import Limits, LimitsMiddleware, while_wanted


def build(limits: Limits, seconds_of_work: float) -> FastAPI:
    app = FastAPI()

    @app.post("/score")
    async def _(request: Request, row: dict[str, Any]) -> str:
        return await while_wanted(request, asyncio.sleep(seconds_of_work, "done"), limits.seconds)

    report_errors(app)
    app.add_middleware(LimitsMiddleware, limits=limits)
    return app


async def post(app: FastAPI, messages: list[Message]) -> int:
    """Send the messages, and then nothing; the answer's status."""
    statuses: list[int] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/score",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
    }
    await app(scope, receive, send)
    return statuses[0]


def body(text: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": text, "more_body": more}


GONE: Message = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("messages", "seconds_of_work", "status"),
    [
        ([body(b"{"), body(b"}")], 0, 422),  # the second is no part of the first
        ([body(b"{", more=True), body(b"}")], 0, 200),
        ([body(b"{", more=True)], 0, 408),  # a body of which half comes
        ([body(b"{", more=True), GONE], 0, 400),  # a client killed while it sends
        ([body(b"{}"), GONE], 60, 499),  # … while it waits
        ([body(b"{}")], 60, 503),
        ([body(b"x" * 60, more=True), body(b"x" * 60, more=True), body(b"x")], 0, 413),
    ],
)
def test_nobody_waits_for_ever(messages: list[Message], seconds_of_work: float, status: int) -> None:
    app = build(Limits(body_bytes=100, seconds=0.2), seconds_of_work)
    assert asyncio.run(post(app, list(messages))) == status


def test_too_many_requests_are_told_to_come_later() -> None:
    async def ask() -> list[int]:
        app = build(Limits(requests=2, seconds=5), 0.1)
        found = await asyncio.gather(*(post(app, [body(b"{}")]) for _ in range(3)))
        return [*found, await post(app, [body(b"{}")])]

    assert asyncio.run(ask()) == [200, 200, 429, 200]
