"""What a peer may be sent: the rules of RSocket 1.0 that hold for every frame the node writes, whatever came in.

One `PeerRules` watches one connection from its peer's side. It is told each frame that the peer sends and checks each
one that the peer gets. A peer may break every rule; the node, none. Above all, what one peer does wrong must not reach
another, which would take the node for the culprit and close.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from gateway.errors import FrameError, InvalidSetup
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    LEASE,
    METADATA,
    NEXT,
    RESPOND,
    RESUME_ENABLE,
    FrameType,
    KeepAlive,
    RequestChannel,
    RequestFnf,
    RequestResponse,
    RequestStream,
    decode,
    peek_flags,
    peek_stream_id,
    peek_type,
)
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import AUTHENTICATION, PRINCIPAL
from tests.fuzz.target import check

_T = FrameType
_REQUESTS = (_T.REQUEST_RESPONSE, _T.REQUEST_FNF, _T.REQUEST_STREAM, _T.REQUEST_CHANNEL)
_WITH_CREDIT = (_T.REQUEST_STREAM, _T.REQUEST_CHANNEL)
_CONNECTION_CLOSE = 0x102


class PeerRules:
    """`subjects`: everybody who can be named as the caller of a request. `composite`: what the peer's metadata is."""

    def __init__(self, name: str, subjects: set[str], *, composite: bool) -> None:
        self.name = name
        self._subjects = subjects
        self._composite = composite
        self._over = False
        # What it asked for in what it began with, and whether it goes on with a session that was another's.
        self._began = 0
        self._resumed = False
        # Streams that the peer opened, by its ids.
        self._asked: dict[int, Counter[int]] = defaultdict(Counter)
        self._ends: Counter[int] = Counter()
        # Streams that were opened towards it, by the node's ids.
        self._served: dict[int, int] = {}
        self._last_served = 0
        self._unfinished: set[int] = set()
        self._ended: set[int] = set()
        # By stream id: items it may get, items it got, and whether it is within a series of fragments.
        self._credit: Counter[int] = Counter()
        self._items: Counter[int] = Counter()
        self._series: set[int] = set()

    def sent(self, frame: bytes) -> None:
        """The peer sends this, however wrong."""
        if len(frame) < 6:
            return
        stream_id, kind = peek_stream_id(frame), peek_type(frame)
        if kind == _T.SETUP:
            self._began |= peek_flags(frame) & (LEASE | RESUME_ENABLE)
        if kind in _REQUESTS:
            self._asked[stream_id][kind] += 1
            if kind not in _WITH_CREDIT:
                self._credit[stream_id] += 1
        if kind in (*_WITH_CREDIT, _T.REQUEST_N) and len(frame) >= 10:
            self._credit[stream_id] += int.from_bytes(frame[6:10], "big")

    def got(self, frame: bytes) -> None:
        """The peer is sent this. Raises Finding when it breaks a rule."""
        try:
            found = decode(frame)
        except (FrameError, InvalidSetup) as error:
            self._fail(frame, f"is sent what is no frame: {error}")
            return
        self._check(not self._over, frame, "is sent something behind the end of its connection")
        stream_id, kind = peek_stream_id(frame), found.frame_type
        if stream_id == 0:
            self._connection(frame, kind)
        elif self._resumed:
            # Its streams are those of the link before.
            pass
        elif stream_id & 1:
            self._answer(stream_id, kind, frame)
        elif isinstance(found, RequestResponse | RequestFnf | RequestStream | RequestChannel):
            self._request(stream_id, found, frame)
        else:
            self._more(stream_id, kind, frame)

    def _connection(self, frame: bytes, kind: FrameType) -> None:
        if kind is _T.LEASE:
            self._check(self._began & LEASE or self._resumed, frame, "is sent a lease that it did not ask for (P36)")
        elif kind is _T.RESUME_OK:
            self._resumed = True
        elif kind is _T.KEEPALIVE:
            answer = decode(frame)
            may_ask = self._began & RESUME_ENABLE or self._resumed
            self._check(isinstance(answer, KeepAlive), frame, "is sent what is no keepalive")
            self._check(may_ask or not peek_flags(frame) & RESPOND, frame, "is asked for a keepalive")
        elif kind is not _T.ERROR:
            self._fail(frame, f"is sent {kind.name} on stream 0")
        elif int.from_bytes(frame[6:10], "big") != _CONNECTION_CLOSE:
            self._over = True

    # As a requester

    def _answer(self, stream_id: int, kind: FrameType, frame: bytes) -> None:
        asked = self._asked[stream_id]
        self._check(asked, frame, f"never opened stream {stream_id}")
        self._check(set(asked) != {_T.REQUEST_FNF}, frame, "is answered to fire-and-forget (P35)")
        self._check(self._ends[stream_id] < asked.total(), frame, "is sent something behind the end of a stream")
        if kind is _T.PAYLOAD:
            ends = self._item(stream_id, frame)
            if peek_flags(frame) & COMPLETE and not asked[_T.REQUEST_CHANNEL]:
                ends = True
            elif asked.total() > asked[_T.REQUEST_RESPONSE] + asked[_T.REQUEST_FNF]:
                ends = False
            if ends:
                self._ends[stream_id] += 1
        elif kind is _T.ERROR:
            self._ends[stream_id] += 1
        else:
            self._check(kind in (_T.CANCEL, _T.REQUEST_N), frame, f"is sent {kind.name} on its own stream")
            self._check(asked[_T.REQUEST_CHANNEL], frame, f"is sent {kind.name} on what is no channel")

    # As a responder

    def _request(
        self, stream_id: int, found: RequestResponse | RequestFnf | RequestStream | RequestChannel, frame: bytes
    ) -> None:
        self._check(stream_id > self._last_served, frame, f"is sent a request on {stream_id}, used before (P20)")
        self._last_served = stream_id
        self._served[stream_id] = found.frame_type
        if peek_flags(frame) & FOLLOWS:
            complete = isinstance(found, RequestChannel) and peek_flags(frame) & COMPLETE
            self._check(not complete, frame, "is sent FOLLOWS with COMPLETE (P34)")
            self._unfinished.add(stream_id)
        if not self._composite:
            return
        entries = decode_composite(found.metadata or b"")
        stamps = [content for mime, content in entries if mime == PRINCIPAL]
        self._check(len(stamps) == 1, frame, f"is told of {len(stamps)} callers")
        self._check(json.loads(stamps[0])["subject"] in self._subjects, frame, f"is told of {stamps[0]!r}")
        self._check(entries[-1][0] == PRINCIPAL, frame, "is told something behind who calls")
        self._check(all(mime != AUTHENTICATION for mime, _ in entries), frame, "is sent another's credentials")

    def _more(self, stream_id: int, kind: FrameType, frame: bytes) -> None:
        request = self._served.get(stream_id)
        self._check(request is not None, frame, f"never served stream {stream_id}")
        self._check(stream_id not in self._ended, frame, "is sent something behind the end of a request")
        if kind is _T.PAYLOAD:
            if stream_id in self._unfinished:
                self._check(not peek_flags(frame) & METADATA, frame, "is sent metadata behind those of the node")
                if not peek_flags(frame) & FOLLOWS:
                    self._unfinished.discard(stream_id)
            else:
                self._check(request == _T.REQUEST_CHANNEL, frame, "is sent an item of what is no channel")
                self._item(stream_id, frame)
        elif kind is _T.REQUEST_N:
            self._check(request in _WITH_CREDIT, frame, "is granted what it cannot use")
        elif kind is _T.CANCEL:
            self._ended.add(stream_id)
        else:
            self._check(kind is _T.ERROR, frame, f"is sent {kind.name} on what it serves")
            self._check(request == _T.REQUEST_CHANNEL, frame, "is sent the ERROR of a requester that sends no items")
            self._ended.add(stream_id)

    # Both ways

    def _item(self, stream_id: int, frame: bytes) -> bool:
        """Count a PAYLOAD; True when it is the last fragment of an item, or a whole one."""
        flags = peek_flags(frame)
        self._check(flags & (FOLLOWS | COMPLETE) != FOLLOWS | COMPLETE, frame, "is sent FOLLOWS with COMPLETE (P34)")
        if flags & FOLLOWS:
            self._series.add(stream_id)
            return False
        within = stream_id in self._series
        self._series.discard(stream_id)
        self._check(within or flags & (NEXT | COMPLETE), frame, "is sent neither NEXT nor COMPLETE (P34)")
        if within or flags & NEXT:
            self._items[stream_id] += 1
            self._check(
                self._items[stream_id] <= self._credit[stream_id], frame, "is sent more than it asked for (P31)"
            )
        return True

    def _check(self, condition: object, frame: bytes, text: str) -> None:
        if not condition:
            self._fail(frame, text)

    def _fail(self, frame: bytes, text: str) -> None:
        check(False, f"{self.name} {text}: {frame[:60].hex()}")
