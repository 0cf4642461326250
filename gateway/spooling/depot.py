"""What may wait on this node, and where it does: the keeper behind the data plane's intake.

Documents say which requests wait. For each service that one of them matches there is an `Outlet`, made when the first
request for it comes, or at the start where messages wait for it. The file is opened when there is a document or a file:
a node without either pays nothing. Where it cannot be opened, the requests are refused, an alarm says so, and all other
traffic goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.admin.exposition import SpoolFigures
from gateway.documents.model import Document, Site
from gateway.documents.spool import Interaction, Key
from gateway.errors import FrameError, Overloaded, RequestError, RequestInvalid, ResponderGone, StorageError
from gateway.forwarding.intake import Intake, Kept
from gateway.forwarding.stamp import Deciding, Form
from gateway.forwarding.stream import REQUEST_FNF
from gateway.policy.access import is_reserved
from gateway.routing.address import Address, address_from
from gateway.routing.table import Event, Joined
from gateway.routing.tags import SERVICE_NAME, SUB
from gateway.spool.message import Opened, Waiting
from gateway.spool.rules import SpoolRules
from gateway.spool.spool import Spool, SpoolStatus
from gateway.spool.store import Grouping, SpoolStore
from gateway.spooling.envelope import unseal
from gateway.spooling.outlet import Outlet
from gateway.wire import brokering
from gateway.wire.metadata import decode_routing, iter_composite
from gateway.wire.mimetypes import IDEMPOTENCY_KEY

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.control.plane import ControlPlane
    from gateway.documents.spool import Spool as Spec
    from gateway.forwarding.plane import Plane

FILE = "spool.sqlite3"
#: Services for which something waits, at most: each takes a few kilobytes of memory.
MAX_OUTLETS = 1000
#: What is known of metadata that came before.
KNOWN = 4096
#: Requests that wait for a new spool to be entered in the file.
MAX_WAITING = 10_000
_ANY_NUMBER = 1 << 30
LOOK_S = 0.05
#: How often it is tried to open a file that could not be opened, in seconds.
OPEN_AGAIN_S = 30.0
#: A spool that is fuller than this is an alarm, and none any more when it is emptier than that.
FULL, FULL_NO_MORE = 0.8, 0.7
#: How long a loss of messages stays an alarm, in seconds.
LOSS_S = 600.0
#: What is lost because somebody chose to lose it.
_CHOSEN = frozenset({"dropped", "conflated"})


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request's metadata say of it. `idempotent`: it carries an idempotency key."""

    name: str
    route: str
    topic: str | None
    idempotent: bool

    def key(self, spec: Spec, subject: str) -> bytes:
        """By which its order is kept."""
        match spec.key:
            case Key.DEVICE:
                return subject.encode()
            case Key.ROUTE:
                return self.route.encode()
            case Key.TOPIC:
                return (self.topic or self.route).encode()
            case _:
                return b""


class Depot:
    def __init__(
        self,
        plane: Plane,
        node_id: str,
        config: Config,
        control: ControlPlane,
        tell: Callable[..., None] = lambda kind, subject, **data: None,
    ) -> None:
        """`tell(kind, subject, **data)` is told of events."""
        self.store: SpoolStore | None = None
        self.outlets: dict[str, Outlet] = {}
        self.tell = tell
        self._plane = plane
        self._path = config.node.data / FILE
        self._node_id = node_id
        self._max_bytes = config.spool.max_bytes
        self._grouping = Grouping(config.spool.group_messages, config.spool.group_ms / 1000)
        self._control = control
        self._alarm = control.raise_alarm
        self._calm = control.calm
        self._specs: tuple[tuple[str, Spec], ...] = ()
        self._why_not = ""
        self._intake: Intake | None = None
        self._known: dict[bytes, _Asked] = {}
        self._early: list[Kept] = []
        self._making: dict[str, list[tuple[Kept, bytes, float | None]]] = {}
        self._makers: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._lost: dict[str, int] = {}
        self._lost_at = float("-inf")
        self._full: set[str] = set()
        self._started = False
        self._stopped = False

    # Life

    async def start(self) -> None:
        """Act by the documents, and take over what waits from an earlier run. A file that cannot be opened is an
        alarm, and raises nothing."""
        self._control.documents.site = self.site
        self._control.documents.subscribe("Spool", self._govern)
        if self._path.exists() or self._specs:
            await self._open()
        self._started = True

    async def stop(self) -> None:
        """Commit what is on its way to the disk; what waits goes on waiting."""
        self._stopped = True
        self._unsubscribe()
        for task in (self._looking, self._opening):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*self._makers, return_exceptions=True)
        for outlet in self.outlets.values():
            await outlet.stop()
        if self.store is not None:
            await self.store.close()

    def _govern(self, documents: tuple[Document, ...]) -> None:
        """Go by these from now on, in their order."""
        self._specs = tuple((document.name, document.spec) for document in documents)
        specs = dict(self._specs)
        for outlet in self.outlets.values():
            outlet.spec = specs.get(outlet.document)
            if outlet.spec is not None:
                outlet.spool.set_rules(outlet.spec.rules)
        if self._specs and self._intake is None:
            self._intake = self._plane.intake = Intake(self._plane, self)
        self._plane.table.invalidate()
        if self._started and self._specs and self.store is None and self._opening is None and not self._stopped:
            self._opening = asyncio.create_task(self._open_on(), name="spool: opening")

    def site(self) -> Site | None:
        """What documents are checked against."""
        try:
            volume = os.statvfs(self._path.parent)
        except OSError:
            return None
        spooled = self._path.stat().st_size if self._path.exists() else 0
        return Site(volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize, spooled, self._max_bytes)

    async def _open_on(self) -> None:
        while self.store is None:
            await self._open()
            if self.store is None:
                await asyncio.sleep(OPEN_AGAIN_S)

    async def _open(self) -> None:
        try:
            store = await SpoolStore.open(
                self._path,
                self._node_id,
                max_bytes=self._max_bytes,
                grouping=self._grouping,
                alarm=self._alarm,
                calm=self._calm,
            )
        except StorageError as error:
            self._why_not = str(error)
            self._keep_early()
            self._alarm("spool_unavailable", f"nothing can wait: {error}")
            if self._opening is None and not self._stopped:
                self._opening = asyncio.create_task(self._open_on(), name="spool: opening")
            return
        try:
            if self._intake is None:
                self._intake = self._plane.intake = Intake(self._plane, self)
            for destination in store.forsaken():
                await self._outlet(store, destination)
        except BaseException:
            await store.close()
            raise
        self.store = store
        self._calm("spool_unavailable")
        self._unsubscribe = self._plane.table.subscribe(self._heard)
        self._looking = asyncio.create_task(self._look_on(), name="spool: looking")
        self._keep_early()
        self._plane.table.invalidate()

    def _keep_early(self) -> None:
        """What came while the file was being opened."""
        early, self._early = self._early, []
        for request in early:
            self.keep(request)

    # The keeper's part

    def takes(self, address: Address, *, here: bool) -> bool:
        name = address.tag(SERVICE_NAME) or address.tag(SUB) or ""
        if is_reserved(name or address.route):
            return False
        for document, spec in self._specs:
            target = spec.target(name, address.route)
            if target is None:
                continue
            if not here:
                return True
            outlet = self.outlets.get(f"{document}/{target}")
            if outlet is not None and outlet.behind:
                return True
        return False

    def keep(self, request: Kept) -> None:
        assert self._intake is not None
        try:
            self._keep(request)
        except FrameError as error:
            self._intake.refused(request, RequestInvalid(f"metadata: {error}", reason="malformed_metadata"))
        except RequestError as error:
            self._intake.refused(request, error)

    def _keep(self, request: Kept) -> None:
        assert self._intake is not None
        asked = self._asked(request.metadata)
        fnf = request.interaction == REQUEST_FNF
        interaction = Interaction.FIRE_AND_FORGET if fnf else Interaction.REQUEST_RESPONSE
        matched = self._match(asked, interaction)
        if matched is None:
            self._intake.again(request)
            return
        document, spec, target = matched
        offline = None if fnf else spec.queue_while_offline
        if offline is not None and offline.only_idempotent and not asked.idempotent:
            if not self._intake.again(request):
                raise Overloaded("only requests with an idempotency key wait", reason="spool_not_idempotent")
            return
        if self.store is None:
            if self._why_not or len(self._early) >= MAX_WAITING:
                why = self._why_not or "too much comes before its file is open"
                raise Overloaded(f"nothing can wait here: {why}", reason="spool_unavailable")
            self._early.append(request)
            return
        destination = f"{document}/{target}"
        ttl_s = offline.ttl if offline is not None else None
        outlet = self.outlets.get(destination)
        if outlet is not None:
            outlet.keep(request, asked.key(spec, request.principal.subject), ttl_s)
            return
        waiting = self._making.get(destination)
        if waiting is None:
            if len(self.outlets) + len(self._making) >= MAX_OUTLETS:
                raise Overloaded(f"messages wait for {MAX_OUTLETS} services already", reason="too_many_spools")
            waiting = self._making[destination] = []
            task = asyncio.ensure_future(self._make(self.store, destination))
            self._makers.add(task)
            task.add_done_callback(self._makers.discard)
        elif len(waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} messages wait for a new spool already", reason="spool_busy")
        waiting.append((request, asked.key(spec, request.principal.subject), ttl_s))

    def _match(self, asked: _Asked, interaction: Interaction) -> tuple[str, Spec, str] | None:
        for document, spec in self._specs:
            target = spec.target(asked.name, asked.route, interaction)
            if target is not None:
                return document, spec, target
        return None

    async def _make(self, store: SpoolStore, destination: str) -> None:
        """The outlet for what is the first to wait for its service."""
        assert self._intake is not None
        try:
            outlet = await self._outlet(store, destination)
        except StorageError as error:
            for request, _, _ in self._making.pop(destination):
                self._intake.refused(request, ResponderGone(str(error), reason="spool_storage"))
            return
        for request, key, ttl_s in self._making.pop(destination):
            if outlet.spec is None:  # its document has gone meanwhile
                self._intake.refused(request, Overloaded("nothing waits any more", reason="spool_unavailable"))
            else:
                outlet.keep(request, key, ttl_s)

    async def _outlet(self, store: SpoolStore, destination: str) -> Outlet:
        document, _, target = destination.partition("/")
        spec = dict(self._specs).get(document)
        spool = await store.spool(destination, SpoolRules() if spec is None else spec.rules)
        # It may have changed meanwhile.
        spec = dict(self._specs).get(document)
        assert self._intake is not None
        outlet = self.outlets[destination] = Outlet(self._plane, self._intake, spool, document, target, spec)
        self._lost[destination] = sum(spool.lost.values())
        return outlet

    def _asked(self, metadata: bytes) -> _Asked:
        """Raises FrameError, and RequestInvalid for what names nobody."""
        known = self._known.get(metadata)
        if known is None:
            deciding = Deciding(metadata, Form.COMPOSITE, _ANY_NUMBER)
            tags = decode_routing(deciding.routing) if deciding.routing is not None else ()
            broker = brokering.decode(deciding.broker) if deciding.broker is not None else None
            address = address_from(tags, broker if isinstance(broker, brokering.Address) else None)
            idempotent = any(entry.mime == IDEMPOTENCY_KEY for entry in iter_composite(metadata, 0, len(metadata)))
            name = address.tag(SERVICE_NAME) or address.tag(SUB) or ""
            known = _Asked(name, address.route, address.tag("topic"), idempotent)
            if deciding.varying:
                return known
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[metadata] = known
        return known

    # What goes on by itself

    def _heard(self, event: Event) -> None:
        if not isinstance(event, Joined):
            return
        for outlet in self.outlets.values():
            if outlet.spool.messages and any(
                _concerns(outlet.target, name) for name in (event.route.service, event.route.subject)
            ):
                outlet.wake()

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for outlet in list(self.outlets.values()):
                outlet.look()
            self._look_for_alarms()

    def _look_for_alarms(self) -> None:
        now = self._plane.monotonic()
        for name, outlet in self.outlets.items():
            share = outlet.spool.size / outlet.spool.rules.max_bytes
            if share > FULL and name not in self._full:
                self._full.add(name)
                self.tell("spool.filling", name, bytes=outlet.spool.size, max_bytes=outlet.spool.rules.max_bytes)
                self._alarm("spool_filling", f"what waits for {name} fills {share:.0%} of its spool")
            elif share < FULL_NO_MORE and name in self._full:
                self._full.discard(name)
                self.tell("spool.drained", name, bytes=outlet.spool.size)
            lost = outlet.spool.lost
            total = sum(lost.values())
            if total > self._lost.get(name, 0):
                self.tell("spool.lost", name, messages=total - self._lost.get(name, 0), lost=dict(lost))
                if any(reason not in _CHOSEN for reason in lost):
                    self._lost_at = now
                    reasons = ", ".join(f"{count} {reason}" for reason, count in lost.items())
                    self._alarm("spool_lost", f"messages for {name} left without being delivered: {reasons}")
            self._lost[name] = total
        if not self._full:
            self._calm("spool_filling")
        if now - self._lost_at > LOSS_S:
            self._calm("spool_lost")

    # What an operator sees and does

    def spools(self) -> dict[str, Spool]:
        """By name, `document/service`."""
        return {name: outlet.spool for name, outlet in sorted(self.outlets.items())}

    def is_behind(self, name: str) -> bool:
        """Whether new requests wait there, too."""
        return self.outlets[name].behind

    def replay(self, name: str) -> int:
        """Send what waits now, and what is on its way once more; how many messages wait."""
        return self.outlets[name].replay()

    def opened(self, message: Waiting) -> Opened:
        """What a message says. Raises StorageError."""
        envelope = unseal(message.payload)
        try:
            asked = self._asked(envelope.metadata)
            route = asked.route or asked.name
        except (FrameError, RequestError):
            route = ""
        interaction = "fireAndForget" if envelope.interaction == REQUEST_FNF else "requestResponse"
        return Opened(envelope.principal.subject, interaction, route, envelope.data)

    def figures(self) -> list[SpoolFigures]:
        """By document: what is counted has no device's name in it."""
        found: dict[str, list[SpoolStatus]] = {}
        for outlet in self.outlets.values():
            found.setdefault(outlet.document, []).append(outlet.spool.status())
        return [SpoolFigures.of(document, statuses) for document, statuses in found.items()]


def _concerns(target: str, name: str) -> bool:
    """Whether who bears a name may serve what waits for a target: itself, what it is a part of, a part of it."""
    if not name:
        return False
    longer, shorter = (target, name) if len(target) > len(name) else (name, target)
    return longer == shorter or (longer.startswith(shorter) and longer[len(shorter)] in "./")
