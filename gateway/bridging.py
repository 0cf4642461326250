"""The bridges of a node: one for each `Bridge` document that stands, made, changed and ended with it.

Between the two planes and the sockets, like `linking`; known by the node alone. What bridges are made of is loaded with
the first of them: a node without pays nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.config import Config
from gateway.documents.model import Document
from gateway.errors import BridgeError, TokenError
from gateway.observe.bridges import BridgeCounters, BridgeState, BridgeStatus, BridgeTest
from gateway.observe.loggers import structlog
from gateway.spooling.deposit import Parcel
from gateway.topics.subscriptions import Subscriptions

if TYPE_CHECKING:
    from gateway.bridges.mqtt.bridge import Bridge, House
    from gateway.bridges.mqtt.inbound import Parcel as Stowed
    from gateway.bridges.mqtt.inbound import Store, Stored
    from gateway.bridges.mqtt.session import Dial
    from gateway.control.identity import Identity
    from gateway.control.plane import ControlPlane
    from gateway.documents.bridge import Bridge as Spec
    from gateway.forwarding.plane import Plane
    from gateway.spooling.depot import Depot

#: Below the node's data.
DIRECTORY = "mqtt"
#: How often alarms are looked at, and what a bridge that could not be made is tried again after, in seconds.
LOOK_S = 1.0
#: How long a bridge may be without its broker before that is an alarm, in seconds.
AWAY_S = 10.0


class _Place:
    """What is known of one document: the bridge while it runs, its counters for as long as the node does."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.counters = BridgeCounters()
        self.bridge: Bridge | None = None
        self.stopped = False
        self.failure = ""
        self.away_since: float | None = None


class Bridging:
    """`statuses`, `start`, `stop`, `restart`, `test`: what the admin API asks."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("gateway.bridging")
        self._places: dict[str, _Place] = {}
        self._house: House | None = None
        self._identity: Identity
        self._control: ControlPlane
        self._plane: Plane
        self._config: Config
        self._depot: Callable[[], Depot | None]
        self._changes: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._looking: asyncio.TimerHandle | None = None
        self._closing = False

    def open(
        self,
        config: Config,
        plane: Plane,
        identity: Identity,
        control: ControlPlane,
        depot: Callable[[], Depot | None],
    ) -> None:
        """The listeners are open: act by the documents, from now on."""
        self._config, self._plane, self._identity, self._control = config, plane, identity, control
        self._depot = depot
        control.documents.subscribe("Bridge", self._govern)

    async def close(self) -> None:
        """Every bridge says goodbye to its broker."""
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
        if self._changes is not None:
            self._changes.cancel()
            await asyncio.gather(self._changes, return_exceptions=True)
        bridges = [place.bridge for place in self._places.values() if place.bridge is not None]
        await asyncio.gather(*(bridge.stop() for bridge in bridges))
        for place in self._places.values():
            place.bridge = None

    # Documents

    def _govern(self, documents: tuple[Document, ...]) -> None:
        wanted: dict[str, Spec] = {document.name: document.spec for document in documents}
        for name in list(self._places):
            if name not in wanted:
                self._places[name].stopped = True
        for name, spec in wanted.items():
            place = self._places.get(name)
            if place is None:
                self._places[name] = _Place(spec)
            elif place.spec != spec:
                place.spec, place.stopped = spec, False
        self._wanted = frozenset(wanted)
        self._change()

    def _change(self) -> None:
        if self._closing:
            return
        if self._places and self._changes is None:
            self._changes = asyncio.get_running_loop().create_task(self._change_on(), name="bridges")
            self._look()
        self._changed.set()

    async def _change_on(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            for name, place in list(self._places.items()):
                await self._settle(name, place)

    async def _settle(self, name: str, place: _Place) -> None:
        """Have the bridge be as its document says."""
        runs = name in self._wanted and place.spec.enabled and not place.stopped
        bridge = place.bridge
        if bridge is not None and (not runs or bridge.spec != place.spec):
            place.bridge = None
            await bridge.stop()
            self._log.info("bridge stopped", bridge=name)
        if name not in self._wanted:
            del self._places[name]
            self._control.calm(_slug(name))
        elif runs and place.bridge is None:
            self._make(place)

    def _make(self, place: _Place) -> None:
        from gateway.bridges.mqtt.bridge import Bridge, House

        spec = place.spec
        if self._house is None:
            self._house = House(
                self._plane, self._config.node.data / DIRECTORY, self._identity.node_id, self._plane.random, self._store
            )
        try:
            place.bridge = Bridge(spec, self._house, partial(self._dial, spec), place.counters)
        except BridgeError as error:
            place.failure = str(error)
            self._control.raise_alarm(_slug(spec.name), f"bridge {spec.name}: {error}")
            return
        place.failure = ""
        place.bridge.start()
        self._log.info("bridge started", bridge=spec.name, address=spec.mqtt.address[0])

    def _store(self) -> Store | None:
        depot = self._depot()
        return None if depot is None else _Shelf(depot)

    def _dial(self, spec: Spec) -> Dial:
        """In a thread. Raises BridgeError."""
        from gateway.bridges.mqtt.credentials import dial_of
        from gateway.bridges.mqtt.presence import will_of

        return dial_of(spec, partial(self._sign, spec), time.time(), will_of(spec))

    def _sign(self, spec: Spec, audience: str, ttl_s: float) -> str:
        try:
            return self._identity.mint(spec.client_id, "service", (), (), ttl_s, time.time(), audience=audience)
        except TokenError as error:
            raise BridgeError(f"token: {error}", reason="mqtt_credentials") from error

    # What goes on by itself

    def _look(self) -> None:
        if self._closing:
            return
        self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        now = self._plane.monotonic()
        for name, place in self._places.items():
            if place.bridge is None:
                if place.failure and not place.stopped:
                    self._changed.set()
                continue
            status = place.bridge.status()
            if status.state is BridgeState.CONNECTED and not status.reason:
                place.away_since = None
                self._control.calm(_slug(name))
            elif place.away_since is None:
                place.away_since = now
            elif now - place.away_since > AWAY_S and status.reason:
                self._control.raise_alarm(_slug(name), f"bridge {name}: {status.reason}")

    # What the admin API asks

    def statuses(self) -> Sequence[BridgeStatus]:
        return [self._status(place) for _, place in sorted(self._places.items())]

    def _status(self, place: _Place) -> BridgeStatus:
        if place.bridge is not None:
            return place.bridge.status()
        spec = place.spec
        state = BridgeState.STOPPED if place.stopped else BridgeState.DISABLED
        if spec.enabled and not place.stopped:
            state = BridgeState.FAILED if place.failure else BridgeState.CONNECTING
        return BridgeStatus(
            spec.name,
            state,
            place.counters,
            service=spec.service,
            client_id=spec.client_id,
            address=str(spec.mqtt.endpoints[0]),
            version=spec.mqtt.version,
            reason=place.failure,
        )

    def start(self, name: str) -> None:
        """Raises KeyError."""
        self._places[name].stopped = False
        self._change()

    def stop(self, name: str) -> None:
        """Until the document changes or the node starts again. Raises KeyError."""
        self._places[name].stopped = True
        self._change()

    async def restart(self, name: str) -> None:
        """Raises KeyError."""
        place = self._places[name]
        bridge, place.bridge, place.stopped = place.bridge, None, False
        if bridge is not None:
            await bridge.stop()
        self._change()

    async def test(self, spec: Spec) -> BridgeTest:
        """Connect as this document says, under a client id of its own, and go."""
        from gateway.bridges.mqtt.session import Filter, PacketIds, Session

        began = self._plane.monotonic()
        where = spec.mqtt.endpoints[0]
        wanted = Subscriptions(spec.rules.filters, identifiers=False)
        filters = [Filter(each.topic, each.qos, retained=2) for each in wanted.asked]
        session: Any = None
        try:
            dial = await asyncio.get_running_loop().run_in_executor(None, self._dial, spec)
            dial = replace(dial, client_id=f"{dial.client_id}-test", clean_start=True, session_expiry_s=0, will=None)
            error = None
            for where in spec.mqtt.endpoints:
                try:
                    session = await Session.connect(dial, where, PacketIds(), lambda a: None, lambda kind, a: None)
                    break
                except BridgeError as failure:
                    error = failure
            if session is None:
                assert error is not None
                raise error
            codes = await session.subscribe(filters)
        except BridgeError as error:
            return BridgeTest(False, str(where), str(error), took_s=self._plane.monotonic() - began)
        finally:
            if session is not None:
                session.disconnect()
        limits = session.limits
        refused = tuple(each.topic for each, code in zip(filters, codes, strict=True) if code >= 0x80)
        return BridgeTest(
            True,
            str(where),
            "",
            session.present,
            limits.maximum_qos,
            limits.retain,
            limits.receive_maximum,
            self._plane.monotonic() - began,
            refused,
        )


class _Shelf:
    """The depot, as bridges know it."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot

    def put(self, document: str, parcels: Sequence[Stowed]) -> asyncio.Future[Stored]:
        return self._depot.put(document, [Parcel(*each) for each in parcels])


def _slug(name: str) -> str:
    return f"mqtt_{name}"
