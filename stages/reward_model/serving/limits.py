"""Who may ask, how much at a time, and for how long."""

import asyncio
import hmac
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_model.serving.errors import error_response

Result = TypeVar("Result")
OPEN_PATHS = ("/health",)  # for those without the key too


@dataclass(frozen=True)
class Limits:
    """What the server takes.

    Attributes:
        body_bytes: of a request's body.
        texts: texts of a request.
        requests: requests under way at a time, from their headers to their answer.
        seconds: until a body has come, and from there until the answer.
        api_key: what requests must give as `Authorization: Bearer KEY`; None if anybody may ask.
    """

    body_bytes: int = 2 * 2**20
    texts: int = 256
    requests: int = 256
    seconds: float = 120
    api_key: str | None = None


class LimitsMiddleware:
    """Turns requests away before they cost anything. Every body is handed on as JSON, whatever its header says.

    Args:
        app: the application.
        limits: what it takes.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
        elif not self._is_allowed(scope):
            response = error_response(401, "the API key is missing or wrong", {"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
        elif scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif self._under_way >= self._limits.requests:
            response = error_response(429, f"{self._under_way} requests are under way: try later", {"Retry-After": "1"})
            await response(scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self._app(_as_json(scope), self._limited(receive), send)
            finally:
                self._under_way -= 1

    def _is_allowed(self, scope: Scope) -> bool:
        key = self._limits.api_key
        given = dict(scope["headers"]).get(b"authorization", b"")
        return key is None or hmac.compare_digest(given, f"Bearer {key}".encode())

    def _limited(self, receive: Receive) -> Receive:
        """Messages of the body, as long as it keeps to the limits."""
        deadline = asyncio.get_running_loop().time() + self._limits.seconds
        size = 0
        is_whole = False

        async def receive_limited() -> Message:
            nonlocal size, is_whole
            try:
                async with asyncio.timeout_at(None if is_whole else deadline):
                    message = await receive()
                    size += len(message.get("body", b""))
                    while size > self._limits.body_bytes and message.get("more_body", False):
                        message = await receive()  # and forget it: clients read the answer once they have written all
            except TimeoutError:
                late = f"the body did not come within {self._limits.seconds:g} seconds"
                raise HTTPException(408, late, {"Connection": "close"}) from None
            if size > self._limits.body_bytes:
                raise HTTPException(413, f"the body has more than the {self._limits.body_bytes} bytes that are taken")
            is_whole = not message.get("more_body", False)
            return message

        return receive_limited


def _as_json(scope: Scope) -> Scope:
    others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*others, (b"content-type", b"application/json")]}


async def while_wanted(request: Request, work: Awaitable[Result], seconds: float) -> Result:
    """What `work` gives; it is cancelled if the client leaves, or the time is over.

    Raises:
        HTTPException: 499 (which nobody reads) or 503.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_leaving(request.receive))
    try:
        await asyncio.wait({working, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if leaving.done():
            raise HTTPException(499, "the client has left")
    finally:
        working.cancel()
        leaving.cancel()
    raise HTTPException(503, f"not computed within {seconds:g} seconds: the server is busy", {"Retry-After": "1"})


async def _leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
