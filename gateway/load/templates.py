"""Messages made once and sent many times: what changes from one to the next is four bytes, the stream id.

A `Framing` says how a frame is carried: as a masked binary message of WebSocket, or behind the length prefix of TCP.
One mask serves a whole run; with the key zero it leaves the bytes as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.wire.frames import Frame, encode
from gateway.wire.prefix import prefix
from gateway.wire.websocket import Opcode, masked_message

NO_MASK = bytes(4)
CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Framing:
    """How frames are carried. `key` is the WebSocket mask of everything sent; None stands for TCP's prefix."""

    key: bytes | None

    @property
    def prefixed(self) -> bool:
        return self.key is None

    @property
    def id_mask(self) -> int:
        """What a stream id is combined with (exclusive or) before it is written into a template."""
        return int.from_bytes(self.key or NO_MASK, "big")

    def carry(self, frame: bytes) -> bytes:
        """The frame as it goes over the socket."""
        return prefix(len(frame)) + frame if self.key is None else masked_message(frame, self.key)

    def control(self, opcode: Opcode, payload: bytes) -> bytes:
        """A control message of WebSocket; nothing where there are none."""
        return b"" if self.key is None else masked_message(payload, self.key, opcode)


class Template:
    """One message as it goes over the socket. `id_at` is where its stream id is, `id_mask` what that is masked with.

    `chunk` of them are made at a time: blocks of 128 KiB and more go back to the system and come as new pages.
    """

    def __init__(self, framing: Framing, frame: Frame) -> None:
        bare = encode(frame)
        self.message = framing.carry(bare)
        self.size = len(self.message)
        self.id_at = self.size - len(bare)
        self.id_mask = framing.id_mask
        self.chunk = max(CHUNK_BYTES // self.size, 1)

    def addressed(self, stream_id: int) -> bytearray:
        """The message with a stream id."""
        message = bytearray(self.message)
        masked = stream_id ^ self.id_mask
        at = self.id_at
        message[at] = masked >> 24 & 0xFF
        message[at + 1] = masked >> 16 & 0xFF
        message[at + 2] = masked >> 8 & 0xFF
        message[at + 3] = masked & 0xFF
        return message
