"""MQTT mappings: the rules of the bridges one by one, and what becomes of a topic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body, Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, Meta, PageOf, Search, slice_page
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.problem import Problem
from gateway.admin.resources.mqtt_bridges import KIND, GivenName, spec_of, specs_of
from gateway.admin.shapes import DryRun, Shown, Taken
from gateway.control.audit import Actor
from gateway.control.documents import Application, StoredDocument
from gateway.control.roles import Action
from gateway.documents.bridge import Bridge
from gateway.policy.mqtt_filters import is_topic
from gateway.topics.trial import trial

operations = Operations("mqtt", "mqtt")

SECTIONS = ("topics", "rpc", "call")
RuleId = Annotated[
    str,
    Path(
        max_length=80,
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?:(topics|rpc|call):[0-9]{1,3}$",
        description="Bridge, section of its document, place there from 0: `plant-a:topics:0`.",
    ),
]
Rule = Annotated[dict[str, Any], Field(max_length=50, description="As the document has it.")]


class MappingView(Shown):
    """One rule. `topic`: the broker's, as a filter. `route`: what it leads to, or what leads there. Counted since the
    node's start, for rules of the section `topics`."""

    id: str
    bridge: str
    section: Literal["topics", "rpc", "call"]
    direction: Literal["in", "out", "both", "rpc", "call"]
    topic: str
    route: str
    qos: int
    spool: str | None
    matched: int
    forwarded: int
    refused: int
    rule: dict[str, Any]


class MappingBody(Taken):
    """`at`: before which rule of the section, from 0; null: behind all."""

    bridge: GivenName
    section: Literal["topics", "rpc", "call"] = "topics"
    at: int | None = Field(default=None, ge=0, le=999)
    rule: Rule


class Asked(Taken):
    """`bridge`: only this one; null: all. `answer`: whether the message names a response topic."""

    topic: str = Field(min_length=1, max_length=65_535)
    bridge: GivenName | None = None
    answer: bool = False


class StepView(Shown):
    rule: str
    direction: Literal["in", "out", "rpc"]
    took: bool
    why: str


class MappingTestView(Shown):
    """What a message of this topic becomes by one bridge: null where no rule takes it. `selecting`: tags that choose
    who gets it. `steps`: what each rule says."""

    bridge: str
    rule: str | None
    local: str | None
    route: str | None
    tags: dict[str, str]
    selecting: dict[str, str]
    spool: str | None
    steps: list[StepView]


class MappingTestsView(Shown):
    data: list[MappingTestView]


@operations.get("/mqtt/mappings", response_model=PageOf[MappingView])
async def list_mappings(
    here: Here,
    bridge: Annotated[str | None, Query(max_length=63, description="Only those of this bridge.")] = None,
    q: Search = None,
    sort: Annotated[str, Query(max_length=32, description="id, topic, route or matched; `-` in front.")] = "id",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Any:
    """The rules of the bridges: which topic is which route."""
    rows, following = await slice_page(
        (
            each
            for each in _mappings(here)
            if (bridge is None or each.bridge == bridge) and (not q or q in each.topic or q in each.route)
        ),
        sort=sort,
        keys={
            "id": lambda each: _place(each.id),
            "topic": lambda each: each.topic,
            "route": lambda each: each.route,
            "matched": lambda each: each.matched,
        },
        identity=lambda each: each.id,
        limit=limit,
        cursor=cursor,
    )
    return PageOf[MappingView](data=rows, meta=Meta(limit=limit, next=following))


@operations.post("/mqtt/mappings", creates=True, problems=(404, 409, 412), response_model=MappingView)
async def create_mapping(here: Here, by: By, response: Response, body: MappingBody, dry_run: DryRun = False) -> Any:
    """Add a rule to a bridge's document."""
    stored = await here.control.documents.get(KIND, body.bridge)
    rules = list(stored.body.get(body.section, ()))
    at = len(rules) if body.at is None else min(body.at, len(rules))
    rules.insert(at, body.rule)
    return await _changed(here, by, response, stored, body.section, rules, at, dry_run)


@operations.get("/mqtt/mappings/{id}", response_model=MappingView)
async def get_mapping(here: Here, response: Response, id: RuleId) -> Any:
    """One rule. The `ETag` is that of the whole document."""
    stored, section, at = await _rule(here, id)
    response.headers["etag"] = etag(stored.version)
    return _mapping(here, stored, section, at)


@operations.put("/mqtt/mappings/{id}", problems=(409, 412, 428), response_model=MappingView)
async def put_mapping(
    here: Here,
    by: By,
    response: Response,
    id: RuleId,
    body: Annotated[Rule, Body()],
    if_match: IfMatch = None,
    dry_run: DryRun = False,
) -> Any:
    """Replace one rule. `If-Match` is the `ETag` of the document that it is in, or `*`."""
    stored, section, at = await _rule(here, id, expected(if_match))
    rules = list(stored.body[section])
    rules[at] = body
    return await _changed(here, by, response, stored, section, rules, at, dry_run)


@operations.delete("/mqtt/mappings/{id}", problems=(409, 412, 428), status_code=204)
async def delete_mapping(here: Here, by: By, id: RuleId, if_match: IfMatch = None, dry_run: DryRun = False) -> Response:
    """Take one rule out of its document. Those behind it move up."""
    stored, section, at = await _rule(here, id, expected(if_match))
    rules = list(stored.body[section])
    del rules[at]
    await _store(here, by, stored, {**stored.body, section: rules}, dry_run)
    return Response(status_code=204)


@operations.post("/mqtt/mappings:test", Action.READ, problems=(404,), response_model=MappingTestsView)
async def check_mapping(here: Here, body: Asked) -> Any:
    """What a message of a topic would become, by each bridge; nothing is sent."""
    if not is_topic(body.topic):
        raise Problem("invalid", errors=[{"pointer": "/topic", "detail": "is no topic: it has a wildcard, or no text"}])
    specs = [spec_of(here, body.bridge)] if body.bridge is not None else specs_of(here)
    return MappingTestsView(
        data=[MappingTestView(**trial(spec.name, spec.rules, body.topic, answer=body.answer).shown()) for spec in specs]
    )


def _place(id: str) -> str:
    bridge, section, number = id.split(":")
    return f"{bridge}:{SECTIONS.index(section)}:{int(number):03d}"


def _mappings(here: Context) -> list[MappingView]:
    counters = {each.name: each.counters.rules for each in here.node.bridges.statuses()}
    return [
        _shown_rule(spec, section, at, body, counters.get(spec.name, {}))
        for document in here.control.documents.standing(KIND)
        for spec in (document.spec,)
        for section in SECTIONS
        for at, body in enumerate(document.body.get(section, ()))
    ]


def _mapping(here: Context, stored: StoredDocument, section: str, at: int) -> MappingView:
    spec = Bridge.model_validate(stored.body)
    status = next((each for each in here.node.bridges.statuses() if each.name == stored.name), None)
    return _shown_rule(spec, section, at, stored.body[section][at], {} if status is None else status.counters.rules)


def _shown_rule(spec: Bridge, section: str, at: int, body: dict[str, Any], counters: dict[int, Any]) -> MappingView:
    counted = counters.get(at) if section == "topics" else None
    spool = None
    match section:
        case "topics":
            rule = spec.topics[at]
            direction, qos, spool = str(rule.direction), rule.qos, rule.spool
            topic, route = rule.remote_pattern.filter, rule.route or rule.local_pattern.filter
        case "rpc":
            call = spec.rpc[at]
            direction, qos, topic, route = "rpc", 1, call.inward(at).filter, call.route
        case _:
            device = spec.call[at]
            direction, qos, topic, route = "call", device.qos, device.rule(at).topic.filter, f"{spec.service}.call"
    return MappingView(
        id=f"{spec.name}:{section}:{at}",
        bridge=spec.name,
        section=section,  # type: ignore[arg-type]
        direction=direction,  # type: ignore[arg-type]
        topic=topic,
        route=route,
        qos=qos,
        spool=spool,
        matched=0 if counted is None else counted.matched,
        forwarded=0 if counted is None else counted.forwarded,
        refused=0 if counted is None else counted.refused,
        rule=body,
    )


async def _rule(here: Context, id: str, version: int | None = None) -> tuple[StoredDocument, str, int]:
    name, section, number = id.split(":")
    stored = await here.control.documents.get(KIND, name)
    if version is not None and stored.version != version:
        raise Problem("precondition-failed", f"the document has version {stored.version}")
    if int(number) >= len(stored.body.get(section, ())):
        raise Problem("not-found", f"there is no rule {id!r}")
    return stored, section, int(number)


async def _changed(
    here: Context,
    by: Actor,
    response: Response,
    stored: StoredDocument,
    section: str,
    rules: list[Any],
    at: int,
    dry_run: bool,
) -> MappingView:
    done = await _store(here, by, stored, {**stored.body, section: rules}, dry_run)
    document = done.applied[0].document
    response.headers["etag"] = etag(document.version)
    return _mapping(here, document, section, at)


async def _store(here: Context, by: Actor, stored: StoredDocument, body: dict[str, Any], dry_run: bool) -> Application:
    plain = {name: value for name, value in body.items() if name not in ("kind", "name")}
    return await here.control.documents.put(KIND, stored.name, plain, by=by, expect=stored.version, dry_run=dry_run)
