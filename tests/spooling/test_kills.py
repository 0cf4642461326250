"""A whole node killed at any instant: nothing acknowledged is lost, nothing takes effect twice, keys keep their order.

The checker is Jepsen's for queues: attempts, acknowledged and read are sets of (writer, number); lost is acknowledged
less read, unexpected is read less attempts. Writers ask with request/response and take a receipt for an
acknowledgement; the service keeps the ids of what it has had, as a receiver does that wants each message once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import SPOOLED
from tests.faults.node_process import NodeProcess
from tests.rawclient import ConnectionEnded, RawClient, composite

WRITERS = 4
SPOOL = (
    "kind: Spool\nname: kept\nmatch: [{service: ledger, interaction: [requestResponse]}]\nminFree: 0%\n"
    "maxBytes: 64MiB\nkey: device\nqueueWhileOffline: {ttl: 1h, onlyIdempotent: false}\n"
)
GONE = (ConnectionEnded, ConnectionError, TimeoutError, asyncio.IncompleteReadError, OSError)


class History:
    """`read`: by writer, numbers in the order in which they took effect."""

    def __init__(self) -> None:
        self.attempts: set[tuple[str, int]] = set()
        self.acked: set[tuple[str, int]] = set()
        self.read: dict[str, list[int]] = defaultdict(list)
        self.seen: set[tuple[str, int, int]] = set()
        self.again = 0
        self.unmarked = 0

    def take(self, request: frames.RequestResponse) -> None:
        entries = dict(decode_composite(request.metadata or b""))
        writer, number = request.data.decode().split()
        if SPOOLED not in entries:
            # It did not wait: its writer gets the answer itself.
            self.read[writer].append(int(number))
            return
        told = json.loads(entries[SPOOLED])
        identity = (told["node"], told["epoch"], told["seq"])
        if identity in self.seen:
            self.again += 1
            self.unmarked += not told["redelivered"]
            return
        self.seen.add(identity)
        self.read[writer].append(int(number))

    def check(self) -> None:
        read = {(writer, number) for writer, numbers in self.read.items() for number in numbers}
        assert not self.acked - read, f"lost: {sorted(self.acked - read)[:10]}"
        assert not read - self.attempts
        assert sum(map(len, self.read.values())) == len(read), "some took effect twice"
        assert not self.unmarked
        for writer, numbers in self.read.items():
            assert numbers == sorted(numbers), f"the order of {writer}"


async def write(node: NodeProcess, writer: str, numbers: list[int], history: History) -> None:
    """One request after the other until the node has gone; `numbers` holds the next one."""
    with contextlib.suppress(*GONE):
        client = await RawClient.connect_tcp(node.tcp_port)
        try:
            client.setup(node.token(writer, "service"), ())
            await client.ready()
            while True:
                number, numbers[0] = numbers[0], numbers[0] + 1
                history.attempts.add((writer, number))
                stream = client.next_stream_id()
                client.send(
                    frames.RequestResponse(stream, composite("ledger.write"), b"%s %d" % (writer.encode(), number))
                )
                frame = await client.recv(20)
                if isinstance(frame, frames.Payload):
                    history.acked.add((writer, number))
                else:
                    # Nobody has had it, or nobody knows; the service may be going.
                    assert isinstance(frame, frames.Error), frame
                    await asyncio.sleep(0.01)
        finally:
            await client.close()


async def serve(node: NodeProcess, history: History, patience: float) -> None:
    """The service, for as long as there is something to do or the node is there."""
    client = await RawClient.connect_tcp(node.tcp_port)
    with contextlib.suppress(*GONE):
        client.setup(node.token("svc-ledger", "service"), ("ledger",))
        while True:
            frame = await client.recv(patience)
            if isinstance(frame, frames.RequestResponse):
                history.take(frame)
                client.send(frames.Payload(frame.stream_id, None, b"had", next=True, complete=True))
            elif isinstance(frame, frames.KeepAlive) and frame.respond:
                client.send(frames.KeepAlive(False, 0, frame.data))
    await client.close()


async def kill_again_and_again(tmp_path: Path, times: int, seed: int) -> History:
    data, log = tmp_path / "data", tmp_path / "log"
    history = History()
    random = Random(seed)
    numbers = {f"w{number}": [1] for number in range(WRITERS)}
    for life in range(times + 1):
        node = await NodeProcess.start(data, log, GATEWAY__SPOOL__GROUP_MS="2")
        try:
            if life == 0:
                async with node.operator() as operator:
                    assert (await operator.post("/documents:apply", json={"text": SPOOL})).status_code == 200
            last = life == times
            tasks = (
                []
                if last
                else [
                    asyncio.create_task(write(node, writer, next_one, history)) for writer, next_one in numbers.items()
                ]
            )
            if last:
                # Everything that was acknowledged is there, or comes now.
                await serve(node, history, patience=3.0)
            else:
                if life % 2:
                    tasks.append(asyncio.create_task(serve(node, history, patience=20.0)))
                await asyncio.sleep(random.uniform(0.05, 0.6))
                node.kill()
            await asyncio.gather(*tasks)
        finally:
            node.stop()
    return history


@pytest.mark.timeout(900)
async def test_a_node_is_killed_6_times(tmp_path: Path) -> None:
    history = await kill_again_and_again(tmp_path, 6, seed=5)
    history.check()
    assert len(history.acked) > 20


@pytest.mark.soak
async def test_a_node_is_killed_200_times(tmp_path: Path) -> None:
    history = await kill_again_and_again(tmp_path, 200, seed=6)
    history.check()
    assert history.again > 0
    print(f"{len(history.acked)} acknowledged, {history.again} came again")
