"""Spools: what waits for services that are not there, and what an operator does about it."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here, Spools
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, Search, slice_page
from gateway.admin.pages import Meta as PageMeta
from gateway.admin.problem import Problem
from gateway.admin.shapes import DryRun, Shown, Taken
from gateway.control.roles import Action
from gateway.errors import StorageError
from gateway.spool.message import MessageId, Waiting
from gateway.spool.rules import PRIORITIES
from gateway.spool.spool import Spool

operations = Operations("spools", "routing")

#: How much of a message's data is shown.
SHOWN_BYTES = 1024

Name = Annotated[str, Query(min_length=1, max_length=400, description="Name of a spool, as `document/service`.")]
GivenName = Annotated[str, Field(min_length=1, max_length=400)]


class ClassView(Shown):
    priority: int
    messages: int
    bytes: int
    in_flight: int


class SpoolView(Shown):
    """`behind`: new requests wait, too, until what waits has been delivered. `drain_eta_s`: null while it does not get
    less. `lost`: messages that left other than by delivery since the file was made; `refused`: those not taken in this
    run; both by reason."""

    name: str
    document: str
    service: str
    messages: int
    bytes: int
    max_bytes: int
    in_flight: int
    behind: bool
    oldest_age_s: float | None
    drain_eta_s: float | None
    appended: int
    delivered: int
    sent_again: int
    lost: dict[str, int]
    refused: dict[str, int]
    classes: list[ClassView]


class MessageView(Shown):
    """`data` is its beginning as text, or `base64` where it is none; `bytes` is how much it has. `interaction` is
    fireAndForget or requestResponse. `damaged`: it cannot be read, and will not be delivered."""

    id: str
    priority: int
    key: str
    subject: str
    interaction: str
    route: str
    age_s: float
    bytes: int
    data: str | None
    base64: str | None
    damaged: bool


class Which(Taken):
    spool: GivenName


class Dropped(Taken):
    """All that is given must fit; nothing given: everything."""

    spool: GivenName
    ids: list[Annotated[str, Field(max_length=200)]] | None = Field(default=None, max_length=1000)
    key: str | None = Field(default=None, max_length=512)
    priority: int | None = Field(default=None, ge=0, lt=PRIORITIES)


class Done(Shown):
    """How many messages that was."""

    messages: int


@operations.get("/spools", response_model=PageOf[SpoolView])
async def list_spools(
    here: Here,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32, description="name, messages, bytes or age; `-` in front.")] = "name",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """What waits, by document and service."""
    depot = here.node.depot
    views = [] if depot is None else [_view(depot, name, spool) for name, spool in depot.spools().items()]
    rows, following = await slice_page(
        (view for view in views if not q or q.lower() in view.name.lower()),
        sort=sort,
        keys={
            "name": lambda view: view.name,
            "messages": lambda view: view.messages,
            "bytes": lambda view: view.bytes,
            "age": lambda view: view.oldest_age_s or 0.0,
        },
        identity=lambda view: view.name,
        limit=limit,
        cursor=cursor,
    )
    return PageOf[SpoolView](data=rows, meta=PageMeta(limit=limit, next=following))


@operations.get("/spools/messages", Action.OPERATE, problems=(404,), response_model=PageOf[MessageView])
async def list_spool_messages(
    here: Here,
    spool: Name,
    priority: Annotated[int | None, Query(ge=0, lt=PRIORITIES)] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=32, pattern=r"^[0-9]{1,19}$")] = None,
) -> Any:
    """Look at what waits, the most important first, the oldest first; nothing is taken."""
    depot, found = _find(here, spool)
    waiting = await found.peek(limit, priority=priority, after=min(int(cursor or 0), 2**62))
    following = str(waiting[-1].number) if len(waiting) == limit else None
    return PageOf[MessageView](
        data=[_message(depot, each) for each in waiting], meta=PageMeta(limit=limit, next=following)
    )


@operations.post("/spools:replay", Action.OPERATE, problems=(404,), response_model=Done)
async def replay_spool(here: Here, by: By, body: Which, dry_run: DryRun = False) -> Any:
    """Send what waits without waiting for the next try, and what is on its way once more."""
    depot, found = _find(here, body.spool)
    if dry_run:
        return Done(messages=found.messages)
    await here.control.audit.record(by, "spool.replay", f"spool:{body.spool}", details={"messages": found.messages})
    count = depot.replay(body.spool)
    here.events.add("spool.replayed", body.spool, by=by.id, messages=count)
    return Done(messages=count)


@operations.post("/spools:drop", problems=(404,), response_model=Done)
async def drop_messages(here: Here, by: By, body: Dropped, dry_run: DryRun = False) -> Any:
    """Throw away what waits; it is counted as lost. What is on its way stays: it may have arrived."""
    _, found = _find(here, body.spool)
    ids = None if body.ids is None else [_identity(text, at) for at, text in enumerate(body.ids)]
    if dry_run:
        return Done(messages=found.messages if ids is None and body.key is None else len(ids or ()))
    told = body.model_dump(exclude={"spool"}, exclude_none=True)
    await here.control.audit.record(by, "spool.drop", f"spool:{body.spool}", details={"dropped": told})
    key = None if body.key is None else body.key.encode(errors="replace")
    count = await found.drop(ids=ids, key=key, priority=body.priority)
    here.events.add("spool.dropped", body.spool, by=by.id, messages=count)
    return Done(messages=count)


def _find(here: Context, name: str) -> tuple[Spools, Spool]:
    depot = here.node.depot
    found = None if depot is None else depot.spools().get(name)
    if depot is None or found is None:
        raise Problem("not-found", f"nothing waits under the name {name!r}")
    return depot, found


def _view(depot: Spools, name: str, spool: Spool) -> SpoolView:
    document, _, service = name.partition("/")
    status = spool.status()
    shown = {field: getattr(status, field) for field in SpoolView.model_fields if hasattr(status, field)}
    shown["classes"] = [ClassView.of(each) for each in status.classes]
    return SpoolView(name=name, document=document, service=service, behind=depot.is_behind(name), **shown)


def _message(depot: Spools, message: Waiting) -> MessageView:
    try:
        opened = depot.opened(message)
    except StorageError:
        opened = None
    data, encoded = _shown(b"" if opened is None else opened.data[:SHOWN_BYTES])
    return MessageView(
        id=str(message.id),
        priority=message.priority,
        key=message.key.decode(errors="replace"),
        subject="" if opened is None else opened.subject,
        interaction="" if opened is None else opened.interaction,
        route="" if opened is None else opened.route,
        age_s=message.age_s,
        bytes=0 if opened is None else len(opened.data),
        data=data,
        base64=encoded,
        damaged=opened is None,
    )


def _shown(data: bytes) -> tuple[str | None, str | None]:
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(data).decode()


def _identity(text: str, at: int) -> MessageId:
    try:
        node, epoch, seq = text.rsplit("/", 2)
        return MessageId(node, int(epoch, 16), int(seq))
    except ValueError:
        raise Problem("invalid", errors=[{"pointer": f"/ids/{at}", "detail": "is no id of a message"}]) from None
