"""Clients in a process of their own, for tests that kill it: blocking sockets, no event loop.

    python -m tests.faults.child serve PORT TOKEN      serve `doomed`: print each request's type, send one item, wait
    python -m tests.faults.child call PORT TOKEN ROUTE ask for a stream, print each item, wait
    python -m tests.faults.child churn PORTS COUNT     tokens on standard input: connect, ask, go, COUNT times

What it prints goes out at once, line by line.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator

from gateway.wire import frames
from gateway.wire.websocket import masked_message
from tests.http_head import upgrade
from tests.rawclient import RawClient, composite

KEY = b"\1\2\3\4"
#: Cycles that run at once.
THREADS = 4


def _read(connection: socket.socket) -> Iterator[frames.Frame]:
    data = b""
    while got := connection.recv(65536):
        data += got
        while len(data) >= 3 and len(data) >= 3 + int.from_bytes(data[:3], "big"):
            end = 3 + int.from_bytes(data[:3], "big")
            yield frames.decode(data[3:end])
            data = data[end:]


def _framed(*sent: frames.Frame) -> bytes:
    encoded = [frames.encode(frame) for frame in sent]
    return b"".join(len(frame).to_bytes(3, "big") + frame for frame in encoded)


def _serve(port: int, token: str) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_framed(RawClient.setup_frame(token, ["doomed"]), frames.KeepAlive(True)))
        for frame in _read(connection):
            if isinstance(frame, frames.RequestStream | frames.RequestChannel):
                connection.sendall(_framed(frames.Payload(frame.stream_id, None, b"first", next=True)))
            print(type(frame).__name__, flush=True)


def _call(port: int, token: str, route: str) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        request = frames.RequestStream(1, composite(route), b"", 10)
        connection.sendall(_framed(RawClient.setup_frame(token), request))
        for frame in _read(connection):
            print(type(frame).__name__, flush=True)


def _writes(token: str, serving: list[str]) -> list[tuple[str, bytes, bytes | None]]:
    """What each kind of cycle sends in one write, over which transport, and what it waits for before it goes."""
    request = frames.RequestResponse(1, composite("gateway.time"), b"")
    stream = frames.RequestStream(3, composite("echo.it"), b"1", 5)
    writes: list[tuple[str, bytes, bytes | None]] = []
    for behind, expected in (([request], b'"time"'), ([request, stream], None), ([stream], b"\x28\x20\0")):
        together = [RawClient.setup_frame(token, serving), *behind]
        messages = b"".join(masked_message(frames.encode(frame), KEY) for frame in together)
        writes.append(("ws", upgrade() + messages, expected))
        writes.append(("tcp", _framed(*together), expected))
    return writes


def _churn(ports: dict[str, int], count: int, tokens: list[str]) -> None:
    """Half over each transport; half go by FIN, half by reset; a third ask, a third open a stream, a third do both and
    go before an answer; every other one serves something."""
    failures: list[str] = []

    def cycle(number: int, transport: str, data: bytes, expected: bytes | None) -> None:
        connection = socket.create_connection(("127.0.0.1", ports[transport]))
        with connection:
            if number % 4 < 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(data)
            got = b""
            while expected is not None and expected not in got:
                more = connection.recv(65536)
                if not more:
                    failures.append(f"{number}: ended after {got[-200:]!r}")
                    return
                got += more

    def cycles(first: int) -> None:
        # A route id of its own for each thread: of two with the same, the newer would close the older.
        kinds = [
            write for number, token in enumerate(tokens) for write in _writes(token, ["churned"] if number % 2 else [])
        ]
        for number in range(count // THREADS):
            cycle(number, *kinds[(first + number) % len(kinds)])

    threads = [threading.Thread(target=cycles, args=(first,)) for first in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(failures), flush=True)


def main(command: str, *arguments: str) -> None:
    if command == "serve":
        _serve(int(arguments[0]), arguments[1])
    elif command == "call":
        _call(int(arguments[0]), arguments[1], arguments[2])
    else:
        _churn(json.loads(arguments[0]), int(arguments[1]), sys.stdin.read().split())


if __name__ == "__main__":
    main(*sys.argv[1:])
