"""The support bundle: what those who help need to know of this node, in one file, without secrets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import metadata
from typing import Annotated, Any, Final

import httpx
from fastapi import Query, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import __version__
from gateway.admin import exposition
from gateway.admin.access import PREFIX, By, Operations, address_of
from gateway.admin.context import Context, Here
from gateway.admin.exposition import Sources
from gateway.admin.problem import trace_of
from gateway.admin.resources.backups import Planned
from gateway.admin.shapes import DryRun
from gateway.observe.redaction import Redaction
from gateway.observe.support_bundle import ASKED, NAMES, Ask, SupportBundle

operations = Operations("diagnostics", "system")

ARCHIVE: Final = "application/gzip"
#: For all parts together, in seconds: the request has 30.
PATIENCE_S: Final = 20.0


Redact = Annotated[
    bool,
    Query(description="Replace names of devices and people, and addresses, by pseudonyms. Secrets are never in it."),
]


@operations.post(
    "/support-bundle",
    responses={
        200: {
            "description": "The archive; for a dry run, that it would be made",
            "content": {
                ARCHIVE: {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"schema": {"$ref": "#/components/schemas/Planned"}},
            },
        }
    },
)
async def create_support_bundle(
    request: Request, here: Here, by: By, redact: Redact = True, dry_run: DryRun = False
) -> Response:
    """What those who help need to know of this node, of what the caller may read: a tar.gz of texts, in which
    MANIFEST.json says what is there, and what is not and why."""
    if dry_run:
        return Response(Planned().model_dump_json(), media_type="application/json")
    await here.control.audit.record(by, "support_bundle.create", "node")
    redaction = Redaction(personal=redact)
    now = here.plane.wall()
    bundle = SupportBundle(redaction, {"version": __version__, "made_by": "POST /api/v1/support-bundle"}, now)
    async with _caller(request) as client:
        await _ask(client, redaction, bundle)
    bundle.add_text("metrics", await _metrics(here))
    packages = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    bundle.add("versions", {"gateway": __version__, "packages": dict(sorted(packages.items()))}, plain=True)
    # Seconds of work where there is much; beside the loop, as requests go on meanwhile.
    archive = await asyncio.to_thread(bundle.archive)
    name = f"gateway-support-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    return Response(archive, media_type=ARCHIVE, headers={"content-disposition": f'attachment; filename="{name}"'})


async def _ask(client: httpx.AsyncClient, redaction: Redaction, bundle: SupportBundle) -> None:
    until = time.monotonic() + PATIENCE_S
    for name, ask in NAMES:
        answer = await _answer(client, ask, until)
        for entry in answer["data"] if isinstance(answer, dict) else ():
            redaction.learn_name(str(entry[name]))
    for ask in ASKED:
        answer = await _answer(client, ask, until)
        if isinstance(answer, str):
            bundle.missing(ask.name, answer)
        else:
            bundle.add(ask.name, ask.wanted(answer))


async def _answer(client: httpx.AsyncClient, ask: Ask, until: float) -> Any:
    """The document; why there is none, as text."""
    left = until - time.monotonic()
    try:
        async with asyncio.timeout(max(0.0, left)):
            answer = await client.get(f"{PREFIX}{ask.path}", params=dict(ask.parameters))
    except TimeoutError:
        return f"the node took longer than {PATIENCE_S:.0f} s"
    document = answer.json()
    if answer.is_success:
        return document
    return f"{document.get('title', answer.status_code)}: {document.get('detail', '')}"


@asynccontextmanager
async def _caller(request: Request) -> AsyncIterator[httpx.AsyncClient]:
    """Whoever asks for the bundle, with what they may: the API is asked in their name, in this process."""
    application: ASGIApp = request.app
    state = {"trace_id": trace_of(request)}

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "state": dict(state)}, receive, send)

    transport = httpx.ASGITransport(marked, client=(address_of(request), 0))
    headers = {"authorization": request.headers["authorization"]}
    async with httpx.AsyncClient(transport=transport, base_url="http://node", headers=headers) as client:
        yield client


async def _metrics(here: Context) -> str:
    """What the process counts; that of its links, spools and bridges is among the other parts."""
    sources = Sources(here.plane.outbox_bytes, lambda: len(here.plane.table))
    return (await exposition.render(here.metrics, sources, __version__)).decode()
