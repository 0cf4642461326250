"""Answers that say "no": RFC 9457 problem details, the one place of the admin API where errors become answers.

A resource raises `Problem`, or lets an error of the `errors` tree pass; what is neither is a bug, answered with 500,
its trace id and nothing else, and logged with its traceback. Must not know: what the resources are.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gateway.errors import (
    AlreadyExists,
    ConfigError,
    EnrolmentRefused,
    GatewayError,
    InvalidChange,
    InvalidDocument,
    LoginRefused,
    NotAllowed,
    NotFound,
    StaleVersion,
    StorageError,
    TokenError,
    TooManyAttempts,
)
from gateway.problems import PROBLEMS

MEDIA_TYPE = "application/problem+json"
#: Errors listed in one answer; a body can have thousands.
MAX_ERRORS = 20
_MAX_SHOWN_CHARACTERS = 300

_logger = logging.getLogger(__name__)

_BY_STATUS = {
    400: "bad-request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
    422: "invalid",
}

_OF_ERRORS: tuple[tuple[type[GatewayError], str], ...] = (
    (NotFound, "not-found"),
    (AlreadyExists, "conflict"),
    (StaleVersion, "precondition-failed"),
    (NotAllowed, "forbidden"),
    (LoginRefused, "unauthenticated"),
    (EnrolmentRefused, "forbidden"),
    (StorageError, "storage-unavailable"),
    (ConfigError, "invalid"),
    (TokenError, "invalid"),
)


class ErrorAt(BaseModel):
    """One thing that is wrong. `pointer` is a JSON pointer into the body, or `#query/name`, `#path/name`,
    `#header/name`."""

    model_config = ConfigDict(extra="allow")

    pointer: str
    detail: str


class ProblemDetails(BaseModel):
    """RFC 9457. `type` is stable; its page is at that path."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/problems/not-found"])
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    errors: list[ErrorAt] | None = None
    trace_id: str = ""


class Problem(Exception):
    """Raise it to answer with a problem. `slug` is a key of `problems.PROBLEMS`."""

    def __init__(
        self,
        slug: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = PROBLEMS[slug]
        self.detail = detail
        self.errors = errors
        self.headers = headers


def answer(request_path: str, trace_id: str, problem: Problem) -> Response:
    """The response that tells of a problem."""
    kind = problem.kind
    body: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail or kind.explanation,
        "instance": request_path,
        "trace_id": trace_id,
    }
    if problem.errors:
        body["errors"] = [dict(error) for error in problem.errors[:MAX_ERRORS]]
    headers = dict(problem.headers or {})
    if kind.status == 401:
        headers.setdefault("www-authenticate", 'Bearer realm="gateway admin"')
    return JSONResponse(body, kind.status, headers, MEDIA_TYPE)


def trace_of(request: Request) -> str:
    """The id that the boundary gave this request, or took from it."""
    return str(request.scope.get("state", {}).get("trace_id", ""))


def install(app: FastAPI, allowed: Callable[[str], Collection[str]]) -> None:
    """Make every error of `app` a problem. `allowed` gives the methods that a path takes."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return _answer(request, error)

    async def gateway_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return _answer(request, of_gateway_error(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _answer(request, _of_validation(error))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        slug = _BY_STATUS.get(error.status_code, "bad-request")
        if error.status_code == 405:
            methods = allowed(request.scope["path"])
            raised = Problem(slug, headers={"allow": ", ".join(methods)})
            return _answer(request, raised if methods else Problem("not-found"))
        detail = "" if error.status_code in (404, 405) else str(error.detail)
        return _answer(request, Problem(slug, detail, headers=error.headers))

    async def bug(request: Request, error: Exception) -> Response:
        _logger.error("a bug in the admin API, trace %s", trace_of(request), exc_info=error)
        return _answer(request, Problem("internal"))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(GatewayError, gateway_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, bug)


def of_gateway_error(error: GatewayError) -> Problem:
    """What an error of the tree becomes where a resource has not said otherwise."""
    if isinstance(error, TooManyAttempts):
        wait = str(max(1, math.ceil(error.retry_after_s)))
        return Problem("too-many-requests", str(error), headers={"retry-after": wait})
    if isinstance(error, InvalidChange):
        return Problem("invalid", str(error), errors=[{"pointer": error.pointer, "detail": str(error)}])
    if isinstance(error, InvalidDocument):
        return Problem("invalid-document", str(error), errors=[_of_finding(each) for each in error.findings])
    for kind, slug in _OF_ERRORS:
        if isinstance(error, kind):
            return Problem("storage-full" if error.reason == "storage_full" else slug, str(error))
    return Problem("conflict", str(error))


def _of_finding(finding: Any) -> dict[str, Any]:
    more = {name: value for name in ("code", "document", "line", "fix", "warning") if (value := getattr(finding, name))}
    return {"pointer": finding.pointer[:_MAX_SHOWN_CHARACTERS], "detail": finding.text[:_MAX_SHOWN_CHARACTERS], **more}


def _answer(request: Request, problem: Problem) -> Response:
    return answer(request.url.path, trace_of(request), problem)


#: What people read for a pattern that an operation's description has.
_PATTERNS: Final = {
    r"^[A-Za-z0-9_-]{1,64}$": "1 to 64 of A-Z a-z 0-9 _ -",
    r"^[0-9]{1,18}$": "a number",
    r"^https?://[!-~]+$": "an http or https URL",
}


def _of_validation(error: RequestValidationError) -> Problem:
    errors = [_error_at(each) for each in error.errors()[:MAX_ERRORS]]
    return Problem("invalid", "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors[:3]), errors=errors)


def _error_at(error: Mapping[str, Any]) -> dict[str, str]:
    place, *path = error["loc"] or ("body",)
    steps = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
    pointer = (steps or "/") if place == "body" else f"#{place}{steps}"
    detail = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        detail = _PATTERNS.get(error["ctx"]["pattern"], detail)
    return {"pointer": pointer[:_MAX_SHOWN_CHARACTERS], "detail": detail[:_MAX_SHOWN_CHARACTERS]}
