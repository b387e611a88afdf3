"""Every error is one line of JSON: `{"error": "what is wrong"}`."""

import json
from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from reward_model.common.errors import UserError, first_line


class ErrorAnswer(BaseModel):
    """What is wrong, in a line."""

    error: str


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """A line of JSON, in ASCII: what a request holds need not be text."""
    return Response(json.dumps({"error": message}) + "\n", status, headers, "application/json")


def report_errors(app: FastAPI) -> None:
    """Have the application answer all errors so."""

    @app.exception_handler(HTTPException)
    def _(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return error_response(404, f"{request.url.path} is no path of this server: /openapi.json lists them")
        return error_response(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(UserError)
    def _(request: Request, error: UserError) -> Response:
        return error_response(422, first_line(error))

    @app.exception_handler(RequestValidationError)
    def _(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return error_response(422, f"the body is not JSON: {first['ctx']['error']}, at character {first['loc'][1]}")
        return error_response(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(Exception)
    def _(request: Request, error: Exception) -> Response:
        return error_response(500, f"not computed: {first_line(error)}")
