"""A deadline over links: it shrinks at each hop, and a request that has none left goes no further."""

from __future__ import annotations

from gateway.wire import frames, metadata, mimetypes
from gateway.wire.frames import FrameType
from tests.federation.links.cluster import Cluster, until
from tests.rawclient import RawClient, composite


def ask(client: RawClient, route: str, left_ms: int) -> int:
    number = client.next_stream_id()
    entries = [(mimetypes.DEADLINE, left_ms.to_bytes(4, "big"))]
    client.send(frames.RequestResponse(number, composite(route, entries=entries), b"?"))
    return number


async def answer(client: RawClient, number: int) -> frames.Frame:
    while True:
        frame = await client.recv(30)
        if getattr(frame, "stream_id", 0) == number:
            return frame


def left_of(frame: frames.RequestResponse) -> int:
    ((_, content),) = [entry for entry in metadata.decode_composite(frame.metadata) if entry[0] == mimetypes.DEADLINE]
    return int.from_bytes(content, "big")


async def test_it_shrinks_at_each_hop(edges: Cluster) -> None:
    """The first request waits for the parent's answer, the second one knows the way: two links each."""
    echo = await edges.servant("edge-b")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    for _ in range(2):
        assert isinstance(await answer(phone, ask(phone, "echo.it", 60_000)), frames.Payload)
    lefts = [left_of(frame) for frame in echo.got(frames.RequestResponse)]
    assert len(lefts) == 2
    assert all(0 < left <= 60_000 - 2 for left in lefts)


async def test_one_that_is_over_goes_no_further(edges: Cluster) -> None:
    echo = await edges.servant("edge-b")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    assert isinstance(await answer(phone, ask(phone, "echo.it", 60_000)), frames.Payload)
    for left_ms in (0, 1):
        error = await answer(phone, ask(phone, "echo.it", left_ms))
        assert isinstance(error, frames.Error)
        assert (error.code, error.text[:17]) == (frames.ErrorCode.CANCELED, "deadline exceeded")
    assert edges["edge-a"].running.plane.counters.refusals["deadline_exceeded"] == 2
    assert len(echo.got(frames.RequestResponse)) == 1


async def test_it_runs_while_a_route_is_looked_for(edges: Cluster) -> None:
    """The parent never says who serves it: the caller hears of its deadline, not of the end of the search."""
    asked: list[object] = []
    edges["central"].running.services.offer("resolve", FrameType.REQUEST_RESPONSE, asked.append)
    phone = await edges.client("edge-a")
    error = await answer(phone, ask(phone, "nobody.home", 50))
    assert isinstance(error, frames.Error)
    assert error.text == "deadline exceeded before it came here"
    await until(lambda: asked)
    assert not any(connection.awaiting for connection in edges["edge-a"].running.plane.connections.values())
