"""SETUP of a client: who is it, what may it do, what does it serve.

The order is fixed: authenticate, then check every registration, then enter the table. A refusal leaves nothing behind.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, cast

from gateway.errors import (
    FrameError,
    InvalidSetup,
    NotPermitted,
    RejectedSetup,
    RequestError,
    RequestInvalid,
    TokenError,
)
from gateway.forwarding import judging, leasing, resuming
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.links import LOCAL, told_labels
from gateway.forwarding.plane import INTERNAL
from gateway.forwarding.stamp import Form, form_of, principal_entry
from gateway.policy.access import Grant
from gateway.policy.asking import Caller
from gateway.policy.principal import Kind, Principal
from gateway.routing.route import Route
from gateway.routing.tags import UNNARROWED
from gateway.wire import brokering
from gateway.wire.brokering import BrokerInfo, RouteSetup
from gateway.wire.frames import Setup
from gateway.wire.metadata import Bearer, decode_authentication, iter_composite
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.lifecycle import Lifecycle


def accept(connection: Connection, setup: Setup) -> None:
    """Make an authenticated connection of one that sent a valid SETUP.

    Raises RejectedSetup with a reason a person can act on, or InvalidSetup for malformed metadata.
    """
    plane = connection.plane
    snapshot = plane.snapshot
    form = form_of(setup.metadata_mime)
    try:
        token, registrations, info = _credentials(setup, form)
    except FrameError as error:
        raise InvalidSetup(f"SETUP metadata: {error}") from error
    try:
        principal = snapshot.admit(token, plane.wall())
    except TokenError as error:
        plane.counters.refuse_token(error.reason)
        raise RejectedSetup(str(error), reason=f"token_{error.reason.removeprefix('token_')}") from error
    grant = snapshot.grant(principal)
    if info is not None:
        _accept_link(connection, setup, info, principal, grant)
        return
    limits = grant.limits
    for mime in (setup.metadata_mime, setup.data_mime):
        if len(mime) > limits.max_mime_bytes:
            text = f"MIME type of {len(mime)} bytes is over the limit of {limits.max_mime_bytes}"
            raise InvalidSetup(text, reason="max_mime_bytes")
    if len(setup.metadata or b"") + len(setup.data) > limits.max_setup_bytes:
        raise RejectedSetup(f"SETUP is over the limit of {limits.max_setup_bytes} bytes", reason="max_setup_bytes")
    if principal.renewal_only:
        # It serves nothing and nobody reaches it until it has renewed its token.
        connection.adopt(principal, grant, form, principal_entry(principal, plane.node))
        return
    try:
        for registration in registrations:
            _check(connection, grant, registration)
    except RequestError as error:
        raise RejectedSetup(str(error), reason=error.reason) from error
    if setup.resume_token is not None:
        resuming.admit(connection, setup.resume_token, principal, limits)
    connection.adopt(principal, grant, form, principal_entry(principal, plane.node))
    take_over(connection)
    if setup.resume_token is not None:
        resuming.begin(connection, setup.resume_token, token)
    if setup.lease:
        leasing.begin(connection)
    for registration in registrations:
        register(connection, registration)
    if not registrations:
        be_reachable(connection)


def _accept_link(connection: Connection, setup: Setup, info: BrokerInfo, principal: Principal, grant: Grant) -> None:
    """Make a link of a connection whose SETUP carries BROKER_INFO: it serves nothing itself and is not in the table."""
    plane = connection.plane
    if principal.kind is not Kind.NODE or setup.resume_token is not None or setup.lease:
        raise RejectedSetup("BROKER_INFO is for nodes, which neither resume nor take leases", reason="not_a_node")
    if plane.links is None:
        raise RejectedSetup("this node has no links to other nodes", reason="no_links")
    # Before anything of it stands: who admits it may still refuse.
    side = plane.links.admit(connection, info, setup, principal)
    connection.adopt(principal, grant, Form.COMPOSITE, principal_entry(principal, plane.node))
    connection.be_link(side, setup.lifetime_ms / 1000)
    connection.place = told_labels(info.tags)


def register(connection: Connection, registration: RouteSetup) -> Route:
    """Enter one service of a connection into the table; the newest registration of a route id wins.

    Raises NotPermitted when the grant does not allow the name, or the route id is another's.
    """
    if connection.side != LOCAL:
        raise NotPermitted("what is served behind a link is told in its route stream")
    _check(connection, connection.grant, registration)
    route_id = registration.route_id if any(registration.route_id) else uuid.uuid4().bytes
    route = Route(
        route_id,
        registration.service,
        connection,
        subject=connection.principal.subject,
        tags=[*connection.plane.labels.items(), *(tag for tag in registration.tags if tag[0] != UNNARROWED)],
    )
    return _enter(connection, route)


def withdraw(connection: Connection, route_id: bytes) -> None:
    """Take a route of this connection out of the table. Raises RequestInvalid when it serves no such route."""
    route = connection.plane.table.get(route_id)
    if route is None or route.owner is not connection:
        raise RequestInvalid(f"this connection serves no route {uuid.UUID(bytes=route_id)}", reason="unknown_route")
    connection.plane.table.remove(route)
    if not connection.plane.table.of_owner(connection):
        be_reachable(connection)


def be_reachable(connection: Lifecycle) -> None:
    """Every authenticated connection is reachable as itself, by its subject or its route id."""
    _enter(connection, Route(uuid.uuid4().bytes, "", connection, subject=connection.principal.subject))


def take_over(connection: Lifecycle) -> None:
    """Close the oldest connections of this subject, where it may have only so many and this one is about to be
    reachable (fault 59). A session that waits for its link counts: whoever begins anew will not come back to it."""
    principal, most = connection.principal, connection.grant.limits.max_connections
    group = connection.plane.table.subject(principal.subject) if most else None
    if group is None:
        return
    owners = dict.fromkeys(cast("Lifecycle", route.owner) for route in group.routes)
    others = [owner for owner in owners if owner.kind == connection.kind and owner.principal.kind is principal.kind]
    others.sort(key=lambda owner: owner.number)
    for owner in others[: max(len(others) + 1 - most, 0)]:
        owner.turn_out(CloseReason.TAKEN_OVER, f"{principal.subject} has connected again")


def withdraw_forbidden(connection: Lifecycle) -> bool:
    """Take out of the table what the connection may not serve any more; whether there was anything."""
    if connection.side != LOCAL:
        # What a link tells of was judged when it was told; whoever looks after it judges again.
        return False
    table = connection.plane.table
    forbidden = [
        route for route in table.of_owner(connection) if route.service and not _may_register(connection, route.service)
    ]
    for route in forbidden:
        table.remove(route)
    if forbidden and not table.of_owner(connection):
        be_reachable(connection)
    return bool(forbidden)


def _may_register(connection: Lifecycle, service: str) -> bool:
    return connection.grant.may_register(service) and judging.may_register(connection, service)


def _enter(connection: Lifecycle, route: Route) -> Route:
    displaced = connection.plane.table.add(route)
    if (
        displaced is not None
        and displaced.owner is not connection
        and cast("Connection", displaced.owner).side == LOCAL
    ):
        cast("Connection", displaced.owner).close(
            CloseReason.TAKEN_OVER,
            f"route {uuid.UUID(bytes=route.route_id)} was registered by a newer connection",
        )
    return route


def _check(connection: Connection, grant: Grant, registration: RouteSetup) -> None:
    """Raises NotPermitted, with what is allowed in its text."""
    service = registration.service
    subject = grant.principal.subject
    if not grant.may_register(service):
        allowed = ", ".join(grant.principal.services) or "none"
        raise NotPermitted(f"{subject} may not register '{service}'; its token allows: {allowed}")
    plane = connection.plane
    judging.check_registration(plane, Caller.of(grant.principal, plane.node, connection.reached), service)
    holder = connection.plane.table.get(registration.route_id)
    if holder is None:
        return
    # Route ids are no secret: who may list routes sees them. Taking one over closes its connection, so it is for those
    # who could have registered it: another connection of the same subject, or another instance of the same service.
    owner = cast("Connection", holder.owner)
    if owner.side != LOCAL and holder.subject == subject:
        return
    if owner.kind == INTERNAL or (holder.subject != subject and not grant.may_register(holder.service)):
        raise NotPermitted(f"route id {uuid.UUID(bytes=registration.route_id)} is in use; choose a new one")


def _credentials(setup: Setup, form: Form) -> tuple[bytes | None, list[RouteSetup], BrokerInfo | None]:
    token: bytes | None = None
    info: BrokerInfo | None = None
    registrations: list[RouteSetup] = []
    if form == Form.COMPOSITE and setup.metadata:
        metadata = setup.metadata
        for entry in iter_composite(metadata, 0, len(metadata)):
            if entry.mime == AUTHENTICATION and token is None:
                authentication = decode_authentication(metadata[entry.content_start : entry.end])
                if not isinstance(authentication, Bearer):
                    raise RejectedSetup("send a bearer token; no other authentication is accepted", reason="token_type")
                token = authentication.token
            elif entry.mime == BROKER_FRAME:
                frame = brokering.decode(metadata[entry.content_start : entry.end])
                if isinstance(frame, RouteSetup):
                    registrations.append(frame)
                elif isinstance(frame, BrokerInfo):
                    info = frame
    if token is None:
        token = _token_in_data(setup.data)
    return token, registrations, info


def _token_in_data(data: bytes) -> bytes | None:
    """The token of a client that cannot build composite metadata: SETUP data `{"token": "…"}`."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        document = json.loads(data)
        token = document.get("token")
        # Half a surrogate pair is a string to JSON and no text to UTF-8: that is a ValueError, too.
        return token.encode() if isinstance(token, str) else None
    except (ValueError, RecursionError):
        return None


def by_device(kind: Kind) -> bool:
    """Whether a principal's service names may hold a device's or a person's id (no metric label may)."""
    return kind in (Kind.DEVICE, Kind.USER)
