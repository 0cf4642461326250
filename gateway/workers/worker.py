"""A worker: a process that takes connections for a node, and knows what the node's first process tells it.

It holds no database and no signing key. The first process' end is its own, at once: a worker never stays on the node's
port alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway import errors
from gateway.admin import connection_rows, guard_rows
from gateway.config import Config
from gateway.configuring import Configuring, Said
from gateway.control.firmware import DIRECTORY
from gateway.control.registry import Publication
from gateway.documents.validation import understand
from gateway.enrolling import Claim, Enrolling
from gateway.errors import Overloaded, RequestError, WorkerError
from gateway.federation.link import Link
from gateway.forwarding.connection import Connection
from gateway.front import Front
from gateway.observe import figures
from gateway.observe.graph import told
from gateway.observe.logging import configure
from gateway.observe.loop_lag import LoopLagProbe
from gateway.observe.process import process_usage
from gateway.policy.access_list import AccessList
from gateway.renewal import Renewal, Wanted
from gateway.transport.dialer import Dialer
from gateway.updating.downloads import Downloads
from gateway.workers.channel import Channel, Message
from gateway.workers.flows import FlowTeller
from gateway.workers.household import Household, worker_id
from gateway.workers.reporting import Reporter
from gateway.workers.telling import Hearer
from gateway.workers.updates import DistantDesk

#: How often the first process hears how many connections there are, in seconds.
FIGURES_S: Final = 0.5
#: How long the routes of the first process may take to be told before clients are let in all the same.
ROUTES_S: Final = 5.0
#: What a client wants of the first process' disk is done within so many seconds, or refused.
DISK_S: Final = 10.0
#: How long after a link between processes has broken another one is asked for.
RELINK_S: Final = 0.2


class Worker(Front):
    """`hello` is the first message of the first process; `descriptors` are the listening sockets that it brought."""

    def __init__(self, index: int, hello: Message, descriptors: list[int], channel: Channel) -> None:
        self._config = Config.model_validate(hello["settings"])
        configure(self._config.log.level, self._config.log.format)
        super().__init__(self._config)
        self.index = index
        self._hello = hello
        self._channel = channel
        self._descriptors = descriptors
        self._hearer = Hearer(self.publish)
        self._reporter = Reporter(channel)
        self._stopping = False
        self._ready = False
        self._reporting: asyncio.TimerHandle | None = None
        self._lag = LoopLagProbe(self.metrics.loop_lag)

    @property
    def config(self) -> Config:
        return self._config

    @property
    def certificate_path(self) -> Path:
        return Path(self._hello["certificate"])

    @property
    def certificate_key_path(self) -> Path:
        return Path(self._hello["key"])

    def unknown_key(self) -> None:
        self._channel.send("unknown_key")

    def seen(self, subject: str, at: float) -> None:
        self._reporter.add("seen", subject, at)

    def is_inside(self, connection: Connection) -> bool:
        return self.household.holds(connection)

    # Life

    def begin(self) -> None:
        """Be there for the first process; clients are let in when it has told everything."""
        node_id = bytes.fromhex(self._hello["node_id"])
        nothing = Publication(AccessList(), ())
        self.make_plane(worker_id(node_id, self.index), nothing, first_number=self._hello["first_number"])
        self.make_listeners(self._hello["authority"].encode())
        self.plane.register.watcher = self._reporter
        self._flows = FlowTeller(self._channel, self.flow_log, self.index)
        self.renewal = Renewal(self.services, self._renew)
        self.enrolling = Enrolling(self.services, self._enroll)
        self.configuring = Configuring(self.services, self._look, self._keep)
        desk = DistantDesk(self._channel, self._from_disk)
        images = self._config.node.data / DIRECTORY
        self.updates = Downloads(self.services, desk, images, self.metrics.updates)
        self.household = Household(
            self.plane,
            self.services,
            Dialer(self.plane, self.handshake),
            self.insiders,
            asyncio.get_running_loop(),
            node_id=node_id,
            index=self.index,
            count=self._config.node.workers,
        )
        self.household.on_lost = self._lost
        self.start_clock()
        self._lag.start()
        self._report()

    async def heard(self, message: Message, descriptors: list[int]) -> bool:
        """Do what the first process says. Returns whether there is more to come."""
        match message["is"]:
            case "rows":
                self._hearer.take(message)
            case "holds":
                self._hearer.take(message)
                if not self._ready:
                    self._ready = True
                    self._channel.send("link", to=0)
            case "dial":
                await self._dial(socket.socket(fileno=descriptors[0]), message["index"], message["secret"])
            case "expect":
                await self.household.expect(socket.socket(fileno=descriptors[0]), message["index"], message["secret"])
            case "settings":
                self._config = Config.model_validate(message["settings"])
                self.take_settings()
            case "elsewhere":
                self.admission.elsewhere = message["connections"]
            case "firmware_stopped":
                self.updates.cut(message["rollout"])
            case "configured":
                assert self.configuring is not None
                self.configuring.changed(message["devices"])
            case "flows":
                self._flows.want(message["want"], message["capacity"])
            case "documents":
                self.plane.role = message["role"]
                self.govern(tuple(understand(body) for body in message["standing"]))
            case "certificate":
                self.reload_certificate()
            case "drain":
                self.drain()
            case "undrain":
                self.undrain()
            case "stop":
                return False
        return True

    async def _dial(self, end: socket.socket, index: int, secret: str) -> None:
        link = await self.household.dial(end, index, secret)
        if index == 0 and self._descriptors:
            try:
                async with asyncio.timeout(ROUTES_S):
                    while not link.intake.whole:  # noqa: ASYNC110  (what is told over a link sets no events)
                        await asyncio.sleep(0.01)
            except TimeoutError:
                self.log.warning("the routes of the first process are not all known yet")
            self._let_in()

    def _let_in(self) -> None:
        sockets = [socket.socket(fileno=descriptor) for descriptor in self._descriptors]
        self._descriptors = []
        for name, count in self._hello["listening"]:
            self.listeners[name].accept_on(sockets[:count])
            del sockets[:count]
        self._channel.send("ready")

    async def stop(self) -> None:
        """Drain and end, as a node does."""
        self._stopping = True
        self.stop_accepting()
        self.household.drain()
        await self.say_goodbye()
        await self.let_finish()
        self.stop_clock()
        self._flows.stop()
        self._lag.stop()
        if self._reporting is not None:
            self._reporting.cancel()
        for listener in self.listeners.values():
            await listener.stop()
        await self.spans.close()
        await self.renewal.stop()
        await self.enrolling.stop()
        assert self.configuring is not None
        await self.configuring.stop()
        await self.updates.stop()
        await self.household.stop()
        self._reporter.flush()

    def _lost(self, link: Link) -> None:
        if not self._stopping and link.dialled:
            asyncio.get_running_loop().call_later(RELINK_S, self._link_again, self.household.number_of(link))

    def _link_again(self, index: int) -> None:
        if not self._stopping:
            self._channel.send("link", to=index)

    def _report(self) -> None:
        self._reporting = asyncio.get_running_loop().call_later(FIGURES_S, self._report)
        self._channel.send("figures", connections=self.admission.connections)

    # Asking, and being asked

    async def _renew(self, wanted: Wanted) -> dict[str, Any]:
        answer = await self._from_disk("renew", "there can be no token now", wanted=wanted.document())
        assert isinstance(answer, dict)
        return answer

    async def _enroll(self, claim: Claim) -> dict[str, Any]:
        answer = await self._from_disk("enroll", "there can be no token now", claim=claim.document())
        assert isinstance(answer, dict)
        return answer

    async def _look(self, devices: Sequence[str]) -> Mapping[str, Sequence[Any] | None]:
        answer = await self._from_disk("configurations", "the configuration cannot be read now", devices=devices)
        assert isinstance(answer, dict)
        return answer

    async def _keep(self, said: Said) -> None:
        await self._from_disk("configured", "the report cannot be stored now", said=said.document())

    async def _from_disk(self, what: str, why_not: str, **content: Any) -> Any:
        """What the first process answers. Raises RequestError: the one that it raised, or Overloaded."""
        try:
            return await self._channel.ask(what, DISK_S, **content)
        except WorkerError as error:
            kind = getattr(errors, error.kind, None)
            if isinstance(kind, type) and issubclass(kind, RequestError):
                raise kind(error.text, reason=error.reason) from error
            raise Overloaded(f"{why_not}; try again", reason=error.reason) from error

    async def answer(self, message: Message) -> Any:
        """What the first process asks. Raises LookupError for what is not here."""
        plane = self.plane
        match message["is"]:
            case "figures":
                return {
                    "metrics": figures.told(self.metrics),
                    "outbox_bytes": plane.outbox_bytes(),
                    "routes": len(plane.table),
                    "process": process_usage(),
                }
            case "graph":
                now = plane.monotonic()
                return told(self.graph.traffic(now, self.metrics.paths, message["window"]))
            case "connections":
                found = connection_rows.matching(
                    plane, self.is_inside, message["subject"], message["kind"], message["q"]
                )
                after = message["after"]
                return await connection_rows.page(
                    found,
                    message["sort"],
                    descending=message["descending"],
                    after=None if after is None else (after[0], after[1]),
                    limit=message["limit"],
                )
            case "guard":
                return guard_rows.row(plane, message["service"])
            case "reset":
                return guard_rows.reset(plane, message["service"], message["instance"])
            case "of_subject":
                return [connection_rows.row(each) for each in connection_rows.of_subject(plane, message["subject"])]
            case "kick_subject":
                connections = connection_rows.of_subject(plane, message["subject"])
                for each in connections:
                    connection_rows.kick(each)
                return [each.number for each in connections]
        connection = connection_rows.find(plane, message["number"])
        match message["is"]:
            case "connection":
                return connection_rows.row(connection)
            case "streams":
                return connection_rows.stream_rows(connection)
            case "kick":
                return connection_rows.kick(connection)
        raise LookupError(message["is"])


async def serve(index: int, end: socket.socket) -> int:
    """Be the worker `index` of the process at the other end, until it says stop."""
    inbox: asyncio.Queue[tuple[Message, list[int]]] = asyncio.Queue()
    found: list[Worker] = []

    async def answer(message: Message) -> Any:
        return await found[0].answer(message)

    channel = Channel(end, lambda message, brought: inbox.put_nowait((message, brought)), answer, lambda: os._exit(1))
    worker = Worker(index, *await inbox.get(), channel)
    found.append(worker)
    worker.begin()
    while await worker.heard(*await inbox.get()):
        pass
    await worker.stop()
    await channel.empty()
    channel.close()
    return 0
