"""The console: RSocket to the node from a page of the dashboard, over the admin port."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from gateway.admin.access import PREFIX, By, Operations, Who
from gateway.admin.console import MARK, PATH, SCOPE, TICKET_S, TOKEN_S
from gateway.admin.context import Here
from gateway.admin.http_server import UPGRADE
from gateway.admin.problem import Problem
from gateway.admin.shapes import Shown, Taken, Time, moment
from gateway.control.roles import Action
from gateway.policy.principal import Kind

operations = Operations("console", SCOPE)

SUBPROTOCOL: Final = "rsocket"
#: Characters that a token takes for its subject.
MAX_SUBJECT: Final = 64


class NewTicket(Taken):
    """Nothing to say."""


class TicketView(Shown):
    """`protocols` are those of the WebSocket to `path`, the ticket among them: good for one handshake, until
    `ticket_expires_at`. `token` goes into the SETUP, as any client's; the connection ends with it, at `expires_at`."""

    path: str
    protocols: list[str]
    token: str
    subject: str
    ticket_expires_at: Time
    expires_at: Time


@operations.post("/console/tickets", Action.PUBLISH, creates=True, secret=True, response_model=TicketView)
async def create_console_ticket(here: Here, who: Who, by: By, request: Request, body: NewTicket) -> Any:
    """Let a page open one RSocket connection to this node, as who asks for it: an administrator of the data plane who
    may call everything and serve nothing."""
    subject = f"console-{who.id}"[:MAX_SUBJECT]
    now = here.plane.wall()
    secret = request.headers.get("authorization", "").partition(" ")[2].strip()
    ticket = here.consoles.issue(who, secret, subject)
    await here.control.audit.record(by, "console.open", "console")
    rules = here.control.rules
    ttl = min(TOKEN_S, rules.max_lifetime_s)
    token = here.identity.mint(subject, Kind.ADMIN, (), ("*",), ttl, now, audience=rules.audience)
    return TicketView(
        path=f"{PREFIX}{PATH}",
        protocols=[SUBPROTOCOL, f"{MARK}{ticket}"],
        token=token,
        subject=subject,
        ticket_expires_at=moment(now + TICKET_S),
        expires_at=moment(now + ttl),
    )


@operations.open(
    "GET",
    PATH,
    "The ticket among the subprotocols is the credential.",
    problems=(400, 401, 403),
    status_code=101,
    response_class=Response,
    responses={101: {"description": "RSocket over WebSocket follows"}},
)
async def open_console(here: Here, request: Request) -> Response:
    """RSocket 1.0 over WebSocket, from a page of this node: subprotocols `rsocket` and `ticket.<ticket>`."""
    upgrade = request.scope.get("extensions", {}).get(UPGRADE)
    if upgrade is None:
        raise Problem("bad-request", "this takes a WebSocket handshake", headers={"upgrade": "websocket"})
    host, origin = request.headers.get("host", ""), request.headers.get("origin", "")
    if origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise Problem("forbidden", "only pages of this node open a console: Origin must be Host")
    offered = [name.strip() for value in request.headers.getlist("sec-websocket-protocol") for name in value.split(",")]
    ticket = next((name.removeprefix(MARK) for name in offered if name.startswith(MARK)), "")
    if SUBPROTOCOL not in offered:
        raise Problem("bad-request", f"the subprotocol {SUBPROTOCOL} must be offered")
    redeemed = here.consoles.redeem(ticket)
    upgrade["hand_over"](lambda: here.consoles.open(redeemed))
    # It goes nowhere: the socket is not ours any more.
    return Response(status_code=204)
