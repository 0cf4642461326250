"""Messages of QoS 1 and 2 on their way to the broker: no more than its Receive Maximum at a time, the rest in line.

What is on its way when a connection breaks is sent again in the same session, marked as a duplicate (MQTT 5.0, 4.4), a
few times: there are brokers that hang up on a message that they do not want.

Identifiers of QoS 2 that are not released outlive this process in a file: in the same session a broker would take a new
message under one of them for the old one and drop it.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.mapped import mapped
from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.packets import Acknowledged
from gateway.bridges.mqtt.session import PacketIds
from gateway.errors import Overloaded

#: What waits in line, at most; whoever wants more is refused.
MAX_WAITING: Final = 1024
MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
#: Connections that may break on one message before it is given up.
MAX_TRIES: Final = 4
#: In place of a reason code: nobody knows what became of it; it has not been sent.
LOST: Final = 0x100
UNSENT: Final = 0x101
_IDS: Final = 1 << 16

#: Told once: the broker's reason code, below 0x80 where it has taken the message; or LOST, or UNSENT.
Done = Callable[[int], None]


class Unreleased:
    """Identifiers of QoS 2 that the broker may hold: a byte each, in a file that is mapped."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises BridgeError."""
        return cls(mapped(path, _IDS))

    def add(self, number: int) -> None:
        self._memory[number] = 1

    def discard(self, number: int) -> None:
        self._memory[number] = 0

    def __contains__(self, number: int) -> bool:
        return self._memory[number] != 0

    def all(self) -> list[int]:
        found = []
        at = self._memory.find(b"\1")
        while at >= 0:
            found.append(at)
            at = self._memory.find(b"\1", at + 1)
        return found

    def clear(self) -> None:
        self._memory[:] = bytes(_IDS)

    def close(self) -> None:
        self._memory.close()


class _Sent:
    """`released`: the broker has it, and was told to forget the identifier. `tries`: connections it was sent on."""

    __slots__ = ("done", "message", "released", "tries")

    def __init__(self, message: Message, done: Done) -> None:
        self.message = message
        self.done = done
        self.released = False
        self.tries = 1


class Outgoing:
    """`in_flight`, `waiting`: how many. `send` writes a packet."""

    def __init__(self, version: int, unreleased: Unreleased) -> None:
        self.ids = PacketIds(self._in_use)
        self._version = version
        self._unreleased = unreleased
        self._send: Callable[[bytes], None] | None = None
        self._limit = 0
        self._sent: dict[int, _Sent] = {}
        self._waiting: deque[_Sent] = deque()
        self._waiting_bytes = 0

    @property
    def in_flight(self) -> int:
        return len(self._sent)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def _in_use(self, number: int) -> bool:
        return number in self._sent or number in self._unreleased

    def connected(self, send: Callable[[bytes], None], receive_maximum: int, *, present: bool) -> None:
        """A session stands; `present`: it is the one before."""
        self._send = send
        self._limit = receive_maximum
        if not present:
            self._unreleased.clear()
            self.give_up()
            return
        self._drop(lambda sent: not sent.released and sent.tries >= MAX_TRIES)
        for number in self._unreleased.all():
            if number not in self._sent:
                send(packets.encode_acknowledgement(packets.PUBREL, number, self._version))
        for number, sent in self._sent.items():
            if sent.released:
                send(packets.encode_acknowledgement(packets.PUBREL, number, self._version))
            else:
                sent.tries += 1
                send(packets.encode_publish(sent.message, number, self._version, duplicate=True))
        self._go_on()

    def lost(self) -> None:
        """The connection is over; what was sent may be sent again."""
        self._send = None
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        for each in waiting:
            each.done(UNSENT)

    def give_up(self) -> None:
        """Nobody waits any longer for what was on its way."""
        sent, self._sent = self._sent, {}
        for each in sent.values():
            each.done(LOST)

    def forget(self, topic: str) -> None:
        """Send nothing again that is for this topic."""
        self._drop(lambda sent: sent.message.topic == topic)

    def _drop(self, is_one: Callable[[_Sent], bool]) -> None:
        for number, sent in [each for each in self._sent.items() if is_one(each[1])]:
            del self._sent[number]
            sent.done(LOST)

    def publish(self, message: Message, done: Done) -> None:
        """Send, or stand in line. Raises Overloaded when the line is full or nobody is there, ValueError for a message
        that no packet can hold."""
        if self._send is None:
            raise Overloaded("the broker is not connected", reason="mqtt_not_connected")
        sent = _Sent(message, done)
        if len(self._sent) < self._limit and not self._waiting:
            self._put(sent)
            return
        size = len(message.payload)
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise Overloaded("too many messages wait for the broker", reason="mqtt_queue_full")
        self._waiting.append(sent)
        self._waiting_bytes += size

    def _put(self, sent: _Sent) -> None:
        assert self._send is not None
        number = self.ids.next()
        packet = packets.encode_publish(sent.message, number, self._version)
        self._sent[number] = sent
        if sent.message.qos == 2:
            self._unreleased.add(number)
        self._send(packet)

    def _go_on(self) -> None:
        while self._waiting and len(self._sent) < self._limit and self._send is not None:
            sent = self._waiting.popleft()
            self._waiting_bytes -= len(sent.message.payload)
            self._put(sent)

    def acknowledged(self, kind: int, answer: Acknowledged) -> bool:
        """PUBACK, PUBREC or PUBCOMP; whether it ended a message."""
        number, reason = answer
        sent = self._sent.get(number)
        if kind == packets.PUBREC and reason < packets.REFUSED:
            if sent is not None:
                sent.released = True
            self._release(number)
            return False
        if kind == packets.PUBREC or kind == packets.PUBCOMP:
            self._unreleased.discard(number)
        if sent is None or (kind == packets.PUBACK) != (sent.message.qos == 1):
            return False
        del self._sent[number]
        if kind == packets.PUBCOMP and reason == packets.UNKNOWN_ID:
            reason = 0  # it had been released before
        sent.done(reason)
        self._go_on()
        return reason < packets.REFUSED

    def _release(self, number: int) -> None:
        if self._send is not None:
            self._send(packets.encode_acknowledgement(packets.PUBREL, number, self._version))
