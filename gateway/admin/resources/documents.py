"""What describes the API itself, and the few pages that need no credential."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import Path
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from gateway.admin.access import ANY, Operations
from gateway.admin.context import Here
from gateway.admin.problem import Problem
from gateway.admin.reference import DOCUMENT, reference
from gateway.policy.tokens import VerificationKey
from gateway.problems import PROBLEMS

operations = Operations("documents", ANY)
anywhere = Operations("documents", ANY, prefix="")

_MARKDOWN = "text/markdown; charset=utf-8"


def _text(media_type: str, description: str) -> dict[int | str, object]:
    return {200: {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}}


@operations.get("/openapi.json", responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}})
async def get_openapi_document() -> Response:
    """This API as OpenAPI 3.1."""
    return Response(await asyncio.to_thread(DOCUMENT.read_bytes), media_type="application/json")


@operations.get("/reference.md", response_class=Response, responses=_text("text/markdown", "Markdown"))
async def get_reference() -> Response:
    """This API as one page of Markdown, for people and for programs that read."""
    # Asked for now and then: holding it ready would cost every node 3 MiB.
    page = await asyncio.to_thread(lambda: reference(json.loads(DOCUMENT.read_bytes())))
    return Response(page, media_type=_MARKDOWN)


@anywhere.open(
    "GET",
    "/problems/{slug}",
    "Explains an answer that a stranger may have got.",
    problems=(404, 422),
    response_class=Response,
    responses=_text("text/markdown", "Markdown"),
)
async def get_problem(slug: Annotated[str, Path(max_length=64)]) -> Response:
    """What a problem's `type` means, and what to do about it."""
    kind = PROBLEMS.get(slug)
    if kind is None:
        raise Problem("not-found", f"there is no problem {slug!r}")
    text = f"# {kind.title}\n\n`{kind.type}`, HTTP {kind.status}\n\n{kind.explanation}\n\n{kind.remedy}\n"
    return Response(text, media_type=_MARKDOWN)


@anywhere.open(
    "GET",
    "/healthz",
    "Says only that the API answers.",
    response_class=PlainTextResponse,
    responses=_text("text/plain", "ok"),
)
async def get_health() -> Response:
    """Whether the API answers."""
    return PlainTextResponse("ok\n")


@anywhere.open(
    "GET",
    "/ca.pem",
    "A certificate is public; clients need it before they can trust anything.",
    response_class=Response,
    responses=_text("application/x-pem-file", "PEM"),
)
async def get_ca(here: Here) -> Response:
    """The certificate of the authority that signs the listeners' certificate."""
    return Response(here.identity.ca_path.read_bytes(), media_type="application/x-pem-file")


@anywhere.open(
    "GET",
    "/.well-known/jwks.json",
    "Public keys: other nodes and services check this node's tokens with them.",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def get_jwks(here: Here) -> Response:
    """The public keys that vouch for this node's tokens."""
    return JSONResponse({"keys": [_jwk(key) for key in here.identity.verification_keys()]})


def _jwk(key: VerificationKey) -> dict[str, object]:
    public: dict[str, object] = key.scheme.to_jwk(key.key, as_dict=True)
    return {**public, "kid": key.kid, "alg": key.algorithm, "use": "sig"}
