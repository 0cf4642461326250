"""Whether the node is well and why not, and how many devices there are: what one looks at first."""

from __future__ import annotations

from typing import Any, Literal

from gateway.admin.access import Operations
from gateway.admin.context import Here
from gateway.admin.health import state_of
from gateway.admin.shapes import Shown, Time, moment

operations = Operations("node", "monitoring")
devices = Operations("devices", "devices")


class ReasonView(Shown):
    """`page` is where the dashboard shows more. `info` alone leaves a node well."""

    severity: Literal["error", "warning", "info"]
    slug: str
    text: str
    page: str


class DeviceSummary(Shown):
    """`online`: registered and with a link now; `never_seen`: those that have not connected yet."""

    total: int
    online: int
    disabled: int
    never_seen: int


class HealthView(Shown):
    """`down`: it takes no connections. The worst reason comes first."""

    state: Literal["ok", "degraded", "down"]
    reasons: list[ReasonView]
    devices: DeviceSummary
    checked_at: Time


@operations.get("/health", response_model=HealthView)
async def get_node_health(here: Here) -> Any:
    """Whether this node is well, and why not."""
    reasons = await here.condition.reasons()
    return HealthView(
        state=state_of(reasons),
        reasons=[ReasonView.of(reason) for reason in reasons],
        devices=DeviceSummary.of(await here.condition.devices()),
        checked_at=moment(here.plane.wall()),
    )


@devices.get("/devices/summary", response_model=DeviceSummary)
async def get_device_summary(here: Here) -> Any:
    """How many devices there are, by how they do."""
    return DeviceSummary.of(await here.condition.devices())
