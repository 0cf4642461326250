"""Who is there, as MQTT shows it: the bridge itself, and the devices of this node, as retained messages.

The bridge says `1` at its state topic, the broker says `0` for it when it goes without a word. It says so again when
nothing has been acknowledged for a keepalive interval: the broker's PUBACK is what health is judged by. Devices are
shown where the document says, to Home Assistant (`home`), and as the deaths of nodes of Sparkplug (`sparkplug.Lives`).

Mosquitto's bridges say it below `$SYS`, where amqtt and aedes, among others, hang up on whoever publishes. MQTT 3.1.1
has no other word for a refusal, so whom that happens to twice says nothing there any more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.bridges.mqtt.discovery import OFFLINE, ONLINE
from gateway.bridges.mqtt.figures import EVERY_S, Figures
from gateway.bridges.mqtt.home import MAX_DEVICES, Home
from gateway.bridges.mqtt.message import Message, Properties
from gateway.errors import BridgeError, RequestError
from gateway.forwarding.links import LOCAL
from gateway.forwarding.plane import INTERNAL
from gateway.policy.principal import Kind, Principal
from gateway.topics.patterns import Template

if TYPE_CHECKING:
    from gateway.bridges.mqtt.client import Client
    from gateway.bridges.mqtt.sparkplug import Lives
    from gateway.documents.bridge import Bridge as Spec
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane
    from gateway.observe.bridges import BridgeCounters
    from gateway.routing.route import Route

HERE, GONE = b"1", b"0"
#: How long a device may be away before that is said, in seconds: who registers anew is gone for a moment.
SETTLE_S: Final = 0.05
#: A connection that ends so soon behind the first word below `$`, in seconds, and how many such in a row are an answer.
HUNG_UP_S: Final = 2.0
HUNG_UP: Final = 2
#: How a broker's doing ends a connection.
_BROKERS_DOING: Final = frozenset({"mqtt_lost", "mqtt_disconnected", "mqtt_not_authorized", "mqtt_malformed"})
#: How often it is looked whether records of devices have changed, in seconds.
LOOK_S: Final = 1.0


def will_of(spec: Spec) -> Message | None:
    """What the broker says when the bridge goes without a word."""
    return None if spec.state_topic is None else Message(spec.state_topic, GONE, 1, True)


class Presence:
    """Of one bridge and the devices of its node. `why`: what it does not say, empty where it says all."""

    def __init__(self, spec: Spec, plane: Plane, client: Client, lives: Lives | None, counters: BridgeCounters) -> None:
        """`lives`: of the nodes of Sparkplug that are born through this bridge, where it is aware of them."""
        self._spec = spec
        self._plane = plane
        self._client = client
        self._lives = lives
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        devices = spec.presence.devices
        self._devices = None if devices is None else Template(devices)
        self._home = Home(spec, plane, self._here, self._publish, counters)
        sys = spec.presence.sys
        self._figures = None if sys is None else Figures(sys.rstrip("/"), plane, counters, self._publish)
        self._tells = self._devices is not None or spec.home_assistant is not None or lives is not None
        self._shown: set[str] = set()
        self._dirty: set[str] = set()
        self._settling: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._up = False
        self._up_at = 0.0
        self._hung_up = 0
        self.why = ""

    @property
    def filters(self) -> tuple[tuple[str, int], ...]:
        """What the bridge has to subscribe to for it, with which QoS."""
        return ((self._home.status, 1),) if self._home.status else ()

    # The bridge

    def connected(self) -> None:
        self._up = True
        self._up_at = self._plane.monotonic()
        self._shown.clear()
        self._beat()
        if self._devices is not None:
            for route in list(self._plane.table):
                if route.subject:
                    self._show(route.subject)
        self._home.connected()
        if self._home.status:
            self._look()
        if self._figures is not None:
            self._figures.connected()
            self._tell(self._figures)

    def disconnected(self, reason: str) -> None:
        """`reason`: of the error that ended the connection."""
        if self._up:
            self._judge(reason)
        self._up = False
        for timer in (self._beating, self._settling, self._looking, self._telling):
            if timer is not None:
                timer.cancel()
        self._settling = None

    def leave(self) -> None:
        """The bridge goes: say so itself, because after a goodbye the broker does not."""
        if self._up:
            for subject in list(self._shown):
                self._say(subject, here=False)
            self._home.leave()
            self._bury(None)
            if self._spec.state_topic is not None and not self.why:
                self._publish(Message(self._spec.state_topic, GONE, 0, True))
        self.disconnected("mqtt_stopped")

    def _judge(self, reason: str) -> None:
        """Whether the broker hangs up because of the state topic."""
        topic = self._spec.state_topic
        if topic is None or not topic.startswith("$"):
            return
        soon = reason in _BROKERS_DOING and self._plane.monotonic() - self._up_at < HUNG_UP_S
        if self.why:
            # Silence has not helped: it is something else.
            self.why, self._hung_up = ("", 0) if soon else (self.why, self._hung_up)
            return
        self._hung_up = self._hung_up + 1 if soon else 0
        if self._hung_up >= HUNG_UP:
            self.why = f"the broker hangs up on who publishes to {topic}; name another presence.topic"
            self._client.forget(topic)

    def _beat(self) -> None:
        topic, interval = self._spec.state_topic, self._spec.mqtt.keepalive
        if topic is None or not self._up or self.why:
            return
        at = self._client.acknowledged_at
        if at is None or self._client.beat_at is None or self._plane.monotonic() - at > interval / 2:
            self._client.beat_at = self._plane.monotonic()
            self._publish(Message(topic, HERE, 1, True))
        self._beating = self._loop.call_later(interval / 2, self._beat)

    def _look(self) -> None:
        self._home.look_again()
        self._looking = self._loop.call_later(LOOK_S, self._look)

    def _tell(self, figures: Figures) -> None:
        figures.tell()
        self._telling = self._loop.call_later(EVERY_S, self._tell, figures)

    # Devices

    def heard(self, route: Route) -> None:
        """A route of the table came or went."""
        if not self._up or not self._tells or not route.subject:
            return
        self._dirty.add(route.subject)
        if self._settling is None:
            self._settling = self._loop.call_later(SETTLE_S, self._settle)

    def _settle(self) -> None:
        self._settling = None
        dirty, self._dirty = self._dirty, set()
        for subject in dirty:
            self._show(subject)
            self._home.look(subject)
            if not self._plane.table.routes_of_subject(subject):
                self._bury(subject)

    def _here(self, subject: str) -> Principal | None:
        """The device of this name that is connected to this node."""
        for route in self._plane.table.routes_of_subject(subject):
            owner: Connection = route.owner  # type: ignore[assignment]
            if owner.side == LOCAL and owner.kind != INTERNAL and owner.principal.kind is Kind.DEVICE:
                return owner.principal
        return None

    def _show(self, subject: str) -> None:
        here = self._here(subject) is not None
        if here != (subject in self._shown):
            self._say(subject, here=here)

    def _say(self, subject: str, *, here: bool) -> None:
        if self._devices is None or (here and len(self._shown) >= MAX_DEVICES):
            return
        (self._shown.add if here else self._shown.discard)(subject)
        try:
            self._publish(_state(self._devices, subject, here))
        except BridgeError as error:
            self._counters.dropped[error.reason] += 1

    def _bury(self, subject: str | None) -> None:
        """Nodes of Sparkplug whose device has gone are dead; None: all of them, as far as anybody here can tell."""
        for death in () if self._lives is None else self._lives.ended(subject, self._plane.wall()):
            self._publish(death)

    def take(self, message: Message) -> bool:
        """Whether a message is Home Assistant's."""
        return self._home.take(message)

    def _publish(self, message: Message) -> None:
        try:
            self._client.publish(message)
        except RequestError as error:
            self._counters.dropped[error.reason] += 1


def _state(template: Template, subject: str, online: bool) -> Message:
    """Raises BridgeError when the name is no level of a topic."""
    if any(character in subject for character in "/+#\0"):
        raise BridgeError(f"{subject!a} is no level of a topic", reason="mqtt_discovery")
    payload = ONLINE if online else OFFLINE
    return Message(template.fill({"sub": subject}), payload, 1, True, False, Properties(text=True))
