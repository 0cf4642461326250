"""What a bridge takes in, as a ratio to Mosquitto's own bridge between two Mosquittos. One line a measure.

    python -m bench.mqtt [--seconds 5] [--bytes 64]

Whoever publishes sends as fast as broker A takes it; the figures are messages a second that arrive behind the bridge.
One is Mosquitto B's, over A's own `connection`; the other a service's of a node with a bridge to A, QoS 0 as it is and
QoS 1 through the spool (acknowledged after the fsync). Then request/response to a device of MQTT by
`mqtt.<bridge>.call`, at one in flight. Goals: both ratios at least 0.5, and a node that does not grow with what comes:
`memory` is the most that was resident while messages came, and how much more than before the first of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from bench.processes import Node, free_port, node, running
from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.message import Message, Properties
from gateway.bridges.mqtt.packets import Acknowledged, Arriving
from gateway.bridges.mqtt.session import Dial, Filter, PacketIds, Session
from gateway.cli.api import Api
from gateway.cli.contexts import of_directory
from gateway.client import Gateway
from gateway.control.runtime import Runtime
from gateway.documents.broker import endpoint
from gateway.policy.principal import Kind
from gateway.wire.brokering import RouteSetup
from gateway.wire.brokering import encode as encode_broker
from gateway.wire.frames import Setup, encode
from gateway.wire.metadata import encode_bearer, encode_composite
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, OCTET_STREAM

TOPIC = "bench/load"
CALLS = 500
#: Messages on their way from the publisher to broker A, under QoS 1.
WINDOW = 200
#: Of a node's resident memory, in bytes: its queues are bounded, and what it loads for its first message is in it.
GROWTH = 32 * 2**20
_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--bytes", type=int, default=64)
    options = parser.parse_args()
    if shutil.which("mosquitto", path=_PATH) is None:
        print("mqtt           Mosquitto is not installed: left out")
        return
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="bench-mqtt-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        for qos in (0, 1):
            theirs = native(root / f"native-{qos}", qos, options.seconds, options.bytes)
            ours = asyncio.run(bridged(root / f"bridged-{qos}", qos, options.seconds, options.bytes))
            way = "QoS 0 in" if not qos else "QoS 1 in, through the spool"
            print(
                f"mqtt           {way:<28} {ours.rate:>9,.0f}/s   Mosquitto's bridge {theirs:>9,.0f}/s   "
                f"ratio {ours.rate / theirs:.2f}   goal 0.50   "
                f"memory {ours.most / 2**20:.0f} MiB, {(ours.most - ours.before) / 2**20:+.0f} MiB   "
                f"goal {GROWTH / 2**20:+.0f} MiB",
                flush=True,
            )
        times = asyncio.run(calls(root / "calls"))
        quantiles = statistics.quantiles(times, n=100)
        p50, p99 = quantiles[49] * 1e6, quantiles[98] * 1e6
        print(f"mqtt           call of a device             p50 {p50:,.0f} µs   p99 {p99:,.0f} µs")


@contextmanager
def mosquitto(directory: Path, port: int, *lines: str) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    conf = directory / f"{port}.conf"
    general = ("max_queued_messages 0", "max_inflight_messages 1000", "set_tcp_nodelay true", *lines)
    conf.write_text("\n".join((f"listener {port} 127.0.0.1", "allow_anonymous true", *general)) + "\n")
    program = shutil.which("mosquitto", path=_PATH)
    assert program is not None
    with running((program, "-c", conf), port, directory):
        yield


def publish(port: int, qos: int, size: int, stop: Any) -> None:
    """As fast as the broker takes it, in a process of its own."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03pub")
        connection.recv(4)
        message = Message(TOPIC, bytes(size), qos)
        one = packets.encode_publish(message, 1, 4)
        if not qos:
            block = one * 500
            while not stop.is_set():
                connection.sendall(block)
            return
        block = b"".join(packets.encode_publish(message, number, 4) for number in range(1, WINDOW + 1))
        while not stop.is_set():
            connection.sendall(block)
            left = 4 * WINDOW
            while left > 0:
                left -= len(connection.recv(65536)) or left


@contextmanager
def load(port: int, qos: int, size: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=publish, args=(port, qos, size, stop))
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join(5)
        process.kill()


async def rate(count: Callable[[], int], seconds: float) -> float:
    """A second, once it flows."""
    deadline = time.monotonic() + 30
    while not count() and time.monotonic() < deadline:  # noqa: ASYNC110  (it is another process that counts)
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    before, began = count(), time.monotonic()
    await asyncio.sleep(seconds)
    return (count() - before) / (time.monotonic() - began)


def native(directory: Path, qos: int, seconds: float, size: int) -> float:
    a, b = free_port(), free_port()
    bridge = (
        "connection b",
        f"address 127.0.0.1:{b}",
        f"topic bench/# out {qos}",
        "bridge_protocol_version mqttv50",
        "try_private false",
    )
    with mosquitto(directory, b), mosquitto(directory, a, *bridge):
        return asyncio.run(_native(a, b, qos, seconds, size))


async def _native(a: int, b: int, qos: int, seconds: float, size: int) -> float:
    seen = Counted()
    session = await Session.connect(
        Dial("sub", clean_start=True, receive_maximum=1000),
        endpoint(f"mqtt://127.0.0.1:{b}"),
        PacketIds(),
        seen.arrived,
        lambda kind, answer: None,
        seen.opened,
    )
    await session.subscribe([Filter("bench/#", qos, no_local=False)])
    try:
        with load(a, qos, size):
            return await rate(lambda: seen.count, seconds)
    finally:
        session.disconnect()
        await session.ended


class Counted:
    def __init__(self) -> None:
        self.count = 0
        self._session: Session | None = None

    def opened(self, session: Session) -> None:
        self._session = session

    def arrived(self, arriving: Arriving) -> None:
        self.count += 1
        if arriving.packet_id and self._session is not None:
            self._session.send(packets.encode_acknowledgement(packets.PUBACK, arriving.packet_id, 5))


class Sink(asyncio.Protocol):
    """A service over TCP that only counts the frames it gets."""

    def __init__(self) -> None:
        self.count = 0
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, started: Node) -> Sink:
        token = started.identity.mint("sink", Kind.SERVICE, ("sink",), (), 3600, time.time())
        port = urlsplit(await up(started.data)).port or 0
        _, sink = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        registration = encode_broker(RouteSetup(bytes(16), "sink", ()))
        metadata = encode_composite([(AUTHENTICATION, encode_bearer(token.encode())), (BROKER_FRAME, registration)])
        setup = encode(Setup(60_000, 600_000, COMPOSITE, OCTET_STREAM, metadata=metadata))
        assert sink._transport is not None
        sink._transport.write(len(setup).to_bytes(3, "big") + setup)
        return sink

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 3:
            stop = at + 3 + (data[at] << 16 | data[at + 1] << 8 | data[at + 2])
            if stop > end:
                break
            self.count += 1
            at = stop
        self._rest = data[at:]

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()


async def up(data: Path) -> str:
    """The TCP listener of a node, when all of it runs."""
    while (runtime := Runtime.read(data)) is None:  # noqa: ASYNC110  (another process writes it)
        await asyncio.sleep(0.05)
    return runtime.tcp


class Measured(NamedTuple):
    """Messages a second; bytes of the node's memory before they came, and at most while they did."""

    rate: float
    before: int
    most: int


@contextmanager
def most_of(look: Callable[[], int]) -> Iterator[list[int]]:
    """The largest value so far, looked at ten times a second."""
    most = [look()]

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.1)
            most[0] = max(most[0], look())

    task = asyncio.get_running_loop().create_task(watch())
    try:
        yield most
    finally:
        task.cancel()


async def bridged(directory: Path, qos: int, seconds: float, size: int) -> Measured:
    """What the bridge has sent on: of QoS 1, what is on disk and acknowledged."""
    a = free_port()
    rule = {"pattern": "bench/#", "direction": "in", "qos": qos, "route": "sink.take"}
    spool = {
        "kind": "Spool",
        "name": "sink",
        "match": [{"service": "sink"}],
        "minFree": "0%",
        "maxBytes": "1GiB",
        "whenFull": "dropOldest",
    }
    if qos:
        rule["spool"] = "sink"
    bridge = {
        "kind": "Bridge",
        "name": "bench",
        "mqtt": {"address": f"mqtt://127.0.0.1:{a}", "receiveMaximum": 1000},
        "topics": [rule],
    }
    with mosquitto(directory, a), node(directory / "node") as started:
        await up(started.data)
        sink = await Sink.connect(started) if not qos else None
        with Api(of_directory(started.data)) as api:
            api.send("POST", "/documents:apply", {"text": f"{json.dumps(spool)}\n---\n{json.dumps(bridge)}"})

            def count() -> int:
                if sink is not None:
                    return sink.count
                return int(api.get("/mqtt/bridges/bench")["status"]["counters"]["forwarded"])

            while api.get("/mqtt/bridges/bench")["status"]["state"] != "connected":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            before = started.resident_bytes()
            try:
                with most_of(started.resident_bytes) as most, load(a, qos, size):
                    found = await rate(count, seconds)
                return Measured(found, before, most[0])
            finally:
                if sink is not None:
                    sink.close()


async def calls(directory: Path) -> list[float]:
    """Seconds of each call to a device that answers at once."""
    a = free_port()
    bridge = {"kind": "Bridge", "name": "bench", "mqtt": {"address": f"mqtt://127.0.0.1:{a}"}}
    with mosquitto(directory, a), node(directory / "node") as started:
        await up(started.data)
        with Api(of_directory(started.data)) as api:
            api.send("POST", "/documents:apply", {"text": json.dumps(bridge)})
            while api.get("/mqtt/bridges/bench")["status"]["state"] != "connected":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        found: list[Session] = []

        def asked(arriving: Arriving) -> None:
            properties = arriving.message.properties
            answer = Properties(correlation=properties.correlation)
            message = Message(properties.response_topic or "", b"ok", 0, properties=answer)
            found[0].send(packets.encode_publish(message, 0, 5))
            if arriving.packet_id:
                found[0].send(packets.encode_acknowledgement(packets.PUBACK, arriving.packet_id, 5))

        def answered(kind: int, answer: Acknowledged) -> None: ...

        session = await Session.connect(
            Dial("device", clean_start=True),
            endpoint(f"mqtt://127.0.0.1:{a}"),
            PacketIds(),
            asked,
            answered,
            found.append,
        )
        await session.subscribe([Filter("cmd/1", 1)])
        times = []
        token = started.identity.mint("phone", Kind.SERVICE, (), ("*",), 3600, time.time())
        async with Gateway(f"ws://127.0.0.1:{started.port}/rsocket", lambda: token) as phone:
            for number in range(CALLS + 50):
                began = time.perf_counter()
                await phone.request("mqtt.bench.call", b"now", tags={"topic": "cmd/1"})
                if number >= 50:
                    times.append(time.perf_counter() - began)
        session.disconnect()
        await session.ended
        return times


if __name__ == "__main__":
    main()
