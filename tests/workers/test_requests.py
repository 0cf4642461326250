"""Clients of different processes of one node reach each other as those of one process do."""

from __future__ import annotations

import pytest

from gateway.wire import frames
from tests.faults.node_process import NodeProcess
from tests.local_node import fnf, stream_request
from tests.rawclient import ConnectionEnded, RawClient, composite
from tests.workers.several import Clients, answered, eventually

pytestmark = pytest.mark.xdist_group("workers")

#: First process to worker, worker to first process, worker to worker, and all at home.
PAIRS = [(0, 1), (1, 0), (1, 2), (2, 2)]


@pytest.mark.parametrize(("asks", "serves"), PAIRS)
async def test_all_four_models_between_processes(node: NodeProcess, asks: int, serves: int) -> None:
    name = f"echo{asks}{serves}"
    async with Clients(node) as clients:
        servant = await clients.serving(serves, name)
        client = await clients.asking(asks)
        await eventually(lambda: answered(client, f"{name}.it"))

        stream = client.next_stream_id()
        client.send(stream_request(stream, f"{name}.items", b"10", 3))
        items = [await client.recv() for _ in range(3)]
        assert [(item.stream_id, len(item.data)) for item in items] == [(stream, 10)] * 3
        client.send(frames.Cancel(stream))

        channel = client.next_stream_id()
        client.send(frames.RequestChannel(channel, composite(f"{name}.talk"), b"20", initial_n=2))
        items = [await client.recv() for _ in range(2)]
        assert [(item.stream_id, len(item.data)) for item in items if isinstance(item, frames.Payload)] == [
            (channel, 20)
        ] * 2
        client.send(frames.Cancel(channel))

        client.send(fnf(client, f"{name}.note", b"noted"))

        async def noted() -> bool:
            return [frame.data for frame in servant.got(frames.RequestFnf)] == [b"noted"]

        await eventually(noted)


async def test_a_device_is_in_one_place(node: NodeProcess) -> None:
    """Fault 59: who has connected again is who is there, whichever process took it in."""
    token = node.token("d-1", "device")
    async with Clients(node) as clients:
        for before, after in PAIRS[:3]:
            old = await clients.at(before, token)
            new = await clients.at(after, token)
            assert (await _last_words(old)).startswith("d-1 has connected")
            assert (await new.ready())["sub"] == "d-1"
            await new.close()


async def _last_words(client: RawClient) -> str:
    """What a connection is told on stream 0 before it ends."""
    said = ""
    try:
        while True:
            frame = await client.recv()
            if isinstance(frame, frames.Error) and not frame.stream_id:
                said = frame.text
    except ConnectionEnded:
        return said
