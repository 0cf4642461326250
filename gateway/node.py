"""The composition root: builds a node from its settings, starts it, waits, drains it.

The only file that constructs across layers. `run` reads top to bottom as a node's life.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.activating import Activating
from gateway.admin.exposition import Sources, SpoolFigures
from gateway.admin.telemetry import TelemetryServer
from gateway.admin.upkeep import Upkeep
from gateway.bridging import Bridging
from gateway.config import Config, LiveSettings, address, advertised_url, certificate_names, is_loopback
from gateway.configuring import Configurations, Configuring
from gateway.console_port import ConsolePort
from gateway.control import first_run
from gateway.control.identity import Identity
from gateway.control.plane import ControlPlane
from gateway.control.registry import Publication
from gateway.control.runtime import Runtime, birth_of
from gateway.documents.bundles import Facts
from gateway.documents.model import Document
from gateway.enrolling import Enrolling, redeemed
from gateway.errors import ConfigError
from gateway.flows.keeping import Keeping
from gateway.forwarding.connection import Connection
from gateway.front import Front
from gateway.governing import Governing
from gateway.linking import Linking
from gateway.policy.access_list import AccessList
from gateway.policy.health import Vitals
from gateway.publishing import access_rules
from gateway.renewal import Renewal, Renewals
from gateway.spooling.depot import Depot
from gateway.transport.tls import Certificate
from gateway.updating.calling import Calling
from gateway.updating.desk import UpdateDesk
from gateway.updating.downloads import Downloads
from gateway.workers.crew import Crew

if TYPE_CHECKING:
    from gateway.admin.server import AdminServer

#: How often it is looked at whether the node's own certificate is near its end, in seconds.
RENEWAL_CHECK_S = 3600.0


class Node(Front):
    """A node: its first process, and often its only one. `start`, then `stop`; the ports say where it is, `status` how
    the process is to end."""

    def __init__(self, settings: LiveSettings | Config) -> None:
        """`settings` that were only read cannot be changed while the node runs."""
        self.settings = settings if isinstance(settings, LiveSettings) else LiveSettings.fixed(settings)
        config = self.settings.config
        super().__init__(config)
        self.identity = Identity.open(config.node.data, names=certificate_names(config))
        self.telemetry: TelemetryServer | None = None
        self.admin: AdminServer | None = None
        self.control: ControlPlane | None = None
        self.depot: Depot | None = None
        self.renewal: Renewal | None = None
        self.enrolling: Enrolling | None = None
        self.updates: Downloads | None = None
        self.activating: Activating | None = None
        self._desk: UpdateDesk | None = None
        self._calling: Calling | None = None
        self.governing = Governing(self.govern)
        self.links = Linking(self.identity, self.end)
        self.bridges = Bridging()
        self.workers: Crew | None = None
        self.telemetry_port = self.admin_port = self.status = 0
        self._ending = asyncio.Event()
        self._console_port: ConsolePort | None = None
        self._admin_certificate: Certificate | None = None
        self._admin_tls: ssl.SSLContext | None = None
        self._renewal: asyncio.Future[bool] | None = None
        self._renewal_at = 0.0

    @property
    def config(self) -> Config:
        """The settings as they hold now."""
        return self.settings.config

    async def start(self) -> None:
        """Open every listener. Raises ConfigError or StorageError, with nothing left open, when one cannot be had."""
        config = self.config
        known = Publication(AccessList(), self.identity.verification_keys())
        self.make_plane(uuid.UUID(self.identity.node_id).bytes, known)
        self.flows = Keeping(self.flow_log, config.node.data)
        self.flow_log.on_want = self._want_flows
        authority = b"" if config.tls.certificate else self.identity.ca_path.read_bytes()
        self.make_listeners(authority)
        try:
            self.control = await ControlPlane.open(
                config.node.data,
                self.identity,
                publish=self.publish,
                alarm=lambda slug, text: self.log.error("alarm", slug=slug, text=text),
                wall=self.plane.wall,
                access=access_rules(config),
                max_bytes=config.storage.max_bytes,
            )
            brought = self.control.database.prepared
            if brought.copy is not None:
                self.log.info("database brought forward", of_schema=brought.migrated_from, copy=str(brought.copy))
            renewals = Renewals(self.control, time.monotonic, self.plane.wall)
            self.renewal = Renewal(self.services, renewals.answer)
            self.enrolling = Enrolling(self.services, partial(redeemed, self.control))
            configurations = Configurations(self.control, self._tell)
            self.configuring = Configuring(self.services, configurations.look, configurations.keep)
            self.control.device_configs.on_change = self._configured
            desk = self._open_updates(self.control)
            self.depot = Depot(self.plane, self.identity.node_id, config, self.control, self._tell)
            await self.depot.start()
            self.links.prepare(config, self.plane, self.services, self.control, self.handshake, self._tell)
            self.depot.cross(self.services, self.links.membership)
            if config.node.workers > 1:
                federation = None if self.links.membership is None else self.links.membership.federation
                self.workers = Crew(
                    self, self.control, renewals, configurations, desk, federation, authority, self._tell
                )
            self.governing.open(self.control.documents)
            await self._open()
            await self._start_activating()
            await self.links.start(self.advertised_url, self.tcp_port)
            self.bridges.open(config, self.plane, self.identity, self.control, lambda: self.depot)
            if self.workers is not None:
                await self.workers.start()
        except BaseException:
            await self._close()
            raise
        pid = os.getpid()
        Runtime(pid, self.started_at, birth=birth_of(pid) or 0, **self.addresses).write(config.node.data)
        self.start_clock()
        self._announce()

    def _open_updates(self, control: ControlPlane) -> UpdateDesk:
        counters = self.metrics.updates
        desk = self._desk = UpdateDesk(control, lambda: self.config, time.monotonic)
        downloads = self.updates = Downloads(self.services, desk, control.firmware.images.directory, counters)
        calling = self._calling = Calling(self.plane, control.rollouts, counters)

        def stopped(rollout_id: str) -> None:
            calling.forget(rollout_id)
            downloads.cut(rollout_id)
            if self.workers is not None:
                self.workers.tell("firmware_stopped", rollout=rollout_id)

        desk.on_start, desk.on_stop = calling.call, stopped
        desk.start()
        return desk

    async def _start_activating(self) -> None:
        """Act by bundles, if this node belongs to a federation."""
        membership = self.links.membership
        if membership is None:
            return
        assert self.control is not None
        node = self.config.node
        facts = Facts(self.identity.node_id, node.name, membership.role, node.labelled)
        self.activating = Activating(facts, self.control, self._vitals, time.monotonic)
        await self.activating.start()
        distributing = membership.distributing
        self.activating.said, self.activating.again = distributing.said, distributing.again
        distributing.attach(self.activating)

    async def _vitals(self) -> Vitals:
        """How this node is, all of its processes."""
        metrics = [self.metrics]
        if self.workers is not None:
            metrics += [reading.metrics for _, reading in await self.workers.readings("")]
        services = [stats for each in metrics for stats in each.services.values()]
        refused = sum(sum(each.counters.refusals.values()) for each in metrics)
        failed = sum(stats.failed for stats in services)
        found = {name: check() for name, check in self.checks().items()}
        membership = self.links.membership
        return Vitals(
            ended=failed + refused + sum(stats.ok + stats.canceled for stats in services),
            failed=failed,
            refused=refused,
            failing={name: why for name, why in found.items() if why is not None},
            uplink=membership is not None and membership.federation.uplink is not None,
        )

    def _spool_figures(self) -> list[SpoolFigures]:
        return [] if self.depot is None else self.depot.figures()

    def _flows_lost(self) -> dict[str, int]:
        """Records of the flow log that were not read in time, by who was to get them."""
        return {"viewers": self.flow_log.lost, "files": self.flows.lost}

    def _tell(self, kind: str, subject: str, **data: object) -> None:
        if self.admin is not None:
            self.admin.events.add(kind, subject, **data)

    def _configured(self, devices: frozenset[str] | None) -> None:
        """These devices, or all, may have to be configured in another way."""
        if self.configuring is not None:
            self.configuring.changed(devices)
        if self.workers is not None:
            self.workers.tell("configured", devices=None if devices is None else list(devices))

    def publish(self, publication: Publication) -> None:
        super().publish(publication)
        if self.workers is not None:
            self.workers.publish(publication)

    def govern(self, documents: tuple[Document, ...]) -> None:
        super().govern(documents)
        self.flows.govern(self.plane.governance.telemetry.flow_log)
        if self.workers is not None:
            self.workers.govern()

    def _want_flows(self) -> None:
        """Other records are wanted than before."""
        if self.workers is not None:
            self.workers.want_flows()

    def unknown_key(self) -> None:
        if self.control is not None:
            self.control.issuers.unknown_key()

    def seen(self, subject: str, at: float) -> None:
        if self.control is not None:
            self.control.seen(subject, at)

    def checks(self) -> dict[str, Callable[[], str | None]]:
        workers = self.workers
        return super().checks() | ({} if workers is None else {"workers": lambda: workers.why_not_ready})

    def is_inside(self, connection: Connection) -> bool:
        return self.workers is not None and self.workers.household.holds(connection)

    async def stop(self) -> None:
        """Drain: accept nothing new, let requests in flight finish, close, leave nothing behind (P5)."""
        self.stop_accepting()
        self.links.drain()
        if self.workers is not None:
            self.workers.stop()
        await self.say_goodbye()
        await self.let_finish(lambda: self.workers is not None and self.workers.running)
        await self._close()
        Runtime.remove(self.config.node.data)
        self.log.info("stopped")

    async def _open(self) -> None:
        ports = {name: await listener.start() for name, listener in self.listeners.items()}
        self.websocket_port = ports.get("websocket", 0)
        self.tcp_port = ports.get("tcp", 0)
        if self.config.telemetry.listen:
            host, port = address(self.config.telemetry.listen)
            assert self.control is not None
            checks = self.checks()
            memory = self.memory.limit * self.config.node.workers
            shown = Upkeep(self.control, checks, self._shown_certificate, self._flows_lost, memory)
            self.telemetry = TelemetryServer(
                self.metrics,
                checks,
                Sources(
                    self.plane.outbox_bytes,
                    self.plane.table.__len__,
                    self._spool_figures,
                    self.links,
                    self.bridges,
                    shown.figures,
                ),
                host,
                port,
                workers=None if self.workers is None else self.workers.readings,
            )
            self.telemetry_port = await self.telemetry.start()
        if self.config.admin.listen:
            await self._open_admin()

    async def _open_admin(self) -> None:
        assert self.control is not None
        # What it is made of costs 35 MiB and a second, which a node without it need not spend.
        from gateway.admin.access import PREFIX
        from gateway.admin.console import PATH
        from gateway.admin.server import AdminServer

        host, port = address(self.config.admin.listen)
        if not is_loopback(host) and not self.config.admin.insecure:
            self._admin_certificate = Certificate(self.certificate_path, self.certificate_key_path)
            self._admin_tls = self._admin_certificate.context
        self._console_port = ConsolePort(self.plane, asyncio.get_running_loop(), self.handshake, PREFIX + PATH)
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
            door=self._console_port,
        )
        self.admin_port = await self.admin.start()

    async def _close(self) -> None:
        self.stop_clock()
        await self.bridges.close()
        await self.links.stop()
        for listener in self.listeners.values():
            await listener.stop()
        if self._console_port is not None:
            await self._console_port.stop()
        await self.spans.close()
        if self.workers is not None:
            await self.workers.close()
        if self.telemetry is not None:
            await self.telemetry.stop()
        if self.admin is not None:
            await self.admin.stop()
        for part in (
            self.renewal,
            self.enrolling,
            self.configuring,
            self.updates,
            self._calling,
            self._desk,
            self.activating,
        ):
            if part is not None:
                await part.stop()
        if self.depot is not None:
            await self.depot.stop()
        await self.flows.stop()
        if self.control is not None:
            await self.control.close()

    def drain(self) -> None:
        super().drain()
        if self.workers is not None:
            self.workers.tell("drain")

    def undrain(self) -> None:
        super().undrain()
        if self.workers is not None:
            self.workers.tell("undrain")

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

    def apply_settings(self) -> None:
        """Do as the settings say now, where a running node can."""
        assert self.control is not None
        self.control.govern(access_rules(self.config))
        self.take_settings()
        if self.workers is not None:
            self.workers.take_settings(self.config)

    def first_login(self, name: str) -> None:
        """Somebody has logged in with a password: what the first start left for that is not needed any more."""
        first_run.done(self.config.node.data)

    @property
    def certificate_path(self) -> Path:
        return self.config.tls.certificate or self.identity.certificate_path

    @property
    def certificate_key_path(self) -> Path:
        return self.config.tls.key or self.identity.key_path

    def _shown_certificate(self) -> Path | None:
        shown = self.certificate or self._admin_certificate
        return None if shown is None else self.certificate_path

    @property
    def issues_certificate(self) -> bool:
        return self.config.tls.certificate is None

    @property
    def advertised_url(self) -> str:
        return advertised_url(self.config, self.websocket_port)

    def check(self, now: float) -> None:
        self._renew_certificate(asyncio.get_running_loop(), now)
        if self.activating is not None:
            self.activating.look(now)
        super().check(now)

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

    def reload_certificate(self, *, only_if_changed: bool = False) -> None:
        super().reload_certificate(only_if_changed=only_if_changed)
        admin = self._admin_certificate
        try:
            if admin is not None and self._admin_tls is not None and admin.refresh(only_if_changed=only_if_changed):
                # Its server keeps the context that it began with. The pair is good, or `refresh` had said so.
                self._admin_tls.load_cert_chain(admin.path, admin.key)
        except ConfigError as error:
            self.log.error("the old certificate stays in use", why=str(error))
        if self.workers is not None and not only_if_changed:
            self.workers.tell("certificate")

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


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
