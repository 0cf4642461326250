"""The nouns of the admin API, one a file. `ROUTERS` is all of them, with the path that each is under."""

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

PREFIX: Final = "/api/v1"

ROUTERS: Final[tuple[tuple[APIRouter, str], ...]] = (
    (auth.operations.router, PREFIX),
    (users.operations.router, PREFIX),
    (api_keys.operations.router, PREFIX),
    (node.operations.router, PREFIX),
    (config.operations.router, PREFIX),
    (devices_bulk.operations.router, PREFIX),
    (devices.operations.router, PREFIX),
    (credentials.operations.router, PREFIX),
    (enrollments.operations.router, PREFIX),
    (fleets.operations.router, PREFIX),
    (connections.operations.router, PREFIX),
    (routes.operations.router, PREFIX),
    (services.operations.router, PREFIX),
    (spools.operations.router, PREFIX),
    (issuers.operations.router, PREFIX),
    (declarations.operations.router, PREFIX),
    (peers.operations.router, PREFIX),
    (topology.operations.router, PREFIX),
    (certificates.operations.router, PREFIX),
    (events.operations.router, PREFIX),
    (audit.operations.router, PREFIX),
    (backups.operations.router, PREFIX),
    (documents.operations.router, PREFIX),
    (documents.anywhere.router, ""),
)
