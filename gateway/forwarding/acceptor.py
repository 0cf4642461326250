"""SETUP of a client: who is it, what may it do, what does it serve.

The order is fixed: authenticate, then check every registration, then enter the table. A refusal leaves nothing behind.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from gateway.errors import FrameError, InvalidSetup, NotPermitted, RejectedSetup, RequestInvalid, TokenError
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.stamp import Form, form_of, principal_entry
from gateway.policy.access import Grant
from gateway.policy.principal import Kind
from gateway.routing.route import Route
from gateway.wire import brokering
from gateway.wire.brokering import RouteSetup
from gateway.wire.frames import Setup
from gateway.wire.metadata import Bearer, decode_authentication, iter_composite
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection


def accept(connection: Connection, setup: Setup) -> None:
    """Make an authenticated connection of one that sent a valid SETUP.

    Raises RejectedSetup with a reason a person can act on, or InvalidSetup for malformed metadata.
    """
    plane = connection.plane
    snapshot = plane.snapshot
    form = form_of(setup.metadata_mime)
    try:
        token, registrations = _credentials(setup, form)
    except FrameError as error:
        raise InvalidSetup(f"SETUP metadata: {error}") from error
    try:
        principal = snapshot.authenticate(token, plane.wall())
    except TokenError as error:
        plane.counters.refuse_token(error.reason)
        raise RejectedSetup(str(error), reason=f"token_{error.reason.removeprefix('token_')}") from error
    grant = snapshot.grant(principal)
    limits = grant.limits
    if setup.metadata is not None and len(setup.metadata) + len(setup.data) > limits.max_setup_bytes:
        raise RejectedSetup(f"SETUP is over the limit of {limits.max_setup_bytes} bytes", reason="setup_too_long")
    for registration in registrations:
        _permit(grant, registration.service)
    connection.adopt(principal, grant, form, principal_entry(principal, plane.node))
    for registration in registrations:
        register(connection, registration)
    if not registrations:
        # Every authenticated connection is reachable as itself, by its subject or its route id.
        _enter(connection, Route(uuid.uuid4().bytes, "", connection, subject=principal.subject))


def register(connection: Connection, registration: RouteSetup) -> Route:
    """Enter one service of a connection into the table; the newest registration of a route id wins.

    Raises NotPermitted when the grant does not allow the name, RequestInvalid for a name that cannot be one.
    """
    grant = connection.grant
    if not grant.may_register(registration.service):
        raise NotPermitted(_no_registration(grant, registration.service))
    route_id = registration.route_id if any(registration.route_id) else uuid.uuid4().bytes
    route = Route(
        route_id,
        registration.service,
        connection,
        subject=connection.principal.subject,
        tags=registration.tags,
    )
    return _enter(connection, route)


def withdraw(connection: Connection, route_id: bytes) -> None:
    """Take a route of this connection out of the table. Raises RequestInvalid when it serves no such route."""
    route = connection.plane.table.get(route_id)
    if route is None or route.owner is not connection:
        raise RequestInvalid(f"this connection serves no route {uuid.UUID(bytes=route_id)}", reason="unknown_route")
    connection.plane.table.remove(route)
    if not connection.plane.table.of_owner(connection):
        _enter(connection, Route(uuid.uuid4().bytes, "", connection, subject=connection.principal.subject))


def _enter(connection: Connection, route: Route) -> Route:
    displaced = connection.plane.table.add(route)
    if displaced is not None and displaced.owner is not connection:
        displaced.owner.close(  # type: ignore[attr-defined]
            CloseReason.TAKEN_OVER,
            f"route {uuid.UUID(bytes=route.route_id)} was registered by a newer connection",
        )
    return route


def _permit(grant: Grant, service: str) -> None:
    if not grant.may_register(service):
        raise RejectedSetup(_no_registration(grant, service), reason="not_permitted")


def _no_registration(grant: Grant, service: str) -> str:
    allowed = ", ".join(grant.principal.services) or "none"
    return f"{grant.principal.subject} may not register '{service}'; its token allows: {allowed}"


def _credentials(setup: Setup, form: Form) -> tuple[bytes | None, list[RouteSetup]]:
    token: bytes | None = None
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
    if token is None:
        token = _token_in_data(setup.data)
    return token, registrations


def _token_in_data(data: bytes) -> bytes | None:
    """The token of a client that cannot build composite metadata: SETUP data `{"token": "…"}`."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    token = document.get("token") if isinstance(document, dict) else None
    return token.encode() if isinstance(token, str) else None


def by_device(kind: Kind) -> bool:
    """Whether a principal's service names may hold a device's or a person's id (no metric label may)."""
    return kind in (Kind.DEVICE, Kind.USER)
