"""The shared table of a central: what it knows of all others, and what it tells them of its own edges.

One loop owns it. What is not a coroutine does no I/O. Look-ups answer for own edges from what they told this central,
so that they count at once and without an engine; for all others from the view.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random

from gateway.errors import FederationError
from gateway.federation.table import names
from gateway.federation.table.books import Claim
from gateway.federation.table.following import Following
from gateway.federation.table.hosting import Hosting
from gateway.federation.table.lease import Fenced, Lease
from gateway.federation.table.places import NodeState, Offered, Place
from gateway.federation.table.records import NodeRecord, Offer
from gateway.federation.table.store import Change, RouteStore, Watch
from gateway.federation.table.view import TableView, Touched

TICK_S = 0.25
#: How long a start waits for the engine; then it goes on without.
START_S = 5.0


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Who this central is. `url`: where other centrals reach it."""

    name: str
    url: str = ""
    zone: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class TableStatus:
    """`why` is empty while the engine is followed; `dirty` keys wait to be written."""

    fresh: bool
    why: str
    epoch: int
    devices: int
    edges: int
    nodes: int
    dirty: int
    owned: int
    revision: int
    invalid: int
    counts: Mapping[str, int]


Listener = Callable[[Touched], None]


class SharedTable:
    """`start`, then `stop`. Callbacks are called on the loop, and must not raise."""

    def __init__(
        self,
        store: RouteStore,
        options: TableOptions,
        *,
        on_fenced: Callable[[str], None] = lambda text: None,
        on_displaced: Callable[[str], None] = lambda edge: None,
        on_lost: Callable[[str, str, int], None] = lambda edge, device, stamp: None,
        alarm: Callable[[str, str], None] = lambda slug, text: None,
        calm: Callable[[str], None] = lambda slug: None,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random: Random | None = None,
    ) -> None:
        self.name = options.name
        self.options = options
        self.view = TableView()
        self.following = Following(self.view, options.name)
        self.lease = Lease(store, options.name, self._record, wall_ms, random)
        self.fenced = False
        self._hosting = Hosting(
            options.name,
            store,
            self.view,
            self.lease,
            on_displaced=on_displaced,
            on_lost=on_lost,
            touched=self._touched,
            clock=clock,
            wall_ms=wall_ms,
            random=random,
        )
        self.books = self._hosting.books
        self.owned = self._hosting.owned
        self._writer = self._hosting.writer
        self._store = store
        self._on_fenced = on_fenced
        self._alarm = alarm
        self._calm = calm
        self._clock = clock
        self._own_changes = 0
        self._listeners: tuple[Listener, ...] = ()
        self._telling: asyncio.Handle | None = None
        self._was_fresh: bool | None = None
        self._usable = asyncio.Event()
        self._watch: Watch | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when the table is followed and the lease taken, or after a few seconds without.

        Raises:
            FederationError: the engine can never work as it is set.
        """
        await self._store.start()
        self._watch = self._store.watch((names.NODE, names.EDGE, names.SERVICES, names.DEVICES), self)
        self._hosting.open_own()
        self._tasks = [
            asyncio.create_task(self._standing(self._hold), name="table: lease"),
            asyncio.create_task(self._standing(self._writer.run), name="table: writer"),
            asyncio.create_task(self._standing(self._tick), name="table: deadlines"),
        ]
        try:
            async with asyncio.timeout(START_S):
                await self._usable.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """Says good-bye to the others, where that is possible."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._watch is not None:
            await self._watch.stop()
        if self._telling is not None:
            self._telling.cancel()
        if not self.fenced:
            with contextlib.suppress(FederationError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.lease.release()
        await self._store.stop()

    # What the edges of this central say

    async def attach(self, edge: str, epoch: int = 0) -> int:
        """This central holds an edge's uplink from now on; returns the epoch of the edge's life.

        `epoch` 0 begins a new life; else it is what the edge was told before, here or elsewhere. Without an engine the
        answer is this central's own, and is written later.

        Raises:
            FederationError: a later life of that name is known (`edge_superseded`), it is a central's (`edge_name`), or
                this node is fenced (`fenced`).
        """
        if self.fenced:
            raise Fenced("another process has this node's name")
        return await self._hosting.attach(edge, epoch)

    def replace(self, edge: str, claims: Iterable[Claim], offers: Mapping[str, Offer]) -> None:
        """All that is behind an attached edge."""
        self._hosting.replace(edge, claims, offers)

    def join(self, edge: str, claim: Claim) -> None:
        self._hosting.join(edge, claim)

    def leave(self, edge: str, device: str) -> None:
        self._hosting.leave(edge, device)

    def offer(self, edge: str, offers: Mapping[str, Offer]) -> None:
        """All services of an attached edge."""
        self._hosting.offer(edge, offers)

    def detach(self, edge: str) -> None:
        """The uplink is gone. Another central that has the edge by now keeps it."""
        self._hosting.detach(edge)

    # Look-ups

    def device(self, name: str) -> Place | None:
        """Where a device is served: the latest claim of it that counts."""
        held = self.books.holder(name)
        if held is None:
            place = self.view.place(name)
            return None if place is None or self._left_over(place) else place
        book, claim = held
        rival = self.view.device(name, besides=book.edge)
        if rival is not None and rival[1][0] > claim.stamp and rival[0].name not in self.books.edges:
            place = rival[0].place()
            if place is not None and not self._left_over(place):
                return place
        return self._own_place(book.edge)

    def service(self, name: str) -> list[Offered]:
        """Every edge that offers a service; those of suspect centrals last."""
        own = [Offered(self._own_place(book.edge), book.offers[name]) for book in self.books.offering(name)]
        others = [
            offered
            for offered in self.view.service(name)
            if offered.place.edge not in self.books.edges and not self._left_over(offered.place)
        ]
        others.sort(key=lambda offered: offered.place.suspect)
        return own + others

    def edge(self, name: str) -> Place | None:
        """Who holds an edge."""
        if name in self.books.edges:
            return self._own_place(name)
        held = self.view.edges.get(name)
        place = None if held is None else held.place()
        return None if place is None or self._left_over(place) else place

    def nodes(self) -> list[NodeState]:
        """Every central that has, or had, a lease, but for this one."""
        return [node.state() for node in self.view.nodes.values() if node.record is not None and node.name != self.name]

    @property
    def generation(self) -> int:
        """What was found holds while this stands."""
        return self.view.generation + self._own_changes

    @property
    def fresh(self) -> bool:
        """Whether the engine is followed, end to end."""
        return self.following.fresh

    def status(self) -> TableStatus:
        following, view = self.following, self.view
        return TableStatus(
            fresh=following.fresh,
            why=following.why,
            epoch=self.lease.epoch,
            devices=len(view),
            edges=len(view.edges),
            nodes=sum(node.alive for node in view.nodes.values()),
            dirty=self.owned.dirty,
            owned=len(self.owned),
            revision=view.revision,
            invalid=view.invalid,
            counts=following.counts | self._writer.counts | {"refreshes": self.lease.refreshes},
        )

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` with what has changed, once for the changes of a loop turn; returns what ends it."""
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return unsubscribe

    # Direct evidence

    def link_up(self, node: str) -> None:
        self.following.link(node, True)
        self._turned()

    def link_down(self, node: str) -> None:
        """The link to a central broke: it is chosen last, until it has a link again or a new life."""
        self.following.link(node, False)
        self._turned()

    suspect = link_down

    # What the watch tells

    def snapshot_began(self, reset: bool) -> None:
        if reset:
            self.owned.restarted()
        self.following.snapshot_began(reset, self._clock())

    def changed(self, change: Change) -> None:
        now = self._clock()
        if change.key == self.lease.key:
            self.lease.told(change)
        elif change.key in self.owned:
            if change.value and change.key.startswith(f"{names.EDGE}.") and self._hosting.taken_over(change):
                self._hosting.displaced(names.parse(change.key).name)
            elif self.owned.told(change.key, None if not change.value else hash(change.value), change.revision, now):
                self._writer.wake()
        if self.following.changed(change, now):
            self._turned()
        elif not self._usable.is_set():
            self._look()

    def snapshot_ended(self) -> None:
        now = self._clock()
        missing = set(self.following.snapshot_ended(now))
        if self.lease.key in missing or (self.lease.epoch and not self.view.holds(self.lease.key)):
            self.lease.missing()
        for key in self.owned.keys_now():
            if key in missing or not self.view.holds(key):
                self.owned.missing(key, now)
        self._writer.wake()
        self._turned()
        self._look()

    def heard(self) -> None:
        self.following.heard(self._clock())

    def interrupted(self, why: str) -> None:
        self.following.interrupted(why, self._clock())
        self._look()

    # Inside

    def _record(self, epoch: int) -> NodeRecord:
        options = self.options
        return NodeRecord(epoch, options.url, options.zone, options.version, len(self.owned))

    def _own_place(self, edge: str) -> Place:
        return Place(edge, self.name, self.options.url, False)

    def _left_over(self, place: Place) -> bool:
        """The engine still says that this central has an edge, which it has not."""
        return place.node == self.name and place.edge not in self.books.edges

    def _touched(self, devices: Iterable[str], services: Iterable[str], edges: Iterable[str]) -> None:
        """What own edges have said is told as what others have."""
        touched = self.view.touched
        touched.named(list(devices))
        touched.services.update(services)
        touched.edges.update(edges)
        self._own_changes += 1
        self._turned()

    def _turned(self) -> None:
        if self._telling is None and self.view.touched:
            self._telling = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = None
        touched, self.view.touched = self.view.touched, Touched()
        wide = touched.everything or touched.edges or touched.nodes
        for device in self.view.contested if wide else touched.devices:
            self._hosting.contend(device)
        for listener in self._listeners:
            listener(touched)
        self._look()

    def _look(self) -> None:
        """Notices whether the table is followed."""
        fresh = self.following.fresh
        if fresh and self.lease.epoch:
            self._usable.set()
        if fresh != self._was_fresh:
            before, self._was_fresh = self._was_fresh, fresh
            if fresh:
                self._calm("table_stale")
            elif before is not None:
                self._alarm("table_stale", f"the shared table is not followed: {self.following.why}; routes stay")

    async def _standing(self, task: Callable[[], Awaitable[None]]) -> None:
        """Whatever happens to it, a task of the table goes on: what a bug stops must not freeze what others see."""
        while True:
            try:
                await task()
                return
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a task of the shared table failed, and is begun again", "exception": error}
                )
                await asyncio.sleep(1.0)

    async def _hold(self) -> None:
        try:
            await self.lease.run()
        except Fenced as error:
            self.fenced = True
            self._writer.stop()
            self._alarm("fenced", error.text)
            self._on_fenced(error.text)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.following.tick(self._clock())
            self._turned()
            self._look()
