"""What every process of a node has: its data plane, the listeners before it, and the clock that moves its deadlines.

`node.Node` is this with all that a node knows behind it; `workers.worker.Worker` is this with what the node's first
process tells it. Processes of one node share its limits: each takes its part.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from random import Random

from gateway import __version__
from gateway.config import Config, address
from gateway.configuring import Configuring
from gateway.control.registry import Publication
from gateway.documents.governing import governance
from gateway.documents.model import Document
from gateway.errors import ConfigError
from gateway.flows.log import FlowLog
from gateway.flows.service import FlowService
from gateway.forwarding.connection import Connection
from gateway.forwarding.links import LOCAL
from gateway.forwarding.mirroring import Mirrors
from gateway.forwarding.multicast import Multicast
from gateway.forwarding.nowhere import Nowhere
from gateway.forwarding.plane import INTERNAL, Plane
from gateway.forwarding.services import NodeServices
from gateway.forwarding.waiting import Waiting
from gateway.observe.graph import Graph
from gateway.observe.loggers import structlog
from gateway.observe.logging import configure
from gateway.observe.memory import MemoryGauge, Pressure
from gateway.observe.metrics import Metrics
from gateway.observe.refusal_log import RefusalLog
from gateway.observe.watchdog import Watchdog
from gateway.phone_pages import phone_pages
from gateway.policy.overload import LoopLoad, Overload
from gateway.policy.principal import Principal
from gateway.publishing import admission_rules, snapshot
from gateway.tracing import Spans
from gateway.transport.admission import LATE, NO_MEMORY, Admission
from gateway.transport.carrier import House, SocketCarrier
from gateway.transport.listener import Listener
from gateway.transport.reception import Reception
from gateway.transport.tcp import TcpCarrier
from gateway.transport.tls import Certificate
from gateway.transport.websocket import Handshake, WebSocketCarrier
from gateway.wire.brokering import MAX_TAG_BYTES

#: How often deadlines are looked at, in seconds; each is met within this much of its time.
TICK_S = 0.25
#: A delay of the clock that deadlines are moved by, in seconds: nobody could be heard meanwhile.
LATE_S = 0.1
#: How often files are looked at and what is stale is forgotten, in seconds.
CHECK_S = 2.0
#: How many peers a second are sent elsewhere when the node drains, where there is time for that.
GOODBYES_PER_S = 200
#: For how long another thread may keep the interpreter's lock from the loop, in seconds; 5 ms is a hundred requests.
SWITCH_S = 0.0002


class Front(ABC):
    """One process of a node, as its peers meet it. `websocket_port` and `tcp_port` say where it is."""

    def __init__(self, config: Config) -> None:
        self.log = structlog.get_logger("gateway.node")
        self.metrics = Metrics()
        self.listeners: dict[str, Listener] = {}
        self.started_at = self._checked_at = self._ticked_at = 0.0
        self.certificate: Certificate | None = None
        self.websocket_port = self.tcp_port = 0
        self.watchdog = Watchdog()
        self.memory = MemoryGauge(config.limits.memory_bytes)
        self.memory.limit //= config.node.workers
        self.pressure = Pressure.NONE
        #: Credentials that the processes of one node have for each other.
        self.insiders: dict[bytes, Principal] = {}
        self.configuring: Configuring | None = None
        self._here: set[str] = set()
        self._ticking: asyncio.TimerHandle | None = None
        self._load = LoopLoad(config.limits.lag_warn_ms / 1000, config.limits.lag_shed_ms / 1000)
        self._log_settings = config.log
        self._goodbyes: asyncio.Task[None] | None = None
        self._refusals = RefusalLog(self.metrics.counters, self._say_refused)

    def _say_refused(self, reason: str, count: int) -> None:
        trace_id = self.spans.trace_of(reason)
        more = {"trace_id": trace_id} if trace_id else {}
        self.log.warning("refused", reason=reason, count=count, **more)

    # What each process knows in its own way

    @property
    @abstractmethod
    def config(self) -> Config:
        """The settings as they hold now."""

    @property
    @abstractmethod
    def certificate_path(self) -> Path:
        """The certificate in use, and those that lead to its authority; PEM."""

    @property
    @abstractmethod
    def certificate_key_path(self) -> Path:
        """Its key; PEM."""

    @property
    def published(self) -> Publication:
        """What the data plane goes by."""
        return self._published

    @abstractmethod
    def unknown_key(self) -> None:
        """A token came whose key nobody knows."""

    @abstractmethod
    def seen(self, subject: str, at: float) -> None:
        """A principal came or went, at this Unix time."""

    # Life

    def make_plane(self, node_id: bytes, known: Publication, *, first_number: int = 0) -> None:
        """The data plane and the node's own services in it. `first_number`: connections are numbered from behind it."""
        config = self.config
        self.started_at = time.time()
        self._published = known
        #: The documents that requests go by.
        self.governed_by: tuple[Document, ...] = ()
        sys.setswitchinterval(SWITCH_S)
        self.plane = Plane(
            node=config.node.name,
            node_id=node_id,
            snapshot=snapshot(config, known, 1, insiders=self.insiders),
            metrics=self.metrics,
            monotonic=time.monotonic,
            wall=time.time,
            schedule=asyncio.get_running_loop().call_soon,
            random=Random(),
            later=asyncio.get_running_loop().call_later,
            resume_sessions=-(-config.limits.resume_sessions // config.node.workers),
            first_number=first_number,
        )
        if config.node.labels:
            labels = dict(label.split("=", 1) for label in config.node.labels)
            if len(config.node.name.encode()) <= MAX_TAG_BYTES:
                labels.setdefault("edge", config.node.name)
            self.plane.labels = labels
        self.spans = Spans(self.plane, config.node.name, __version__)
        self.services = NodeServices(self.plane)
        self.flow_log = FlowLog(self.plane)
        self.flow_service = FlowService(self.services, self.flow_log)
        self.graph = Graph(self.plane.now)
        self.plane.multicast = Multicast(self.plane)
        self.plane.nowhere = Nowhere(self.plane)
        self.plane.mirrors = Mirrors(self.plane)
        self.plane.waiting = Waiting(self.plane)

    def make_listeners(self, authority: bytes) -> None:
        """`authority`: the PEM of the certificate that clients trust, where the node shows one of its own."""
        loop = asyncio.get_running_loop()
        config = self.config
        plane = self.plane
        if config.tls.enabled:
            self.certificate = Certificate(self.certificate_path, self.certificate_key_path, config.tls.psk_file)
        self.admission = Admission(admission_rules(config), plane.monotonic())
        reception = Reception(loop.call_soon, plane.monotonic)
        self.handshake = Handshake(
            paths=frozenset({config.listen.path, "/"}),
            origins=config.listen.origins,
            timeout_s=config.limits.upgrade_timeout_s,
            max_line_bytes=config.limits.http_line_bytes,
            max_headers=config.limits.http_headers,
            max_fragments=config.limits.message_fragments,
            authority=authority,
            pages=phone_pages() if config.listen.pages else {},
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
                    shared=config.node.workers > 1,
                )

    def start_clock(self) -> None:
        """Deadlines hold from now on."""
        self._ticked_at = self.plane.monotonic()
        self._tick(asyncio.get_running_loop())
        self.watchdog.start()

    def stop_clock(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        self.watchdog.stop()
        if self._goodbyes is not None:
            self._goodbyes.cancel()

    def publish(self, publication: Publication) -> None:
        """Let the data plane go by what the control plane knows now."""
        self._published = publication
        generation = self.plane.snapshot.generation + 1
        now = snapshot(self.config, publication, generation, self.unknown_key, insiders=self.insiders)
        self.plane.publish(now, publication.subjects)
        if self.configuring is not None:
            # What a device is to have goes by its labels, too.
            self.configuring.changed(publication.subjects)

    def govern(self, documents: tuple[Document, ...]) -> None:
        """Let the data plane go by what these documents say of requests."""
        self.governed_by = documents
        rules = governance(documents)
        self.spans.take(rules.telemetry.tracing)
        self.plane.govern(rules)

    def checks(self) -> dict[str, Callable[[], str | None]]:
        """What readiness asks: None, or why not."""
        found = {name: self._accepting(listener) for name, listener in self.listeners.items()}
        return found | {"draining": lambda: "this node is draining" if self.plane.draining else None}

    @staticmethod
    def _accepting(listener: Listener) -> Callable[[], str | None]:
        return lambda: None if listener.accepting else f"{listener.setting} is not accepting"

    # Draining

    def drain(self) -> None:
        """Take no new sessions, and tell every peer to go elsewhere; the process goes on."""
        self.plane.draining = True
        self._goodbyes = asyncio.create_task(self.say_goodbye(), name="goodbyes")

    def undrain(self) -> None:
        """Take sessions again. Those who were told to go are not called back."""
        if self._goodbyes is not None:
            self._goodbyes.cancel()
            self._goodbyes = None
        self.plane.draining = False

    def stop_accepting(self) -> None:
        self.plane.draining = True
        for listener in self.listeners.values():
            listener.stop_accepting()

    async def say_goodbye(self) -> None:
        """Tell every peer to go elsewhere, a few at a time, so that they do not all come there at once (fault 95).

        Who serves something is told last: those who have not been told yet may still ask for it.
        """
        plane = self.plane
        waiting = [connection for connection in plane.connections.values() if not self.is_inside(connection)]
        waiting.sort(key=plane.serves)
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

    def is_inside(self, connection: Connection) -> bool:
        """Whether it is one between the processes of this node."""
        return False

    async def let_finish(self, others: Callable[[], bool] = lambda: False) -> None:
        """Wait until nothing is under way here, nor anything of `others`, for as long as there is grace."""
        plane = self.plane
        deadline = plane.monotonic() + self.config.limits.drain_grace_s
        while (plane.busy or others()) and plane.monotonic() < deadline:  # noqa: ASYNC110  (it sets no events)
            await asyncio.sleep(0.02)

    # Settings that a running process takes

    def take_settings(self) -> None:
        """Do as the settings say now, where a running process can."""
        config = self.config
        if config.log != self._log_settings:
            self._log_settings = config.log
            configure(config.log.level, config.log.format)
        self.publish(replace(self._published, subjects=None))
        self.handshake = replace(
            self.handshake, origins=config.listen.origins, timeout_s=config.limits.upgrade_timeout_s
        )
        for listener in self.listeners.values():
            listener.tls_timeout_s = config.limits.tls_handshake_timeout_s

    def reload_certificate(self, *, only_if_changed: bool = False) -> None:
        """Show new connections the certificate that is in the files now; where it cannot be used, keep the old one."""
        try:
            if self.certificate is not None and self.certificate.refresh(only_if_changed=only_if_changed):
                self.log.info("certificate loaded", path=str(self.certificate.path))
        except ConfigError as error:
            self.log.error("the old certificate stays in use", why=str(error))

    # The clock

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
            self.check(now)

    def check(self, now: float) -> None:
        """What is looked at every few seconds; `now` is monotonic."""
        self.reload_certificate(only_if_changed=True)
        self._see_who_is_here()
        self.graph.note(now, self.metrics.paths)

    def _see_who_is_here(self) -> None:
        """Note who came and who went since the last look."""
        connections = self.plane.connections.values()
        here = {c.principal.subject for c in connections if c.accepted and c.kind != INTERNAL and c.side == LOCAL}
        wall = self.plane.wall()
        for subject in here ^ self._here:
            self.seen(subject, wall)
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


def _overload_by(pressure: Pressure) -> Overload:
    """How overloaded a node is that is so short of memory."""
    if pressure >= Pressure.NO_DURABLE_WORK:
        return Overload.SHEDDING
    return Overload.LATE if pressure >= Pressure.NO_NEW_CONNECTIONS else Overload.NONE


def run(main: Coroutine[object, object, int]) -> int:
    """Run a process' loop until `main` returns the exit status."""
    _spare_the_collector()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _spare_the_collector() -> None:
    """What was imported stays for ever, and what requests leave behind goes by reference counts: look rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # it has no wheel for this platform
        return asyncio.new_event_loop
    return uvloop.new_event_loop
