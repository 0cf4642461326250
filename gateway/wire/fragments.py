"""A message in several frames: cutting it up, putting it together.

Metadata comes before data, the first fragment keeps its request type, the rest are PAYLOADs, F says that more follow
(P40). Putting together is bounded in bytes and in fragments (P42, faults 34 and 35) and linear in bytes: the parts are
joined once, at the end (fault 37). A relay passes fragments through and needs neither.

Must not know: how many series a connection may hold open (fault 36), when one is too old.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.errors import RequestInvalid
from gateway.wire.codec import encode
from gateway.wire.header import HEADER_BYTES
from gateway.wire.shapes import Fragmentable, Payload, RequestChannel, RequestStream

MIN_FRAGMENT_BYTES = 64


def fragment(frame: Fragmentable, mtu: int) -> list[bytes]:
    """``frame`` encoded as frames of at most ``mtu`` bytes each (at least 64, without any length prefix).

    A frame that fits goes as it is. Every fragment of a payload carries N where the payload does, as rsocket-java sends
    it, and C rides on the last one. Raises ValueError for what ``encode`` refuses and for a frame that already follows.
    """
    if mtu < MIN_FRAGMENT_BYTES:
        raise ValueError(f"fragments of {mtu} bytes are below {MIN_FRAGMENT_BYTES}")
    if frame.follows:
        raise ValueError("a fragment cannot be fragmented")
    if _encoded_bytes(frame) <= mtu:
        return [encode(frame)]
    return [encode(part) for part in _parts(frame, mtu)]


def _encoded_bytes(frame: Fragmentable) -> int:
    size = HEADER_BYTES + len(frame.data)
    if isinstance(frame, RequestStream | RequestChannel):
        size += 4
    if frame.metadata is not None:
        size += 3 + len(frame.metadata)
    return size


def _parts(frame: Fragmentable, mtu: int) -> Iterator[Fragmentable]:
    complete = isinstance(frame, Payload | RequestChannel) and frame.complete
    next_item = not isinstance(frame, Payload) or frame.next
    metadata, data = frame.metadata, frame.data
    metadata_at = data_at = 0
    first = True
    while True:
        room = mtu - HEADER_BYTES
        if first and isinstance(frame, RequestStream | RequestChannel):
            room -= 4
        piece: bytes | None = None
        if metadata is not None and (first or metadata_at < len(metadata)):
            room -= 3
            piece = metadata[metadata_at : metadata_at + room]
            metadata_at += len(piece)
            room -= len(piece)
        chunk = data[data_at : data_at + room]
        data_at += len(chunk)
        follows = data_at < len(data) or (metadata is not None and metadata_at < len(metadata))
        if not first:
            yield Payload(frame.stream_id, piece, chunk, follows, complete and not follows, next_item)
        elif isinstance(frame, Payload | RequestChannel):
            yield replace(frame, metadata=piece, data=chunk, follows=follows, complete=complete and not follows)
        else:
            yield replace(frame, metadata=piece, data=chunk, follows=follows)
        if not follows:
            return
        first = False


class Reassembly:
    """The unfinished message of one stream.

    ``max_bytes`` bounds its metadata and data together, ``max_fragments`` its frames. After an error or the last
    fragment the object is empty again and can be used for the stream's next message; ``clear`` is for CANCEL (P41).
    """

    __slots__ = ("_data", "_first", "_has_data", "_metadata", "fragments", "max_bytes", "max_fragments", "size")

    def __init__(self, max_bytes: int, max_fragments: int) -> None:
        self.max_bytes = max_bytes
        self.max_fragments = max_fragments
        self.clear()

    def clear(self) -> None:
        """Drop what was gathered."""
        self._first: Fragmentable | None = None
        self._metadata: list[bytes] = []
        self._data: list[bytes] = []
        self._has_data = False
        self.size = 0
        self.fragments = 0

    @property
    def pending(self) -> bool:
        """Whether a message has begun and its end is still to come."""
        return self._first is not None

    def add(self, frame: Fragmentable) -> Fragmentable | None:
        """Take the stream's next frame; answer the whole message once its last fragment is here.

        The answer has the first fragment's type and credit, and C from the last one. A frame that was never fragmented
        comes straight back. Raises RequestInvalid (ERROR[INVALID] on the stream) when a bound is passed, a fragment
        that is not the last has fewer than 64 bytes (fault 35), metadata comes after data or a PAYLOAD is neither item
        nor end (P34, fault 38), or a request arrives within a series.
        """
        try:
            return self._add(frame)
        except RequestInvalid:
            self.clear()
            raise

    def _add(self, frame: Fragmentable) -> Fragmentable | None:
        first = self._first
        if first is None:
            if isinstance(frame, Payload) and not (frame.follows or frame.next or frame.complete):
                raise RequestInvalid("PAYLOAD with neither NEXT nor COMPLETE", reason="empty_payload")
        elif not isinstance(frame, Payload):
            raise RequestInvalid("request within a series of fragments", reason="fragment_order")
        if frame.metadata is not None and self._has_data:
            raise RequestInvalid("metadata after data", reason="fragment_order")
        if frame.follows and _encoded_bytes(frame) < MIN_FRAGMENT_BYTES:
            raise RequestInvalid(f"fragment below {MIN_FRAGMENT_BYTES} bytes", reason="min_fragment_bytes")
        self.fragments += 1
        if self.fragments > self.max_fragments:
            raise RequestInvalid(f"more than {self.max_fragments} fragments", reason="max_fragments")
        self.size += len(frame.data) + (0 if frame.metadata is None else len(frame.metadata))
        if self.size > self.max_bytes:
            raise RequestInvalid(f"message above {self.max_bytes} bytes", reason="max_reassembly_bytes")
        if first is None:
            if not frame.follows:
                self.clear()
                return frame
            self._first = first = frame
        if frame.metadata is not None:
            self._metadata.append(frame.metadata)
        if frame.data:
            self._has_data = True
            self._data.append(frame.data)
        if frame.follows:
            return None
        return self._finish(first, frame)

    def _finish(self, first: Fragmentable, last: Fragmentable) -> Fragmentable:
        metadata = b"".join(self._metadata) if self._metadata else None
        data = b"".join(self._data)
        self.clear()
        if isinstance(first, Payload):
            # Peers differ in which fragments of an item carry N; a series is always an item, since it has bytes.
            complete = isinstance(last, Payload) and last.complete
            return replace(first, metadata=metadata, data=data, follows=False, complete=complete, next=True)
        if isinstance(first, RequestChannel):
            complete = isinstance(last, Payload) and last.complete
            return replace(first, metadata=metadata, data=data, follows=False, complete=complete)
        return replace(first, metadata=metadata, data=data, follows=False)
