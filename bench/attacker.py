"""One attacker, as a process of its own: `attacker.py FLOOD PORT SECONDS READS SOURCE`, tokens on standard input.

Blocking sockets and bytes that were made before, so that it costs next to nothing to attack, and what it costs to be
attacked shows. It comes back when it is thrown out, with the next token. At the end it prints one JSON document: bytes
sent, processor time taken, connections made, refused before SETUP, and the close codes that it was sent.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from gateway.load.opening import setup_frame
from gateway.wire import frames, metadata, mimetypes
from gateway.wire.websocket import Opcode, masked_message

_KEY = b"\1\2\3\4"
_HEAD = (
    b"GET /rsocket HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_ENTERED = b"HTTP/1.1 101"
#: How long a write may wait before the attacker looks whether it is over.
_PATIENCE_S = 0.05
#: Streams whose frames are made beforehand; then their ids come again.
_STREAMS = 2_000
_TO_SERVICE, _TO_NODE = "slow.it", "gateway.time"


def _about(route: str, more: int = 0) -> bytes:
    entries = [(mimetypes.ROUTING, metadata.encode_routing([route])), *[("t", b"")] * more]
    return metadata.encode_composite(entries)


def _messages(*sent: frames.Frame) -> bytes:
    return b"".join(masked_message(frames.encode(frame), _KEY) for frame in sent)


def _ids() -> range:
    return range(1, 2 * _STREAMS, 2)


def _response(number: int, route: str, data: bytes = b"") -> frames.RequestResponse:
    return frames.RequestResponse(number, _about(route), data)


def _series(data: bytes) -> Iterator[frames.Frame]:
    yield frames.RequestResponse(1, _about(_TO_SERVICE), data, follows=True)
    for _ in range(2_000_000 // max(len(data), 200)):
        yield frames.Payload(1, None, data, follows=True)


def _nonsense() -> bytes:
    """Random bytes. One frame in four may have to be ignored, by the flag that says so; the one behind it may not."""
    chance = Random(51)
    return b"".join(masked_message(chance.randbytes(64), _KEY) for _ in range(_STREAMS))


@dataclass(frozen=True)
class Flood:
    """What is sent once behind SETUP, and then over and over; `codes` may end it (empty: it is borne, and refused)."""

    begin: Callable[[], bytes]
    go_on: Callable[[], bytes]
    codes: frozenset[int] = frozenset()


def _nothing() -> bytes:
    return b""


FLOODS = {
    "resets": Flood(
        _nothing,
        lambda: b"".join(_messages(_response(number, _TO_SERVICE), frames.Cancel(number)) for number in _ids()),
        frozenset({1008}),
    ),
    "invalid": Flood(
        _nothing, lambda: _messages(*(frames.RequestResponse(n, _about("r" * 250, 20), b"") for n in _ids()))
    ),
    "streams": Flood(
        _nothing, lambda: _messages(*(frames.RequestStream(n, _about(_TO_SERVICE), b"", 1) for n in _ids()))
    ),
    "requests": Flood(_nothing, lambda: _messages(*(_response(n, _TO_NODE, bytes(500)) for n in _ids()))),
    "messages": Flood(
        _nothing,
        lambda: _messages(*(frames.RequestFnf(n, _about(_TO_SERVICE), bytes(60_000)) for n in range(1, 65, 2))),
    ),
    "credits": Flood(
        lambda: _messages(frames.RequestStream(1, _about(_TO_SERVICE), b"", 1)),
        lambda: _messages(*[frames.RequestN(1, 1)] * _STREAMS),
        frozenset({1008}),
    ),
    "keepalives": Flood(
        _nothing, lambda: _messages(*[frames.KeepAlive(True, 0, bytes(64))] * _STREAMS), frozenset({1008})
    ),
    "pushes": Flood(_nothing, lambda: _messages(*[frames.MetadataPush(_about("x"))] * _STREAMS), frozenset({1008})),
    "strays": Flood(
        _nothing, lambda: _messages(*[frames.Payload(99, None, bytes(200), next=True)] * _STREAMS), frozenset({1008})
    ),
    "fragments": Flood(_nothing, lambda: _messages(*_series(bytes(60_000))), frozenset({1008, 1009})),
    "tiny fragments": Flood(_nothing, lambda: _messages(*_series(b"")), frozenset({1008, 1009})),
    "pings": Flood(_nothing, lambda: masked_message(bytes(125), _KEY, Opcode.PING) * _STREAMS, frozenset({1008})),
    "oversized": Flood(_nothing, lambda: masked_message(bytes(70_000), _KEY), frozenset({1009})),
    "nonsense": Flood(_nothing, _nonsense, frozenset({1002})),
}
#: Those that never say who they are.
STRANGERS = {"connections": b"", "silence": b"", "slow heads": b"GET /rsocket HTTP/1.1\r\nX: ", "tokens": b""}


@dataclass
class Account:
    """What an attack came to."""

    sent: int = 0
    connections: int = 0
    refused: int = 0
    codes: Counter[int] = field(default_factory=Counter)


class Attacker:
    """`reads`: whether it takes what it is sent."""

    def __init__(self, port: int, source: str, until: float, reads: bool) -> None:
        self.account = Account()
        self._address = ("127.0.0.1", port)
        self._source = (source, 0)
        self._until = until
        self._reads = reads

    def flood(self, flood: Flood, tokens: list[str]) -> None:
        """Come in and flood, over and over."""
        begin, go_on = flood.begin(), flood.go_on()
        for token in itertools.cycle(tokens):
            if time.monotonic() >= self._until:
                return
            with contextlib.suppress(OSError):
                self._attack(_HEAD + _messages(frames.decode(setup_frame(token, None))) + begin, go_on)

    def _attack(self, begin: bytes, go_on: bytes) -> None:
        with self._connected() as connection:
            self._write(connection, begin)
            heard = b""
            entered = False
            view = memoryview(go_on)
            at = 0
            while time.monotonic() < self._until:
                try:
                    sent = connection.send(view[at : at + 65_536])
                    self.account.sent += sent
                    at = (at + sent) % len(go_on)
                except TimeoutError:
                    pass
                except OSError:
                    break
                if self._reads:
                    got = _take(connection)
                    if got is None:
                        break
                    entered = entered or _ENTERED in got
                    heard = (heard + got)[-256:]
            self._note(connection, heard, entered)

    def _note(self, connection: socket.socket, heard: bytes, entered: bool) -> None:
        """What it was told last: the code of a CLOSE; whoever did not get past the handshake was refused."""
        connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            while got := connection.recv(65_536):
                entered = entered or _ENTERED in got
                heard = (heard + got)[-256:]
        if not entered:
            self.account.refused += 1
            return
        at = heard.rfind(b"\x88")
        while at >= 0 and not (at + 4 <= len(heard) and at + 2 + heard[at + 1] == len(heard)):
            at = heard.rfind(b"\x88", 0, at)
        if at >= 0:
            self.account.codes[int.from_bytes(heard[at + 2 : at + 4], "big")] += 1
        elif time.monotonic() < self._until:
            self.account.codes[0] += 1

    def strange(self, name: str) -> None:
        """Connect and say nothing of what is expected."""
        kept: list[socket.socket] = []
        while time.monotonic() < self._until:
            try:
                connection = self._connected()
            except OSError:
                time.sleep(_PATIENCE_S)
                continue
            with contextlib.suppress(OSError):
                if name == "tokens":
                    self._write(connection, _HEAD + _messages(frames.decode(setup_frame("not.a.token", None))))
                    self._note(connection, b"", False)
                elif name != "connections":
                    self._write(connection, STRANGERS[name])
                    kept.append(connection)
                    if len(kept) >= 500:
                        kept.pop(0).close()
                    time.sleep(0.002)
                    continue
            connection.close()
        for connection in kept:
            connection.close()

    def _connected(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=2, source_address=self._source)
        connection.settimeout(_PATIENCE_S)
        self.account.connections += 1
        return connection

    def _write(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        self.account.sent += len(data)


def _take(connection: socket.socket) -> bytes | None:
    """What has come, without waiting; None when the other side has ended."""
    readable, _, _ = select.select([connection], [], [], 0)
    return connection.recv(65_536) or None if readable else b""


def main(name: str, port: str, seconds: str, reads: str, source: str) -> None:
    tokens = sys.stdin.read().split()
    attacker = Attacker(int(port), source, time.monotonic() + float(seconds), reads == "reads")
    if name in STRANGERS:
        attacker.strange(name)
    else:
        attacker.flood(FLOODS[name], tokens)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    account = attacker.account
    document = {
        "sent": account.sent,
        "connections": account.connections,
        "refused": account.refused,
        "codes": {str(code): count for code, count in account.codes.items()},
        "cpu": usage.ru_utime + usage.ru_stime,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main(*sys.argv[1:])
