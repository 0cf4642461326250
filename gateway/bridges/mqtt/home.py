"""Devices as Home Assistant knows them: announced for as long as they are registered or here, with their availability.

A registered device is announced whether it is here or not, so that what an earlier run has left retained is put right;
one that only its token speaks of, while it is here. Whose record goes is forgotten there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway import __version__
from gateway.bridges.mqtt import discovery
from gateway.bridges.mqtt.message import Message
from gateway.errors import BridgeError
from gateway.policy.principal import Kind, Principal
from gateway.topics.patterns import Template

if TYPE_CHECKING:
    from gateway.documents.bridge import Bridge as Spec
    from gateway.forwarding.plane import Plane
    from gateway.observe.bridges import BridgeCounters
    from gateway.policy.access_list import AccessList

#: Devices that are told of.
MAX_DEVICES: Final = 100_000


class _Told(NamedTuple):
    labels: Mapping[str, str]
    online: bool
    registered: bool


class Home:
    """`status`: where Home Assistant says that it is there, or ""."""

    def __init__(
        self,
        spec: Spec,
        plane: Plane,
        here: Callable[[str], Principal | None],
        publish: Callable[[Message], None],
        counters: BridgeCounters,
    ) -> None:
        """`here`: the device of this name that is connected to this node."""
        home = spec.home_assistant
        self.status = "" if home is None else home.status
        self._topics = None
        if home is not None:
            # Below $SYS many brokers let nobody write: there it would never be there.
            bridge = spec.state_topic if spec.presence.topic is not None else None
            filled = (Template(home.state), Template(home.command), Template(home.availability))
            self._topics = discovery.Topics(home.prefix, *filled, bridge)
        self._plane = plane
        self._here = here
        self._publish = publish
        self._counters = counters
        self._told: dict[str, _Told] = {}
        self._access: AccessList | None = None

    def connected(self) -> None:
        """Tell all of it."""
        self._told.clear()
        self._access = None
        self.look_again()

    def look_again(self) -> None:
        """See to the records that have changed, if any has."""
        access = self._plane.snapshot.access
        if self._topics is None or access is self._access:
            return
        before, self._access = self._access, access
        subjects = {
            subject
            for subject, record in access.devices.items()
            if discovery.is_announced(dict(record.labels)) and (before is None or before.devices.get(subject) != record)
        }
        subjects |= {subject for subject in self._told if subject not in access.devices}
        if before is None:
            subjects |= {route.subject for route in self._plane.table if route.subject}
        for subject in subjects:
            self.look(subject)

    def look(self, subject: str) -> None:
        """Tell what has changed of a device."""
        if self._topics is None:
            return
        now, before = self._now(subject), self._told.get(subject)
        if now == before or (before is None and len(self._told) >= MAX_DEVICES):
            return
        if now is None:
            del self._told[subject]
        else:
            self._told[subject] = now
        try:
            for message in self._changes(self._topics, subject, before, now):
                self._publish(message)
        except BridgeError as error:
            self._counters.dropped[error.reason] += 1

    def _now(self, subject: str) -> _Told | None:
        record = self._plane.snapshot.access.devices.get(subject)
        if record is not None and record.kind is Kind.DEVICE:
            online = bool(self._plane.table.routes_of_subject(subject))
            told = _Told(dict(record.labels), online, True)
        else:
            device = self._here(subject)
            if device is None:
                return None
            told = _Told(dict(device.labels), True, False)
        return told if discovery.is_announced(told.labels) else None

    @staticmethod
    def _changes(
        topics: discovery.Topics, subject: str, before: _Told | None, now: _Told | None
    ) -> tuple[Message, ...]:
        """Raises BridgeError."""
        if now is None:
            assert before is not None
            if before.registered:
                return discovery.removals(subject, before.labels, topics)
            return (discovery.availability(subject, topics, online=False),)
        if before is not None and before.labels == now.labels:
            return (discovery.availability(subject, topics, online=now.online),)
        old = {} if before is None else before.labels
        return discovery.changes(subject, old, now.labels, topics, online=now.online, version=__version__)

    def take(self, message: Message) -> bool:
        """Whether a message is Home Assistant's: when it comes back it has to be told again."""
        if not self.status or message.topic != self.status:
            return False
        if message.payload == discovery.ONLINE:
            self.connected()
        return True

    def leave(self) -> None:
        """The bridge goes: nobody is there by it."""
        if self._topics is None:
            return
        for subject, told in self._told.items():
            if told.online:
                try:
                    self._publish(discovery.availability(subject, self._topics, online=False))
                except BridgeError as error:
                    self._counters.dropped[error.reason] += 1
        self._told.clear()
