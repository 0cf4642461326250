"""Clients of different processes of one node reach each other as those of one process do."""

from __future__ import annotations

import pytest

from gateway.wire import frames
from tests.faults.node_process import NodeProcess
from tests.local_node import fnf, stream_request
from tests.rawclient import composite
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
