"""What a bridge knows of Sparkplug B (`sparkplug: aware`): who was born, and whether something of theirs is missing.

MQTT keeps the order of one topic only, so a will (NDEATH) can arrive behind the birth that came after it: it carries
the number of the session that it ends (`bdSeq`), and one of another session is dropped. Every message of a node but its
own birth and death goes on counting (`seq`, 0 to 255): where a number is missing the node is asked to be born again.
What waited in a spool is history by then: data goes out marked so, births and deaths not at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.sparkplug_payload import death, historical, number_of, rebirth, seq_of
from gateway.errors import FrameError
from gateway.policy.mqtt_filters import SEPARATOR, matches

__all__ = ["Births", "Kind", "Lives", "SparkplugTopic", "Verdict", "historical", "may_replay", "topic_of"]

NAMESPACE: Final = "spBv1.0"
#: Between two requests to one node to be born again, in seconds.
ASK_AGAIN_S: Final = 10.0
MAX_NODES: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
_NUMBERS: Final = 256


class Kind(StrEnum):
    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    NDATA = "NDATA"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    DDATA = "DDATA"
    DCMD = "DCMD"


_DATA: Final = frozenset({Kind.NDATA, Kind.DDATA})
_COMMANDS: Final = frozenset({Kind.NCMD, Kind.DCMD})


class SparkplugTopic(NamedTuple):
    """`spBv1.0/<group>/<kind>/<node>[/<device>]`"""

    group: str
    kind: Kind
    node: str
    device: str


class Verdict(NamedTuple):
    """`forward`: whether the message goes on. `rebirth`: a command to publish. `reason`: what is counted, or ""."""

    forward: bool
    rebirth: Message | None = None
    reason: str = ""


_GO_ON: Final = Verdict(True)


@dataclass(slots=True)
class _Node:
    """`session`: its bdSeq. `seq`: the number of its last message; None: not known."""

    session: int | None = None
    seq: int | None = None
    birth: Message | None = None
    devices: dict[str, Message] = field(default_factory=dict)
    asked_at: float = float("-inf")

    @property
    def bytes(self) -> int:
        births = (*self.devices.values(), *(() if self.birth is None else (self.birth,)))
        return sum(len(each.payload) + 2 * len(each.topic) + 300 for each in births)


def topic_of(topic: str) -> SparkplugTopic | None:
    """None for what is no message of a node or device."""
    levels = topic.split(SEPARATOR)
    if levels[0] != NAMESPACE or len(levels) not in (4, 5) or levels[2] not in Kind.__members__:
        return None
    kind = Kind(levels[2])
    if kind.startswith("D") != (len(levels) == 5):
        return None
    return SparkplugTopic(levels[1], kind, levels[3], levels[4] if len(levels) == 5 else "")


def may_replay(topic: str) -> bool:
    """Whether a message that has waited may still go out: what somebody was when it was sent says nothing of now."""
    found = topic_of(topic)
    return found is None or found.kind in _DATA or found.kind in _COMMANDS


class Births:
    """The births of the nodes and devices that are alive, for who comes late; `bytes` of them."""

    def __init__(self, max_nodes: int = MAX_NODES, max_bytes: int = MAX_BYTES) -> None:
        self.bytes = 0
        self.evicted = 0
        self._max_nodes = max_nodes
        self._max_bytes = max_bytes
        self._nodes: OrderedDict[tuple[str, str], _Node] = OrderedDict()

    def __len__(self) -> int:
        return len(self._nodes)

    def arrived(self, message: Message, now: float) -> Verdict:
        """What becomes of a message from the broker. `now`: Unix seconds."""
        topic = topic_of(message.topic)
        if topic is None or topic.kind in _COMMANDS:
            return _GO_ON
        key = (topic.group, topic.node)
        node = self._nodes.get(key)
        before = 0 if node is None else node.bytes
        if node is None:
            node = self._nodes[key] = _Node()
        self._nodes.move_to_end(key)
        try:
            return self._judge(node, topic, message, now)
        except FrameError:
            return Verdict(True, None, "sparkplug_malformed")
        finally:
            self.bytes += node.bytes - before
            self._make_room()

    def known(self, pattern: str) -> Iterator[Message]:
        """The births of who is alive, of the topics that a filter matches: a node's before those of its devices."""
        for node in self._nodes.values():
            for birth in (*(() if node.birth is None else (node.birth,)), *node.devices.values()):
                if matches(pattern, birth.topic):
                    yield birth

    def _judge(self, node: _Node, topic: SparkplugTopic, message: Message, now: float) -> Verdict:
        match topic.kind:
            case Kind.NBIRTH:
                seq, session = seq_of(message.payload), number_of(message.payload, "bdSeq")
                node.birth, node.seq, node.session = message, seq, session
                node.devices = {}
                return _GO_ON
            case Kind.NDEATH:
                ended = number_of(message.payload, "bdSeq")
                if node.birth is not None and None not in (ended, node.session) and ended != node.session:
                    return Verdict(False, None, "sparkplug_stale")
                node.birth, node.seq, node.devices = None, None, {}
                return _GO_ON
        verdict = self._count(node, topic, seq_of(message.payload), now)
        if topic.kind is Kind.DBIRTH:
            node.devices[topic.device] = message
        elif topic.kind is Kind.DDEATH:
            node.devices.pop(topic.device, None)
        return verdict

    @staticmethod
    def _count(node: _Node, topic: SparkplugTopic, seq: int | None, now: float) -> Verdict:
        expected = None if node.seq is None else (node.seq + 1) % _NUMBERS
        unborn = node.birth is None
        gap = seq is not None and expected is not None and seq != expected
        node.seq = seq if seq is not None else expected
        if not gap and not unborn:
            return _GO_ON
        reason = "sparkplug_unborn" if unborn else "sparkplug_gap"
        if now - node.asked_at < ASK_AGAIN_S:
            return Verdict(True, None, reason)
        node.asked_at = now
        command = f"{NAMESPACE}/{topic.group}/{Kind.NCMD}/{topic.node}"
        return Verdict(True, Message(command, rebirth(int(now * 1000)), qos=0), reason)

    def _make_room(self) -> None:
        while len(self._nodes) > self._max_nodes or (self.bytes > self._max_bytes and self._nodes):
            _, oldest = self._nodes.popitem(last=False)
            self.bytes -= oldest.bytes
            self.evicted += 1


class Lives:
    """Whose births went out: when a device of RSocket is gone the broker, which never knew it, tells nobody of it."""

    def __init__(self, max_nodes: int = MAX_NODES) -> None:
        self._max_nodes = max_nodes
        self._sessions: dict[str, dict[str, int]] = {}
        self._count = 0

    def went(self, topic: str, payload: bytes, subject: str) -> None:
        """A message of `subject` goes out."""
        found = topic_of(topic)
        if found is None or found.device or not subject or found.kind not in (Kind.NBIRTH, Kind.NDEATH):
            return
        grave = f"{NAMESPACE}/{found.group}/{Kind.NDEATH}/{found.node}"
        sessions = self._sessions.get(subject, {})
        if found.kind is Kind.NDEATH:
            self._count -= sessions.pop(grave, None) is not None
            return
        try:
            session = number_of(payload, "bdSeq")
        except FrameError:
            return
        if session is None or (grave not in sessions and self._count >= self._max_nodes):
            return
        self._count += grave not in sessions
        self._sessions.setdefault(subject, {})[grave] = session

    def ended(self, subject: str | None, now: float) -> list[Message]:
        """The deaths of those that `subject` has given birth to; None: everybody. `now`: Unix seconds."""
        subjects = list(self._sessions) if subject is None else [subject]
        lives = [each for one in subjects for each in self._sessions.pop(one, {}).items()]
        self._count -= len(lives)
        return [Message(grave, death(int(now * 1000), session), qos=1) for grave, session in lives]
