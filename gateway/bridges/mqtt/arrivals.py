"""Which messages have come, and what became of them: a record for each packet identifier, in a file that outlives us.

Under QoS 1 and 2 a broker sends again, marked as a duplicate, what it has no acknowledgement for. The record of its
identifier says whether it was done with, and under which serial number it went on: a duplicate is acknowledged and goes
nowhere, or goes on under its old number, by which whoever gets it can tell. MQTT 5.0, 4.3 and 4.4.

The file is memory that is mapped: a record costs a store, and is there after a kill. A power cut may take the last
seconds; then a duplicate goes on under a new number. A record holds for a duplicate only where the messages agree, and
only in the last `WINDOW` arrivals: identifiers come round again.
"""

from __future__ import annotations

import mmap
import secrets
import struct
import zlib
from pathlib import Path
from typing import Final, Self

from gateway.bridges.mqtt.mapped import mapped
from gateway.bridges.mqtt.message import Message

#: Serial, CRC-32 of topic and payload, state. Record 0 is the head: the last serial, the file's own number, version.
_RECORD: Final = struct.Struct("<QII")
_RECORDS: Final = 1 << 16
_SIZE: Final = _RECORD.size * _RECORDS
_VERSION: Final = 1
#: A broker has no more than its Receive Maximum on the way; what is older than this is another message.
WINDOW: Final = 4096

FREE: Final = 0
COMING: Final = 1
DONE: Final = 2


class Arrivals:
    """`open` it; `close` it. One process has the file."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._last, self._number, version = _RECORD.unpack_from(memory, 0)
        if version != _VERSION:
            self.forget()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Make the file on first use. Raises BridgeError."""
        return cls(mapped(path, _SIZE))

    def forget(self) -> None:
        """The broker has a new session: none of it comes again."""
        self._memory[:] = bytes(_SIZE)
        self._last, self._number = 0, secrets.randbits(32)
        self._note_head()

    def arrive(self, packet_id: int, message: Message) -> tuple[str, bool]:
        """The number under which a message goes on, and whether it has been done with before."""
        at = packet_id * _RECORD.size
        crc = zlib.crc32(message.payload, zlib.crc32(message.topic.encode()))
        serial, before, state = _RECORD.unpack_from(self._memory, at)
        if state and before == crc and self._comes_again(state, serial, message):
            return self._id(serial), state == DONE
        self._last += 1
        _RECORD.pack_into(self._memory, at, self._last, crc, COMING)
        self._note_head()
        return self._id(self._last), False

    def _comes_again(self, state: int, serial: int, message: Message) -> bool:
        """Whether it is the message that its identifier stood for, and no new one that looks the same."""
        if state == COMING or message.qos == 2:
            # The broker cannot have been told to let go of the identifier. aedes marks nothing as a duplicate.
            return True
        # Of QoS 1: whether the broker has seen its acknowledgement only the broker can say.
        return message.duplicate and self._last - serial < WINDOW

    def released(self, packet_id: int) -> None:
        """PUBREL has come: under this identifier a new message comes next."""
        at = packet_id * _RECORD.size
        serial, crc, _ = _RECORD.unpack_from(self._memory, at)
        _RECORD.pack_into(self._memory, at, serial, crc, FREE)

    def done(self, packet_id: int) -> None:
        """It has been taken; say so before it is acknowledged."""
        at = packet_id * _RECORD.size
        serial, crc, _ = _RECORD.unpack_from(self._memory, at)
        _RECORD.pack_into(self._memory, at, serial, crc, DONE)

    def close(self) -> None:
        self._memory.close()

    def _id(self, serial: int) -> str:
        return f"{self._number:08x}/{serial:x}"

    def _note_head(self) -> None:
        _RECORD.pack_into(self._memory, 0, self._last, self._number, _VERSION)
