"""What may wait on this node, and where it does: the keeper behind the data plane's intake.

Documents say which requests wait. For each service that one of them matches there is an `Outlet`, made when the first
request for it comes, or at the start where messages wait for it. The file is opened when there is a document or a file:
a node without either pays nothing. Where it cannot be opened, the requests are refused, an alarm says so, and all other
traffic goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gateway.admin.exposition import SpoolFigures
from gateway.documents.model import Document, Site
from gateway.documents.spool import Interaction
from gateway.errors import (
    FrameError,
    Overloaded,
    RequestError,
    RequestInvalid,
    ResponderGone,
    StorageError,
)
from gateway.forwarding.intake import Intake, Kept
from gateway.forwarding.stream import REQUEST_FNF
from gateway.routing.address import Address
from gateway.routing.table import Event, Joined
from gateway.spool.message import Opened, Waiting
from gateway.spool.rules import SpoolRules
from gateway.spool.spool import Spool
from gateway.spool.store import Grouping, SpoolStore
from gateway.spooling.crossing import Crossing
from gateway.spooling.deposit import Parcel, deposit
from gateway.spooling.envelope import unseal
from gateway.spooling.outlet import FOREIGN, Outlet, Storing
from gateway.spooling.reception import Reception
from gateway.spooling.watch import Watch
from gateway.spooling.ways import Terms, Way, Ways

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.control.plane import ControlPlane
    from gateway.federation.federation import Federation
    from gateway.federation.link import Link
    from gateway.federation.membership import Membership
    from gateway.forwarding.plane import Plane
    from gateway.forwarding.services import NodeServices

FILE = "spool.sqlite3"
#: Services for which something waits, at most: each takes a few kilobytes of memory.
MAX_OUTLETS = 1000
#: Requests that wait for a new spool to be entered in the file.
MAX_WAITING = 10_000
LOOK_S = 0.05
#: How often it is tried to open a file that could not be opened, in seconds.
OPEN_AGAIN_S = 30.0
#: How long somebody waits for it to be opened, in seconds.
OPEN_S = 5.0
#: For what other nodes hand over: what is too much is refused and stays with them, and its age has been limited there.
FOREIGN_RULES = SpoolRules(max_message_bytes=16 * 1024 * 1024, max_age_s=366 * 24 * 3600.0)


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
        self._plane = plane
        self._path = config.node.data / FILE
        self._node_id = node_id
        self._max_bytes = config.spool.max_bytes
        self._grouping = Grouping(config.spool.group_messages, config.spool.group_ms / 1000)
        self._control = control
        self._alarm = control.raise_alarm
        self._calm = control.calm
        self.ways = Ways()
        self._why_not = ""
        self._intake: Intake | None = None
        self._early: list[Kept] = []
        self._making: dict[str, list[tuple[Kept, Terms]]] = {}
        self._makers: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._watch = Watch(plane, control, tell)
        self._crossing = Crossing(plane, config.spool.start_jitter_s)
        self.reception: Reception | None = None
        self._federation: Federation | None = None
        self._uplink: Link | None = None
        self._started = False
        self._stopped = False

    # Life

    async def start(self) -> None:
        """Act by the documents, and take over what waits from an earlier run. A file that cannot be opened is an
        alarm, and raises nothing."""
        self._control.documents.site = self.site
        self._control.documents.subscribe("Spool", self._govern)
        if self._path.exists() or self.ways.specs:
            await self._open()
        self._started = True

    def cross(self, services: NodeServices, membership: Membership | None) -> None:
        """Take what other nodes hand over, if this one belongs to a federation."""
        if membership is not None:
            self._federation = membership.federation
            self.reception = Reception(self, services, membership.federation.links.get)

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
        self.ways.govern(tuple((document.name, document.spec) for document in documents))
        specs = dict(self.ways.specs)
        for outlet in self.outlets.values():
            spec = specs.get(outlet.document)
            outlet.govern(spec)
            if spec is not None:
                outlet.spool.set_rules(spec.rules)
        if self.ways.specs and self._intake is None:
            self._intake = self._plane.intake = Intake(self._plane, self)
        self._plane.table.invalidate()
        if self._started and self.ways.specs and self.store is None and self._opening is None and not self._stopped:
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
        for destination in self.ways.destinations(address):
            if not here:
                return True
            outlet = self.outlets.get(destination)
            if outlet is not None and outlet.behind:
                return True
        return False

    def takes_posts(self, address: Address) -> bool:
        return any(self.ways.destinations(address, Interaction.REQUEST_RESPONSE))

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
        way = self.ways.find(request.interaction, request.metadata)
        if way is None:
            self._intake.again(request)
            return
        if not way.waits:
            if not self._intake.again(request):
                raise Overloaded("only requests with an idempotency key wait", reason="spool_not_idempotent")
            return
        outlet = self.outlets.get(way.destination)
        if outlet is not None:
            outlet.keep(request, way.terms(request.principal.subject))
            return
        if self.store is None:
            if self._why_not or len(self._early) >= MAX_WAITING:
                why = self._why_not or "too much comes before its file is open"
                raise Overloaded(f"nothing can wait here: {why}", reason="spool_unavailable")
            self._early.append(request)
            return
        self._wait_for(way.destination, self.store, request, way)

    def _wait_for(self, destination: str, store: SpoolStore, request: Kept, way: Way) -> None:
        """It is the first for its service, or comes while the spool of that is entered in the file."""
        waiting = self._making.get(destination)
        if waiting is None:
            if len(self.outlets) + len(self._making) >= MAX_OUTLETS:
                raise _too_many()
            waiting = self._making[destination] = []
            self.work(self._make(store, destination))
        elif len(waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} messages wait for a new spool already", reason="spool_busy")
        waiting.append((request, way.terms(request.principal.subject)))

    # What comes from inside the node

    def put(self, document: str, parcels: Sequence[Parcel]) -> Storing:
        """Store these in the spool that a document names, whether their services are there or not; by the document's
        rules, whatever its `interaction` says.

        The future is done when they are on disk, and raises nothing: for each parcel its id, None (taken and dropped,
        as `whenFull: dropNewest` says), or why it is refused. Canceling it takes nothing back.
        """
        done: Storing = asyncio.get_running_loop().create_future()
        self.work(deposit(self.ways, self.outlet, document, parcels, done))
        return done

    def work(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._makers.add(task)
        task.add_done_callback(self._makers.discard)

    async def outlet(self, destination: str) -> Outlet:
        """The outlet for `document/service`, made where there is none yet. Raises Overloaded, StorageError."""
        outlet = self.outlets.get(destination)
        if outlet is not None:
            return outlet
        if self.store is None and not self._why_not and not self._stopped:
            if self._opening is None:
                self._opening = asyncio.create_task(self._open_on(), name="spool: opening")
            await asyncio.wait([self._opening], timeout=OPEN_S)
        if self.store is None:
            raise Overloaded(f"nothing can wait here: {self._why_not or 'no file'}", reason="spool_unavailable")
        if len(self.outlets) + len(self._making) >= MAX_OUTLETS:
            raise _too_many()
        return await self._outlet(self.store, destination)

    async def _make(self, store: SpoolStore, destination: str) -> None:
        """The outlet for what is the first to wait for its service."""
        assert self._intake is not None
        try:
            outlet = await self._outlet(store, destination)
        except StorageError as error:
            for request, _ in self._making.pop(destination):
                self._intake.refused(request, ResponderGone(str(error), reason="spool_storage"))
            return
        for request, terms in self._making.pop(destination):
            if outlet.spec is None:  # its document has gone meanwhile
                self._intake.refused(request, Overloaded("nothing waits any more", reason="spool_unavailable"))
            else:
                outlet.keep(request, terms)

    async def _outlet(self, store: SpoolStore, destination: str) -> Outlet:
        document, _, target = destination.partition("/")
        spec = dict(self.ways.specs).get(document)
        rules = FOREIGN_RULES if document.startswith(FOREIGN) else SpoolRules() if spec is None else spec.rules
        spool = await store.spool(destination, rules)
        # It may have changed meanwhile.
        spec = dict(self.ways.specs).get(document)
        assert self._intake is not None
        if destination in self.outlets:  # somebody else has made it meanwhile
            return self.outlets[destination]
        outlet = self.outlets[destination] = Outlet(
            self._plane, self._intake, spool, document, target, spec, self._crossing
        )
        self._watch.begin(outlet)
        return outlet

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
            new_uplink = self._has_new_uplink()
            for outlet in list(self.outlets.values()):
                if new_uplink and outlet.spool.messages:
                    outlet.wake()
                else:
                    outlet.look()
            self._watch.look(self.outlets)

    def _has_new_uplink(self) -> bool:
        """Whether there is somebody whom nobody has asked yet for what waits."""
        before = self._uplink
        self._uplink = None if self._federation is None else self._federation.uplink
        return self._uplink is not None and self._uplink is not before

    # What an operator sees and does

    def spools(self) -> dict[str, Spool]:
        """By name, `document/service`."""
        return {name: outlet.spool for name, outlet in sorted(self.outlets.items())}

    def destinations(self, address: Address, interaction: str) -> Iterator[str]:
        """Under which names requests for an address would wait; those of no kind that waits, nowhere."""
        kinds = {str(kind): kind for kind in Interaction}
        return self.ways.destinations(address, kinds[interaction]) if interaction in kinds else iter(())

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
            asked = self.ways.asked(envelope.metadata)
            route = asked.route or asked.name
        except (FrameError, RequestError):
            route = ""
        interaction = "fireAndForget" if envelope.interaction == REQUEST_FNF else "requestResponse"
        return Opened(envelope.principal.subject, interaction, route, envelope.data)

    def figures(self) -> list[SpoolFigures]:
        """By document: what is counted has no device's name in it."""
        found: dict[str, list[Outlet]] = {}
        for outlet in self.outlets.values():
            found.setdefault(outlet.document, []).append(outlet)
        return [
            SpoolFigures.of(document, [outlet.spool.status() for outlet in outlets])._replace(
                handed_over=sum(outlet.beyond.handed for outlet in outlets),
                came_again=sum(outlet.spool.came_again for outlet in outlets),
            )
            for document, outlets in found.items()
        ]


def _too_many() -> Overloaded:
    return Overloaded(f"messages wait for {MAX_OUTLETS} services already", reason="too_many_spools")


def _concerns(target: str, name: str) -> bool:
    """Whether who bears a name may serve what waits for a target: itself, what it is a part of, a part of it."""
    if not name:
        return False
    longer, shorter = (target, name) if len(target) > len(name) else (name, target)
    return longer == shorter or (longer.startswith(shorter) and longer[len(shorter)] in "./")
