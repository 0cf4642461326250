"""The composition root: builds a node from its settings, starts it, waits, drains it.

The only file that constructs across layers. `run` reads top to bottom as a node's life.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from gateway.admin.exposition import Sources, SpoolFigures
from gateway.admin.telemetry import TelemetryServer
from gateway.bridging import Bridging
from gateway.config import Config, LiveSettings, address, advertised_url, certificate_names, is_loopback
from gateway.control import first_run
from gateway.control.identity import Identity
from gateway.control.plane import ControlPlane
from gateway.control.registry import Publication
from gateway.control.runtime import Runtime, birth_of
from gateway.errors import ConfigError
from gateway.forwarding.multicast import Multicast
from gateway.forwarding.plane import INTERNAL, Plane
from gateway.forwarding.services import NodeServices
from gateway.linking import Linking
from gateway.observe.loggers import structlog
from gateway.observe.logging import configure
from gateway.observe.memory import MemoryGauge, Pressure
from gateway.observe.metrics import Metrics
from gateway.observe.refusal_log import RefusalLog
from gateway.observe.watchdog import Watchdog
from gateway.policy.access_list import AccessList
from gateway.policy.overload import LoopLoad, Overload
from gateway.publishing import access_rules, admission_rules, snapshot
from gateway.renewal import Renewal
from gateway.spooling.depot import Depot
from gateway.transport.admission import LATE, NO_MEMORY, Admission
from gateway.transport.carrier import House, SocketCarrier
from gateway.transport.listener import Listener
from gateway.transport.reception import Reception
from gateway.transport.tcp import TcpCarrier
from gateway.transport.tls import Certificate
from gateway.transport.websocket import Handshake, WebSocketCarrier

if TYPE_CHECKING:
    from gateway.admin.server import AdminServer

#: How often deadlines are looked at, in seconds; each is met within this much of its time.
TICK_S = 0.25
#: A delay of the clock that deadlines are moved by, in seconds: nobody could be heard meanwhile.
LATE_S = 0.1
#: How often files are looked at and what is stale is forgotten, in seconds.
CHECK_S = 2.0
#: How often it is looked at whether the node's own certificate is near its end, in seconds.
RENEWAL_CHECK_S = 3600.0
#: How many peers a second are sent elsewhere when the node drains, where there is time for that.
GOODBYES_PER_S = 200
#: For how long another thread may keep the interpreter's lock from the loop, in seconds; 5 ms is a hundred requests.
SWITCH_S = 0.0002


class Node:
    """One gateway process. `start`, then `stop`; the ports say where it is, `status` how the process is to end."""

    def __init__(self, settings: LiveSettings | Config) -> None:
        """`settings` that were only read cannot be changed while the node runs."""
        self.settings = settings if isinstance(settings, LiveSettings) else LiveSettings.fixed(settings)
        config = self.settings.config
        self.log = structlog.get_logger("gateway.node")
        self.metrics = Metrics()
        self.identity = Identity.open(config.node.data, names=certificate_names(config))
        self.listeners: dict[str, Listener] = {}
        self.telemetry: TelemetryServer | None = None
        self.admin: AdminServer | None = None
        self.control: ControlPlane | None = None
        self.depot: Depot | None = None
        self.started_at = self._checked_at = self._ticked_at = self._renewal_at = 0.0
        self.certificate: Certificate | None = None
        self.renewal: Renewal | None = None
        self.links = Linking(self.identity, self.end)
        self.bridges = Bridging()
        self._here: set[str] = set()
        self.websocket_port = self.tcp_port = self.telemetry_port = self.admin_port = self.status = 0
        self._ticking: asyncio.TimerHandle | None = None
        self.watchdog = Watchdog()
        self.memory = MemoryGauge(config.limits.memory_bytes)
        self.pressure = Pressure.NONE
        self._load = LoopLoad(config.limits.lag_warn_ms / 1000, config.limits.lag_shed_ms / 1000)
        self._log_settings = config.log
        self._goodbyes: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._admin_certificate: Certificate | None = None
        self._admin_tls: ssl.SSLContext | None = None
        self._renewal: asyncio.Future[bool] | None = None
        self._refusals = RefusalLog(
            self.metrics.counters, lambda reason, count: self.log.warning("refused", reason=reason, count=count)
        )

    @property
    def config(self) -> Config:
        """The settings as they hold now."""
        return self.settings.config

    async def start(self) -> None:
        """Open every listener. Raises ConfigError or StorageError, with nothing left open, when one cannot be had."""
        config = self.config
        self.started_at = time.time()
        sys.setswitchinterval(SWITCH_S)
        loop = asyncio.get_running_loop()
        self.plane = Plane(
            node=config.node.name,
            node_id=uuid.UUID(self.identity.node_id).bytes,
            snapshot=snapshot(config, Publication(AccessList(), self.identity.verification_keys()), 1),
            metrics=self.metrics,
            monotonic=time.monotonic,
            wall=time.time,
            schedule=loop.call_soon,
            random=Random(),
            resume_sessions=config.limits.resume_sessions,
        )
        self.services = NodeServices(self.plane)
        self.plane.multicast = Multicast(self.plane)
        self._make_listeners(loop)
        try:
            self.control = await ControlPlane.open(
                config.node.data,
                self.identity,
                publish=self.publish,
                alarm=lambda slug, text: self.log.error("alarm", slug=slug, text=text),
                access=access_rules(config),
                max_bytes=config.storage.max_bytes,
            )
            self.renewal = Renewal(self.services, self.control, time.monotonic)
            self.depot = Depot(self.plane, self.identity.node_id, config, self.control, self._tell)
            await self.depot.start()
            self.links.prepare(config, self.plane, self.services, self.control, self.handshake, self._tell)
            self.depot.cross(self.services, self.links.membership)
            await self._open()
            await self.links.start(self.advertised_url, self.tcp_port)
            self.bridges.open(config, self.plane, self.identity, self.control, lambda: None)
        except BaseException:
            await self._close()
            raise
        pid = os.getpid()
        Runtime(pid, self.started_at, birth=birth_of(pid) or 0, **self.addresses).write(config.node.data)
        self._ticked_at = self.plane.monotonic()
        self._tick(loop)
        self.watchdog.start()
        self._announce()

    def _spool_figures(self) -> list[SpoolFigures]:
        return [] if self.depot is None else self.depot.figures()

    def _tell(self, kind: str, subject: str, **data: object) -> None:
        if self.admin is not None:
            self.admin.events.add(kind, subject, **data)

    def publish(self, publication: Publication) -> None:
        """Let the data plane go by what the control plane knows now."""
        self._published = publication
        generation = self.plane.snapshot.generation + 1
        self.plane.publish(snapshot(self.config, publication, generation, self._unknown_key), publication.subjects)

    def _unknown_key(self) -> None:
        if self.control is not None:
            self.control.issuers.unknown_key()

    async def stop(self) -> None:
        """Drain: accept nothing new, let requests in flight finish, close, leave nothing behind (P5)."""
        plane = self.plane
        plane.draining = True
        for listener in self.listeners.values():
            listener.stop_accepting()
        self.links.drain()
        await self._say_goodbye()
        deadline = plane.monotonic() + self.config.limits.drain_grace_s
        while plane.busy and plane.monotonic() < deadline:  # noqa: ASYNC110  (the data plane has no events, on purpose)
            await asyncio.sleep(0.02)
        await self._close()
        Runtime.remove(self.config.node.data)
        self.log.info("stopped")

    async def _say_goodbye(self) -> None:
        """Tell every peer to go elsewhere, a few at a time, so that they do not all come there at once (fault 95).

        Who serves something is told last: those who have not been told yet may still ask for it.
        """
        plane = self.plane
        waiting = sorted(plane.connections.values(), key=plane.serves)
        spread_s = min(self.config.limits.drain_spread_s, len(waiting) / GOODBYES_PER_S)
        began = plane.monotonic()
        told = 0
        while told < len(waiting):
            passed = (plane.monotonic() - began + TICK_S) / spread_s if spread_s else 1.0
            due = min(len(waiting), int(passed * len(waiting)))
            for connection in waiting[told:due]:
                connection.drain()
            told = due
            if told < len(waiting):
                await asyncio.sleep(TICK_S / 2)

    def _make_listeners(self, loop: asyncio.AbstractEventLoop) -> None:
        config, plane = self.config, self.plane
        if config.tls.enabled:
            self.certificate = Certificate(self.certificate_path, self.certificate_key_path)
        self.admission = Admission(admission_rules(config), plane.monotonic())
        reception = Reception(loop.call_soon, plane.monotonic)
        self.handshake = Handshake(
            paths=frozenset({config.listen.path, "/"}),
            origins=config.listen.origins,
            timeout_s=config.limits.upgrade_timeout_s,
            max_line_bytes=config.limits.http_line_bytes,
            max_headers=config.limits.http_headers,
            max_fragments=config.limits.message_fragments,
            authority=b"" if config.tls.certificate else self.identity.ca_path.read_bytes(),
        )
        makers: dict[str, Callable[[House], SocketCarrier]] = {
            "websocket": lambda house: WebSocketCarrier(plane, loop, house, self.handshake),
            "tcp": lambda house: TcpCarrier(plane, loop, house),
        }
        for name, make in makers.items():
            text = getattr(config.listen, name)
            if text:
                self.listeners[name] = Listener(
                    f"listen.{name}",
                    *address(text),
                    make,
                    admission=self.admission,
                    reception=reception,
                    counters=self.metrics.counters,
                    monotonic=plane.monotonic,
                    tls=lambda: self.certificate.context if self.certificate is not None else None,
                    tls_timeout_s=config.limits.tls_handshake_timeout_s,
                    max_handshakes=config.limits.max_handshakes,
                    backlog=config.listen.backlog,
                )

    async def _open(self) -> None:
        ports = {name: await listener.start() for name, listener in self.listeners.items()}
        self.websocket_port = ports.get("websocket", 0)
        self.tcp_port = ports.get("tcp", 0)
        if self.config.telemetry.listen:
            host, port = address(self.config.telemetry.listen)
            self.telemetry = TelemetryServer(
                self.metrics,
                self.checks(),
                Sources(
                    self.plane.outbox_bytes, self.plane.table.__len__, self._spool_figures, self.links, self.bridges
                ),
                host,
                port,
            )
            self.telemetry_port = await self.telemetry.start()
        if self.config.admin.listen:
            await self._open_admin()

    async def _open_admin(self) -> None:
        assert self.control is not None
        # What it is made of costs 35 MiB and a second, which a node without it need not spend.
        from gateway.admin.server import AdminServer

        host, port = address(self.config.admin.listen)
        if not is_loopback(host) and not self.config.admin.insecure:
            self._admin_certificate = Certificate(self.certificate_path, self.certificate_key_path)
            self._admin_tls = self._admin_certificate.context
        self.admin = AdminServer(
            self,
            self.plane,
            self.metrics,
            self.identity,
            self.control,
            self.settings,
            host,
            port,
            tls=self._admin_tls,
        )
        self.admin_port = await self.admin.start()

    def checks(self) -> dict[str, Callable[[], str | None]]:
        """What readiness asks: None, or why not."""
        found = {name: self._accepting(listener) for name, listener in self.listeners.items()}
        return found | {"draining": lambda: "this node is draining" if self.plane.draining else None}

    @staticmethod
    def _accepting(listener: Listener) -> Callable[[], str | None]:
        return lambda: None if listener.accepting else f"{listener.setting} is not accepting"

    async def _close(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        self.watchdog.stop()
        await self.bridges.close()
        await self.links.stop()
        for listener in self.listeners.values():
            await listener.stop()
        if self._goodbyes is not None:
            self._goodbyes.cancel()
        if self.telemetry is not None:
            await self.telemetry.stop()
        if self.admin is not None:
            await self.admin.stop()
        if self.renewal is not None:
            await self.renewal.stop()
        if self.depot is not None:
            await self.depot.stop()
        if self.control is not None:
            await self.control.close()

    def drain(self) -> None:
        """Take no new sessions, and tell every peer to go elsewhere; the process goes on."""
        self.plane.draining = True
        self._goodbyes = asyncio.create_task(self._say_goodbye(), name="goodbyes")

    def end(self, status: int = 0) -> None:
        """Have whoever runs this node stop it, and end the process with this status."""
        self.status = max(status, self.status)
        self._ending.set()

    @property
    def ending(self) -> bool:
        """Whether the process is about to end."""
        return self._ending.is_set()

    async def wait_for_end(self) -> None:
        """Return when `end` was called."""
        await self._ending.wait()

    def undrain(self) -> None:
        """Take sessions again. Those who were told to go are not called back."""
        if self._goodbyes is not None:
            self._goodbyes.cancel()
            self._goodbyes = None
        self.plane.draining = False

    def apply_settings(self) -> None:
        """Do as the settings say now, where a running node can."""
        config = self.config
        if config.log != self._log_settings:
            self._log_settings = config.log
            configure(config.log.level, config.log.format)
        assert self.control is not None
        self.control.govern(access_rules(config))
        self.publish(replace(self._published, subjects=None))
        self.handshake = replace(
            self.handshake, origins=config.listen.origins, timeout_s=config.limits.upgrade_timeout_s
        )
        for listener in self.listeners.values():
            listener.tls_timeout_s = config.limits.tls_handshake_timeout_s

    def first_login(self, name: str) -> None:
        """Somebody has logged in with a password: what the first start left for that is not needed any more."""
        first_run.done(self.config.node.data)

    @property
    def certificate_path(self) -> Path:
        return self.config.tls.certificate or self.identity.certificate_path

    @property
    def certificate_key_path(self) -> Path:
        return self.config.tls.key or self.identity.key_path

    @property
    def issues_certificate(self) -> bool:
        return self.config.tls.certificate is None

    @property
    def advertised_url(self) -> str:
        return advertised_url(self.config, self.websocket_port)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        # First, so that a bug in what follows does not stop the clock.
        self._ticking = loop.call_later(TICK_S, self._tick, loop)
        now = self.plane.monotonic()
        late, self._ticked_at = now - self._ticked_at - TICK_S, now
        if late > LATE_S:
            self.plane.forgive(late)
            for listener in self.listeners.values():
                listener.forgive(late)
        self._shed_load(late, now)
        self.plane.tick()
        for listener in self.listeners.values():
            listener.tick(now)
        self._relieve_memory()
        if self.pressure >= Pressure.NO_NEW_CONNECTIONS:
            self.admission.closed_for = NO_MEMORY
        else:
            self.admission.closed_for = LATE if self._load.level is Overload.SHEDDING else None
        self.plane.strain(max(self._load.level, _overload_by(self.pressure)))
        self._refusals.tick(now)
        if now - self._checked_at >= CHECK_S:
            self._checked_at = now
            self.admission.sweep(now)
            self._renew_certificate(asyncio.get_running_loop(), now)
            self.reload_certificate(only_if_changed=True)
            self._see_who_is_here()

    def _renew_certificate(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        """Renew the certificate that the node has issued itself before its end; it is loaded as any that changes.

        Files are synced for that, so it is done beside the loop.
        """
        renewal, self._renewal = self._renewal, None
        if renewal is not None and not renewal.done():
            self._renewal = renewal
        elif renewal is not None:
            error = renewal.exception()
            if error is not None:
                self.log.error("the certificate cannot be renewed", why=str(error))
            elif renewal.result():
                self.log.info("certificate renewed", path=str(self.identity.certificate_path))
        elif now >= self._renewal_at and self.issues_certificate and (self.certificate or self._admin_certificate):
            self._renewal_at = now + RENEWAL_CHECK_S
            self._renewal = loop.run_in_executor(None, self.identity.renew_if_due, self.plane.wall())

    def _see_who_is_here(self) -> None:
        """Note who came and who went since the last look."""
        assert self.control is not None
        here = {c.principal.subject for c in self.plane.connections.values() if c.accepted and c.kind != INTERNAL}
        wall = self.plane.wall()
        for subject in here ^ self._here:
            self.control.seen(subject, wall)
        self._here = here

    def _shed_load(self, late_s: float, now: float) -> None:
        before, level = self._load.level, self._load.observe(late_s, now)
        if level > before:
            name = "lag_shed_ms" if level is Overload.SHEDDING else "lag_warn_ms"
            limit_ms = getattr(self.config.limits, name)
            self.log.warning("the event loop is late", ms=round(late_s * 1000), limit=name, limit_ms=limit_ms)

    def _relieve_memory(self) -> None:
        before, self.pressure = self.pressure, self.memory.pressure()
        if self.pressure is not before:
            say = self.log.warning if self.pressure > before else self.log.info
            say("memory", pressure=self.pressure.name.lower(), limit_bytes=self.memory.limit)
        if self.pressure >= Pressure.NO_BUFFERS:
            self.plane.close_largest()

    @property
    def takes_durable_work(self) -> bool:
        """Whether there is memory for work that the node would have to keep."""
        return self.pressure < Pressure.NO_DURABLE_WORK

    def reload_certificate(self, *, only_if_changed: bool = False) -> None:
        """Show new connections the certificate that is in the files now; where it cannot be used, keep the old one."""
        admin = self._admin_certificate
        try:
            if self.certificate is not None and self.certificate.refresh(only_if_changed=only_if_changed):
                self.log.info("certificate loaded", path=str(self.certificate.path))
            if admin is not None and self._admin_tls is not None and admin.refresh(only_if_changed=only_if_changed):
                # Its server keeps the context that it began with. The pair is good, or `refresh` had said so.
                self._admin_tls.load_cert_chain(admin.path, admin.key)
        except ConfigError as error:
            self.log.error("the old certificate stays in use", why=str(error))

    @property
    def addresses(self) -> dict[str, str]:
        """Where it listens, by what for: URLs with the ports that are open."""
        config = self.config
        secure = config.tls.enabled
        found = {}
        if "websocket" in self.listeners:
            host = _shown(self.listeners["websocket"].host)
            found["websocket"] = f"{'wss' if secure else 'ws'}://{host}:{self.websocket_port}{config.listen.path}"
        if "tcp" in self.listeners:
            found["tcp"] = f"{'tls' if secure else 'tcp'}://{_shown(self.listeners['tcp'].host)}:{self.tcp_port}"
        if self.admin is not None:
            scheme = "http" if self._admin_tls is None else "https"
            found["admin"] = f"{scheme}://{_shown(address(config.admin.listen)[0])}:{self.admin_port}"
        if self.telemetry is not None:
            found["telemetry"] = f"http://{_shown(address(config.telemetry.listen)[0])}:{self.telemetry_port}"
        return found

    def _announce(self) -> None:
        config = self.config
        for name, url in self.addresses.items():
            if name == "telemetry":
                self.log.info("telemetry", url=f"{url}/metrics")
            elif name == "admin":
                self.log.info("admin", url=url)
            else:
                self.log.info("listening", url=url)
        if config.auth.mode == "off":
            self.log.warning("auth.mode is off: everybody who reaches this node may do everything")
        if config.tls.insecure and not config.tls.enabled:
            self.log.warning("tls is off: tokens cross the network in the clear")
        self.log.info("ready", node=config.node.name, id=self.identity.node_id)


def _overload_by(pressure: Pressure) -> Overload:
    """How overloaded a node is that is so short of memory."""
    if pressure >= Pressure.NO_DURABLE_WORK:
        return Overload.SHEDDING
    return Overload.LATE if pressure >= Pressure.NO_NEW_CONNECTIONS else Overload.NONE


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
