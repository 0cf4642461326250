"""What the device SDK does in a second on loopback, on each interpreter: one line a measure.

    python bench/device_sdk.py [--requests 5000]

The peer is as small as can be (a loop over sockets in this process), so that the device is what is measured. Goals for
a real MicroPython from compiled files: 3,000 sequential requests of 16 bytes a second, 2,500 of 1 KiB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from websockets.http11 import Request
from websockets.server import ServerProtocol

from gateway.wire import frames
from gateway.wire.frames import FrameType
from gateway.wire.sink import FrameSink
from gateway.wire.websocket import MessageReader, header, pong_frame

REPOSITORY = Path(__file__).parent.parent
PROGRAM = Path(__file__).parent / "device" / "throughput.py"
READY = b'{"node":"n","session":"s","sub":"d","services":["d"],"keepalive_ms":20000,"lifetime_ms":90000,"time":0}'
MAX_MESSAGE = 1 << 20
#: Measure -> goal, for compiled files on a real MicroPython.
GOALS = {"request 16 B": 3000, "request 1 KiB": 2500}


class Peer(FrameSink, asyncio.Protocol):
    """Echoes requests, and sends items of a stream as long as there is credit."""

    def __init__(self) -> None:
        self._handshake = ServerProtocol()
        self._reader: MessageReader | None = None
        self._ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._out: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._upgrade(data)
            return
        self._reader.feed(data)
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _upgrade(self, data: bytes) -> None:
        self._handshake.receive_data(data)
        for event in self._handshake.events_received():
            assert isinstance(event, Request)
            self._handshake.send_response(self._handshake.accept(event))
            self._transport.write(b"".join(self._handshake.data_to_send()))
            self._reader = MessageReader(
                self,
                lambda payload: self._transport.write(pong_frame(payload)),
                lambda: None,
                lambda code, text: self._transport.close(),
                lambda code, text: self._transport.abort(),
                max_message=MAX_MESSAGE,
            )

    def frame_received(self, data: bytes, start: int, end: int) -> None:
        kind = frames.peek_type(data, start)
        if kind == FrameType.REQUEST_RESPONSE:
            span = frames.metadata_span(data, start, end)
            answer = data[span[2] if span else start + 6 : end]
            self._payload(frames.peek_stream_id(data, start), answer if self._ready else READY, complete=True)
            self._ready = True
        elif kind in (FrameType.REQUEST_STREAM, FrameType.REQUEST_N):
            stream_id = frames.peek_stream_id(data, start)
            for _ in range(frames.peek_n(data, start, end)):
                self._payload(stream_id, b"0123456789abcdef")

    def _payload(self, stream_id: int, data: bytes, *, complete: bool = False) -> None:
        flags = frames.NEXT | (frames.COMPLETE if complete else 0)
        head = stream_id.to_bytes(4, "big") + (FrameType.PAYLOAD << 10 | flags).to_bytes(2, "big")
        self._out += (header(len(head) + len(data)), head, data)


def tool(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def interpreters(compiled: Path) -> dict[str, tuple[list[str], Path]]:
    """Name -> command and where it finds the SDK, of what is on this machine."""
    found = {"CPython": ([sys.executable, str(PROGRAM)], REPOSITORY)}
    micropython, mpy_cross = tool("micropython"), tool("mpy-cross")
    if micropython:
        found["MicroPython, source"] = ([micropython, "-X", "heapsize=256k", str(PROGRAM)], REPOSITORY)
    if micropython and mpy_cross:
        (compiled / "device_sdk").mkdir()
        for source in (REPOSITORY / "device_sdk").glob("*.py"):
            target = compiled / "device_sdk" / f"{source.stem}.mpy"
            subprocess.run([mpy_cross, "-O2", "-s", source.name, "-o", str(target), str(source)], check=True)
        found["MicroPython, compiled"] = ([micropython, "-X", "heapsize=64k", str(PROGRAM)], compiled)
    return found


async def measure(requests: int) -> None:
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/rsocket"
    with tempfile.TemporaryDirectory() as directory:
        for name, (command, path) in interpreters(Path(directory)).items():
            process = await asyncio.create_subprocess_exec(
                *command,
                url,
                str(requests),
                cwd=directory,
                env={"PYTHONPATH": str(path), "MICROPYPATH": f"{path}:.frozen"},
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            async for line in process.stdout:
                what, rate = json.loads(line)
                goal = GOALS.get(what) if name == "MicroPython, compiled" else None
                verdict = "" if goal is None else f"  (≥ {goal:,})  {'ok' if rate >= goal else 'BELOW'}"
                print(f"{'device_sdk':<18} {name:<24} {what:<20} {rate:>9,.0f}/s{verdict}", flush=True)
            if await process.wait():
                raise SystemExit(f"{name}: exit status {process.returncode}")
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    asyncio.run(measure(parser.parse_args().requests))


if __name__ == "__main__":
    main()
