"""The nouns of the admin API, one a file. `ROUTERS` is all of them."""

from typing import Final

from fastapi import APIRouter

from gateway.admin.resources import (
    api_keys,
    audit,
    auth,
    backups,
    certificates,
    config,
    connections,
    credentials,
    declarations,
    devices,
    devices_bulk,
    documents,
    enrollments,
    events,
    fleets,
    issuers,
    node,
    peers,
    routes,
    services,
    spools,
    topology,
    users,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    auth.operations.router,
    users.operations.router,
    api_keys.operations.router,
    node.operations.router,
    config.operations.router,
    devices_bulk.operations.router,
    devices.operations.router,
    credentials.operations.router,
    enrollments.operations.router,
    fleets.operations.router,
    connections.operations.router,
    routes.operations.router,
    services.operations.router,
    spools.operations.router,
    issuers.operations.router,
    declarations.operations.router,
    peers.operations.router,
    topology.operations.router,
    certificates.operations.router,
    events.operations.router,
    audit.operations.router,
    backups.operations.router,
    documents.operations.router,
    documents.anywhere.router,
)
