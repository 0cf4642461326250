"""Documents: what is declared beyond settings, and the validator that says what is wrong with it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Body, Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, stored_page
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.shapes import DryRun, Shown, Taken, Time
from gateway.documents.kinds import KINDS
from gateway.documents.reading import MAX_CHARACTERS
from gateway.documents.schema import schema_of

operations = Operations("declarations", "policy")

KindName = Literal["Access", "Bridge", "Service", "Spool", "Telemetry"]
Kind = Annotated[KindName, Path(description="A kind of document.")]
Name = Annotated[str, Path(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]


class DocumentView(Shown):
    """`body`: what was written. `origin`: local, or bundle, where `version` is that of the bundle; `shadows`: the node
    has one of its own of this kind and name, which does not act."""

    kind: str
    name: str
    body: dict[str, Any]
    created_at: Time
    updated_at: Time
    updated_by: str
    version: int
    origin: Literal["local", "bundle"] = "local"
    shadows: bool = False


class FindingView(Shown):
    """`code` does not change between versions; `line` is that of the text, 0 where there is none."""

    code: str
    text: str
    document: str
    pointer: str
    line: int
    fix: str


class AppliedView(Shown):
    document: DocumentView
    outcome: Literal["created", "changed", "unchanged"]


class ApplicationView(Shown):
    """`warnings` did not keep anything from being stored."""

    applied: list[AppliedView]
    warnings: list[FindingView]


class Text(Taken):
    """One or more documents in YAML or JSON, with `---` between them."""

    text: str = Field(max_length=MAX_CHARACTERS)


@operations.get("/documents", response_model=PageOf[DocumentView])
async def list_documents(
    here: Here,
    kind: Annotated[KindName | None, Query(description="Only those of this kind.")] = None,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32)] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The documents, in the order in which they act."""
    page = await here.control.documents.list(cursor=cursor, limit=limit, sort=sort, q=q, kind=kind)
    return await stored_page(DocumentView, page, limit)


@operations.get("/documents/schema", responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}})
async def get_documents_schema() -> dict[str, Any]:
    """Every kind as JSON Schema, by its name."""
    return await asyncio.to_thread(lambda: {kind: schema_of(kind) for kind in KINDS})


@operations.post("/documents:apply", problems=(409,), response_model=ApplicationView)
async def apply_documents(here: Here, by: By, body: Text, dry_run: DryRun = False) -> Any:
    """Store every document of a text, or none of them; one of the kind and name of another takes its place."""
    done = await here.control.documents.apply(body.text, by=by, dry_run=dry_run)
    return ApplicationView.of(done)


@operations.get("/documents/{kind}/{name}", response_model=DocumentView)
async def get_document(here: Here, response: Response, kind: Kind, name: Name) -> Any:
    """One document."""
    found = await here.control.documents.get(kind, name)
    response.headers["etag"] = etag(found.version)
    return DocumentView.of(found)


@operations.put("/documents/{kind}/{name}", problems=(409, 412, 428), response_model=ApplicationView)
async def put_document(
    here: Here,
    by: By,
    response: Response,
    kind: Kind,
    name: Name,
    body: Annotated[dict[str, Any], Body(max_length=200, description="The document; kind and name may be left out.")],
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Store one document. `If-Match` is the `ETag` of the one it replaces, `"0"` where there must be none, or `*`."""
    done = await here.control.documents.put(kind, name, body, by=by, expect=expected(if_match), dry_run=dry_run)
    response.headers["etag"] = etag(done.applied[0].document.version)
    return ApplicationView.of(done)


@operations.delete("/documents/{kind}/{name}", problems=(409, 412, 428), status_code=204)
async def delete_document(
    here: Here, by: By, kind: Kind, name: Name, if_match: IfMatch = None, dry_run: DryRun = False
) -> Response:
    """Act by it no longer."""
    await here.control.documents.delete(kind, name, by=by, expect=expected(if_match), dry_run=dry_run)
    return Response(status_code=204)
