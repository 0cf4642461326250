"""Makes the corpus: what stock RSocket clients send to a node, cut into inputs of the fuzz targets.

    tools/capture-corpus

The peers of tests/interop connect through proxies that write down every byte. Of inputs that look alike one is kept.
Tokens are replaced by such as the targets accept; everything else stays as the clients sent it, except in inputs of the
`plane` target, whose actors serve other names. Run it again when a client is added; what is there is replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError
from gateway.wire import frames, metadata, mimetypes
from gateway.wire.sink import FrameSink
from gateway.wire.websocket import MessageReader, masked_message
from tests.fuzz import plane
from tests.fuzz.golden import with_length
from tests.fuzz.site import token_of
from tests.fuzz.target import CORPUS
from tests.interop.peers import LIBRARIES, Library, Peer, RemoteError, address, left_out, route_setup
from tests.local_node import LocalNode

MAX_INPUT = 2048
#: What stands for a service of a captured connection in inputs of the `plane` target.
SERVICE = "echo"
TRANSPORTS = ("ws", "tcp")
_MIME_KEY = "message/x.rsocket.mime-type.v0"


@dataclass
class Recording:
    """One connection: what its client sent, in the order of all connections' reads."""

    transport: str
    library: str
    reads: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def sent(self) -> bytes:
        return b"".join(data for _, data in self.reads)


class Recorder:
    """A proxy before each listener; `library` is whose connections come now."""

    def __init__(self, node: LocalNode) -> None:
        self.recordings: list[Recording] = []
        self.library = ""
        self._node = node
        self._reads = 0

    async def start(self) -> dict[str, int]:
        self._servers = {
            transport: await asyncio.start_server(
                lambda reader, writer, transport=transport: self._relay(transport, reader, writer),  # type: ignore[misc]
                "127.0.0.1",
                0,
            )
            for transport in TRANSPORTS
        }
        return {transport: server.sockets[0].getsockname()[1] for transport, server in self._servers.items()}

    async def stop(self) -> None:
        for server in self._servers.values():
            server.close()
            await server.wait_closed()

    async def _relay(self, transport: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recording = Recording(transport, self.library)
        self.recordings.append(recording)
        back, forth = await asyncio.open_connection("127.0.0.1", self._node.port(transport))

        async def up() -> None:
            while data := await reader.read(65536):
                self._reads += 1
                recording.reads.append((self._reads, data))
                forth.write(data)
            forth.close()

        async def down() -> None:
            while data := await back.read(65536):
                writer.write(data)
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)
        forth.close()
        writer.close()


def talk(caller: Peer, server: Peer, transport: str, ports: dict[str, int], token: str) -> None:
    """Everything a client can do, once: connect, register, call each way, be refused, go."""
    service = f"{server.library.name}.{transport}"
    url = f"ws://127.0.0.1:{ports['ws']}/rsocket" if transport == "ws" else f"tcp://127.0.0.1:{ports['tcp']}"
    server.connect("serving", url, token, services=(route_setup(service),), keepalive_ms=300, lifetime_ms=3000)
    caller.connect("calling", url, token, keepalive_ms=300, lifetime_ms=3000)
    caller.request("calling", f"{service}.echo", "hello")
    caller.request("calling", f"{service}.echo", "by address", frames=[address(service)])
    caller.request("calling", f"{service}.echo", "long " * 500)
    caller.command("fnf", connection="calling", route=f"{service}.note", data="note")
    asked = json.dumps({"key": transport, "count": 100})
    caller.command("stream", connection="calling", route=f"{service}.items", data=asked, credits=[2, 2])
    asked = json.dumps({"key": transport, "count": 3})
    caller.command("stream", connection="calling", route=f"{service}.items", data=asked, credits=[9])
    items = ["a", "b", "c"]
    caller.command("channel", connection="calling", route=f"{service}.channel", items=items, credits=[2, 2])
    for route, data in ((f"{service}.fail", '{"code": 513, "text": "broken"}'), ("nobody.home", "")):
        try:
            caller.request("calling", route, data)
        except RemoteError:
            pass
    try:
        caller.connect("refused", url, "garbage")
    except RemoteError:
        pass
    caller.request("calling", "gateway.ready")
    for peer, connection in ((caller, "calling"), (server, "serving")):
        peer.command("close", connection=connection)


async def record() -> tuple[list[Recording], str]:
    """Let every library call the next one. Returns the recordings and the token that is in them."""
    libraries = [library for library in LIBRARIES if library.name not in left_out()]
    with tempfile.TemporaryDirectory() as data:
        node = await LocalNode.start(Path(data))
        recorder = Recorder(node)
        ports = await recorder.start()
        token = node.token()
        for library, other in zip(libraries, [*libraries[1:], libraries[0]], strict=True):
            await asyncio.to_thread(_converse, recorder, library, other, ports, token)
        await recorder.stop()
        await node.finish()
    return recorder.recordings, token


def _converse(recorder: Recorder, library: Library, other: Library, ports: dict[str, int], token: str) -> None:
    recorder.library = library.name
    with Peer(library) as caller, Peer(other) as server:
        for transport in TRANSPORTS:
            talk(caller, server, transport, ports, token)


# Recordings to inputs


class Collection:
    """Inputs by target, one of each kind that looks alike."""

    def __init__(self) -> None:
        self._inputs: dict[str, dict[Any, bytes]] = defaultdict(dict)

    def add(self, target: str, looks: Any, data: bytes) -> None:
        if len(data) <= MAX_INPUT or target == "token":
            self._inputs[target].setdefault(looks, data)

    def write(self, folder: Path) -> None:
        """Replace what is in the folder."""
        shutil.rmtree(folder, ignore_errors=True)
        for target, inputs in sorted(self._inputs.items()):
            (folder / target).mkdir(parents=True)
            for data in inputs.values():
                (folder / target / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            print(f"{target:16}{len(set(inputs.values())):5} inputs{sum(map(len, set(inputs.values()))):8} bytes")


class _Frames(FrameSink):
    def __init__(self) -> None:
        self.found: list[bytes] = []

    def frame_received(self, data: bytes, start: int, end: int) -> None:
        self.found.append(bytes(data[start:end]))


def frames_of(recording: Recording) -> list[tuple[int, bytes]]:
    """The frames that the client sent, each with the number of the read that completed it."""
    numbered: list[tuple[int, bytes]] = []
    sink = _Frames()
    nothing: Any = lambda *_: None  # noqa: E731
    reader = MessageReader(sink, nothing, nothing, nothing, nothing, max_message=1 << 24)
    rest = b""
    upgraded = recording.transport == "tcp"
    for number, data in recording.reads:
        rest += data
        if not upgraded:
            head, end, rest = rest.partition(b"\r\n\r\n")
            upgraded = bool(end)
            if not upgraded:
                rest = head
                continue
        if recording.transport == "ws":
            reader.feed(rest)
            rest = b""
        else:
            while len(rest) >= 3 and len(rest) >= (end_of := 3 + int.from_bytes(rest[:3], "big")):
                sink.found.append(rest[3:end_of])
                rest = rest[end_of:]
        numbered += [(number, frame) for frame in sink.found]
        sink.found.clear()
    return numbered


def collect(recordings: list[Recording], token: str) -> Collection:
    """Cut what was recorded into inputs."""
    collection = Collection()
    for recording in recordings:
        real = token.encode()
        stand_in = token_of("serving", len(real))
        taken = [(number, frame.replace(real, stand_in)) for number, frame in frames_of(recording)]
        sent = [frame for _, frame in taken]
        _streams(collection, recording, sent, recording.sent.replace(real, stand_in))
        for frame in sent:
            _frame(collection, recording.library, frame)
        _setup(collection, recording.library, sent)
        _series(collection, recording.library, sent)
    for number, (calling, serving) in enumerate(_pairs(recordings)):
        _scenario(collection, number, calling, serving)
    return collection


def _streams(collection: Collection, recording: Recording, sent: list[bytes], stream: bytes) -> None:
    """The bytes of a connection, from its start."""
    looks = (recording.library, recording.transport, len(sent) < 3)
    few = sent[:8]
    if recording.transport == "ws":
        head = stream.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        key = b"\x01\x02\x03\x04"
        messages = b"".join(masked_message(frame, key) for frame in few)
        collection.add("handshake", looks, b"\x07" + head + messages[: MAX_INPUT - len(head) - 1])
        collection.add("handshake", (looks, "head"), b"\x07" + head)
        collection.add("websocket", looks, b"\x05\x07" + messages[: MAX_INPUT - 2])
    else:
        prefixed = b"".join(len(frame).to_bytes(3, "big") + frame for frame in few)
        collection.add("prefixed", looks, b"\x05\x07" + prefixed[: MAX_INPUT - 2])


def _frame(collection: Collection, library: str, frame: bytes) -> None:
    kind, flags = frames.peek_type(frame), frames.peek_flags(frame)
    try:
        found = frames.decode(frame)
    except GatewayError:
        collection.add("frame", (library, frame[4:6]), frame)
        return
    entries: list[tuple[str, bytes]] = []
    content = getattr(found, "metadata", None)
    if content:
        try:
            entries = metadata.decode_composite(content)
        except GatewayError:
            pass
        collection.add("composite", (library, kind, *[mime for mime, _ in entries]), content)
    collection.add("frame", (library, kind, flags, len(frame) > 256, *[mime for mime, _ in entries]), frame)
    routing = b""
    for mime, data in entries:
        looks = (library, kind, mime)
        if mime == mimetypes.ROUTING:
            routing = data
            collection.add("routing", looks, data)
        elif mime == mimetypes.AUTHENTICATION:
            collection.add("authentication", looks, data)
        elif mime in (_MIME_KEY, mimetypes.ACCEPT_MIME_TYPES):
            collection.add("mime_types", looks, data)
        elif mime == mimetypes.BROKER_FRAME:
            collection.add("broker_frame", (library, data[4:6]), data)
            collection.add(
                "broker_tags", (library, data[4:6]), data[22:] if data[4] >> 2 == 5 else data[23 + data[22] :]
            )
            collection.add("address", looks, bytes((len(routing),)) + routing + data)
    if routing and len(routing) < 256:
        collection.add("address", (library, "route"), bytes((len(routing),)) + routing)


def _setup(collection: Collection, library: str, sent: list[bytes]) -> None:
    on_zero = [frame for frame in sent if frames.peek_stream_id(frame) == 0][:4]
    if on_zero:
        collection.add("setup", (library, len(on_zero), len(on_zero[0])), b"".join(map(with_length, on_zero)))


def _series(collection: Collection, library: str, sent: list[bytes]) -> None:
    """The fragments of one message."""
    for first in [frame for frame in sent if frames.peek_flags(frame) & frames.FOLLOWS][:1]:
        stream_id = frames.peek_stream_id(first)
        parts = [frame for frame in sent if frames.peek_stream_id(frame) == stream_id]
        short = [_shortened(part) for part in parts]
        collection.add("fragments", library, b"".join(map(with_length, short)))


def _shortened(frame: bytes) -> bytes:
    """The frame with at most 90 bytes of data."""
    found = frames.decode(frame)
    if isinstance(found, frames.Fragmentable) and len(found.data) > 90:
        return frames.encode(replace(found, data=found.data[:90]))
    return frame


def _pairs(recordings: list[Recording]) -> Iterator[tuple[Recording, Recording]]:
    """Each caller with who serves it: the connection that was made just before."""
    for before, after in pairwise(recordings):
        registers = any(b"x.rsocket.broker.frame" in data for _, data in before.reads[:3])
        if registers and len(after.reads) > 5:
            yield after, before


def _scenario(collection: Collection, number: int, calling: Recording, serving: Recording) -> None:
    """A conversation as steps of the `plane` target, cut where a caller's request begins."""
    steps = sorted(
        [(at, 0, frame) for at, frame in frames_of(calling)] + [(at, 1, frame) for at, frame in frames_of(serving)],
        key=lambda step: step[0],
    )
    ids: tuple[dict[int, int], dict[int, int]] = ({}, {})
    built = b""
    part = 0
    for _, actor, frame in steps:
        stream_id = frames.peek_stream_id(frame)
        if not stream_id:
            continue
        found = frames.decode(frame)
        if actor == 0 and isinstance(found, frames.Request):
            route = dict(metadata.decode_composite(found.metadata or b"")).get(mimetypes.ROUTING, b"")
            if b"gateway" in route:
                continue
            if len(built) > MAX_INPUT // 2:
                collection.add("plane", (number, part), built)
                built, part, ids = b"", part + 1, ({}, {})
            found = replace(found, metadata=_to_service(found.metadata or b""))
        known = ids[actor]
        if stream_id not in known:
            first = isinstance(found, frames.Request) or actor == 1
            if not first:
                continue
            known[stream_id] = 2 * len(known) + (1 if actor == 0 else 2)
        renamed = _shortened(frames.encode(replace(found, stream_id=known[stream_id])))  # type: ignore[call-arg]
        built += plane.a_frame(actor, renamed)
    collection.add("plane", (number, part), built)


def _to_service(content: bytes) -> bytes:
    """The metadata with another service in its route, and without the address that names the captured one."""
    entries = []
    for mime, data in metadata.decode_composite(content):
        if mime == mimetypes.ROUTING:
            method = metadata.decode_routing(data)[0].rpartition(".")[2]
            data = metadata.encode_routing([f"{SERVICE}.{method}"])
        if mime != mimetypes.BROKER_FRAME:
            entries.append((mime, data))
    return metadata.encode_composite(entries)


def main() -> int:
    recordings, token = asyncio.run(record())
    collect(recordings, token).write(CORPUS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
