"""The admin API on its port, between `start` and `stop`: what it works on, and its listener."""

from __future__ import annotations

import platform
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.admin.access import LOCAL_AUDIENCE, LocalKeys
from gateway.admin.application import create
from gateway.admin.condition import Condition
from gateway.admin.console import Consoles, Door
from gateway.admin.context import Context, NodeControls
from gateway.admin.events import ChangeWatcher, EventLog, PlaneWatcher
from gateway.admin.history import History, measure
from gateway.admin.http_server import HttpServer
from gateway.admin.replays import SecretReplays
from gateway.admin.server_sent import Audience, Shared
from gateway.policy.tokens import TokenVerifier

if TYPE_CHECKING:
    from gateway.config import LiveSettings
    from gateway.control.identity import Identity
    from gateway.control.plane import ControlPlane
    from gateway.forwarding.plane import Plane
    from gateway.observe.metrics import Metrics

SETTING: Final = "admin.listen"
#: A slow line has so long for a body of 1 MiB.
REQUEST_SECONDS: Final = 30


class AdminServer:
    """Serves the admin API on `host:port` (0 for any free one), over TLS where there is a `tls` context."""

    def __init__(
        self,
        node: NodeControls,
        plane: Plane,
        metrics: Metrics,
        identity: Identity,
        control: ControlPlane,
        settings: LiveSettings,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        door: Door | None = None,
    ) -> None:
        """`door` makes what serves the consoles of the dashboard."""
        self.events = EventLog(plane.wall)
        self._plane = plane
        self._control = control
        self._settings = settings
        self._stopping = False
        self._unwatch: Callable[[], None] | None = None
        config = settings.config
        self.history = History(partial(measure, node, plane, metrics))
        self.condition = Condition(node, plane, metrics, control, settings, self.history)
        self.consoles = Consoles(door, control.still, plane.monotonic)
        context = Context(
            node=node,
            plane=plane,
            metrics=metrics,
            identity=identity,
            control=control,
            settings=settings,
            events=self.events,
            local_keys=LocalKeys(TokenVerifier(identity.verification_keys(), audience=LOCAL_AUDIENCE)),
            secret_replays=SecretReplays(plane.wall),
            audience=Audience(lambda: settings.config.admin.max_streams),
            stats=Shared(),
            history=self.history,
            condition=self.condition,
            consoles=self.consoles,
            stopping=lambda: self._stopping,
        )
        app = create(context, hosts=self._hosts, requests_per_second=config.admin.requests_per_second)
        self._http = HttpServer(app, host, port, SETTING, request_seconds=REQUEST_SECONDS, tls=tls)

    async def start(self) -> int:
        """Listen, and return the bound port. Raises ConfigError, naming setting and address."""
        port = await self._http.start()
        self._unwatch = PlaneWatcher(self.events).watch(self._plane)
        self._control.audit.listener = ChangeWatcher(self.events)
        self.history.start()
        return port

    async def stop(self) -> None:
        """End every stream, then the listener."""
        self._stopping = True
        await self.history.stop()
        self.consoles.stop()
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
            self._control.audit.listener = None
        self.events.add("node.stopping", "")
        await self._http.stop()

    def _hosts(self) -> set[str]:
        config = self._settings.config
        names = {platform.node(), *config.tls.names, *config.admin.hosts}
        return {name.lower() for name in names if name}
