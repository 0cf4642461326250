"""Access policies as a whole: what they say of one request, and a draft of what would allow what was seen."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from gateway.admin.access import Operations
from gateway.admin.context import Context, Here
from gateway.admin.problem import Problem
from gateway.admin.shapes import Shown, Taken
from gateway.control.roles import Action
from gateway.documents.access_draft import Flow, draft
from gateway.forwarding.links import LOCAL
from gateway.observe.flow_fields import View
from gateway.policy.access import Grant, full_route
from gateway.policy.asking import Ask, Caller
from gateway.policy.authorization import TOPIC_ACTS, Act
from gateway.policy.explanation import explain
from gateway.policy.mqtt_filters import is_filter
from gateway.policy.principal import Kind, Principal
from gateway.routing.locator import longest_name

operations = Operations("policy", "policy")

#: Records that are put into words before others get their turn.
_AT_ONCE: Final = 32

ActName = Literal[
    "requestResponse", "fireAndForget", "requestStream", "requestChannel", "register", "publish", "subscribe"
]
KindName = Literal["device", "service", "user", "node", "admin"]
Text = Annotated[str, Field(max_length=255)]
Words = Annotated[dict[Text, Text], Field(max_length=32)]


class Checked(Taken):
    """What is asked for by whom. `subject`: with groups, labels and kind as this node knows them, where they are null.
    A `service` and its `route` (or, while somebody serves it, the whole route as `service`), or a `topic`, which may be
    a filter for `subscribe`. `tls`, `transport`, `ip`: how the caller is connected; null: not known."""

    subject: str = Field(min_length=1, max_length=255)
    kind: KindName | None = None
    groups: list[Text] | None = Field(default=None, max_length=64)
    labels: Words | None = None
    node: Text | None = None
    tls: bool | None = None
    transport: Literal["websocket", "tcp", "internal"] | None = None
    ip: Annotated[str, Field(max_length=45)] | None = None
    service: Text = ""
    route: Text = ""
    topic: str = Field(default="", max_length=65_535)
    interaction: ActName | None = None
    tags: Words = Field(default={})


class StepView(Shown):
    """`rule`: its place in the document, from 0; -1: what is said of the document."""

    policy: str
    action: Literal["DENY", "ALLOW", "AUDIT"]
    dry_run: bool
    rule: int
    fits: bool
    why: str


class VerdictView(Shown):
    """`granted`: what the token of the caller's connection, or the caller's record, allows; null: neither is here.
    `policy`, `rule`: what decided; "" and -1 where nothing did. `dry_run_denied`: who would have refused it."""

    allowed: bool
    granted: bool | None
    policy: str
    rule: int
    audits: list[str]
    dry_run_denied: str
    text: str
    steps: list[StepView]


class DraftView(Shown):
    """`flows`: how many requests it was made from. `documents` can be applied as they are."""

    flows: int
    documents: list[dict[str, Any]]


@operations.post("/policy:check", Action.READ, response_model=VerdictView)
async def check_policy(here: Here, body: Checked) -> Any:
    """Whether somebody may do something, which document decides, and what each rule says; nothing is sent."""
    topic = bool(body.topic)
    if topic is bool(body.service or body.route):
        raise Problem("invalid", errors=[{"pointer": "/service", "detail": "name a service or route, or a topic"}])
    act = Act(body.interaction or (Act.PUBLISH if topic else Act.REQUEST_RESPONSE))
    if topic is not (act in TOPIC_ACTS) or (topic and not is_filter(body.topic)):
        wrong = "topics are for publish and subscribe, services for the others"
        raise Problem("invalid", errors=[{"pointer": "/interaction", "detail": wrong}])
    grant, caller = _known(here, body)
    wide = act is Act.SUBSCRIBE and any(level in ("+", "#") for level in body.topic.split("/"))
    service, route = _served(here, body) if act is not Act.REGISTER else (body.service, body.route)
    ask = Ask(act, service, route, tuple(body.tags.items()), body.topic, wide)
    granted = None
    if grant is not None and not topic:
        register = act is Act.REGISTER
        granted = grant.may_register(service) if register else grant.may_call(service, route)
    return VerdictView(**explain(here.plane.judgement, caller, ask, granted).shown())


def _served(here: Context, body: Checked) -> tuple[str, str]:
    """The service and the route: one name alone is looked up as that of a request is, while somebody serves it."""
    name = None if body.route else longest_name(here.plane.table.by_service, body.service)
    return (body.service, body.route) if name is None else (name, body.service)


def _known(here: Context, body: Checked) -> tuple[Grant | None, Caller]:
    """What this node knows of who asks, as far as the body says nothing else."""
    plane = here.plane
    access = plane.snapshot.access
    record = access.devices.get(body.subject)
    connected = next(
        (
            each
            for each in plane.connections.values()
            if each.accepted and each.side == LOCAL and each.principal.subject == body.subject
        ),
        None,
    )
    grant, reached, principal = None, (body.tls, body.transport, body.ip), None
    if connected is not None:
        grant, principal = connected.grant, connected.principal
        reached = tuple(  # type: ignore[assignment]
            known if given is None else given for given, known in zip(reached, connected.reached, strict=True)
        )
    elif record is not None:
        rights = record.rights
        principal = Principal(
            body.subject, record.kind, "", 0.0, 0.0, rights.services, rights.routes, record.groups, record.labels
        )
        grant = Grant(principal, plane.snapshot.profiles[record.kind])
    kind = body.kind or (str(principal.kind) if principal is not None else str(Kind.DEVICE))
    groups = tuple(body.groups) if body.groups is not None else principal.groups if principal is not None else ()
    labels = (
        tuple(body.labels.items()) if body.labels is not None else principal.labels if principal is not None else ()
    )
    return grant, Caller(body.subject, kind, groups, labels, body.node or plane.node, *reached)


class Seen(Taken):
    """What somebody did. `route`: whole, or what follows the service's name."""

    subject: str = Field(min_length=1, max_length=255)
    groups: list[Text] = Field(default=[], max_length=64)
    service: Text = ""
    route: Text = ""
    interaction: ActName = "requestResponse"
    topic: str = Field(default="", max_length=65_535)

    @property
    def flow(self) -> Flow:
        route = full_route(self.service, self.route) if self.service else self.route
        return Flow(self.subject, tuple(self.groups), self.service, route, self.interaction, self.topic)


class SeenList(Taken):
    flows: list[Seen] = Field(max_length=10_000)


@operations.get("/policy:draft", response_model=DraftView)
async def draft_policy_of_flows(here: Here) -> Any:
    """Documents that allow what the flow log remembers, and nothing else of the services and topics in it.

    The first look of all may find nothing: records are kept from then on, for half a minute, unless a Telemetry
    document keeps them.
    """
    ring = here.node.flows.log.look()
    view = View(redact=ring.view.redact)
    flows = []
    for number in range(ring.oldest, ring.latest + 1):
        if number >= ring.oldest and (flow := Flow.of(view.redacted(ring.record(number)))) is not None:
            flows.append(flow)
        if not number % _AT_ONCE:
            await asyncio.sleep(0)
    return DraftView(flows=len(flows), documents=draft(flows))


@operations.post("/policy:draft", Action.READ, response_model=DraftView)
async def draft_policy(body: SeenList) -> Any:
    """Documents that allow these and nothing else of the services and topics that they name. Nothing is stored."""
    return DraftView(flows=len(body.flows), documents=draft(each.flow for each in body.flows))
