"""Issue 8: timeouts over links. The document of the caller's edge ends a request that hangs two nodes further on."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from gateway.documents.validation import understand
from gateway.forwarding.links import LOCAL
from gateway.wire import frames, metadata, mimetypes
from tests.federation.links.cluster import Cluster, until
from tests.local_node import Servant
from tests.rawclient import RawClient, composite

KINDS = ("requestResponse", "requestStream", "requestChannel")


class Hanging(Servant):
    """Hears what it is asked, and says nothing of its own accord."""

    async def _serve(self) -> None:
        while True:
            frame = await self.client.recv(3600)
            self.heard.append(frame)
            if isinstance(frame, frames.KeepAlive) and frame.respond:
                self.client.send(frames.KeepAlive(False, 0, frame.data))

    @property
    def asked(self) -> list[Any]:
        requests = (frames.RequestResponse, frames.RequestStream, frames.RequestChannel)
        return [frame for frame in self.heard if isinstance(frame, requests)]

    @property
    def canceled(self) -> list[int]:
        return [frame.stream_id for frame in self.got(frames.Cancel)]


@pytest.fixture
async def lamp(edges: Cluster) -> Hanging:
    servant = Hanging(await edges.client("edge-b", "svc-lamp", serving=("lamp",)), "lamp")
    edges.servants.append(servant)
    await edges.knows("central", "lamp")
    return servant


def govern(cluster: Cluster, timeout: str) -> None:
    document = {"kind": "Service", "name": "lamp", "routes": [{"timeout": timeout}]}
    for place in cluster.places.values():
        place.running.govern((understand(document),))


async def nothing_is_left(cluster: Cluster) -> None:
    """No stream of a client, no deadline of any."""
    planes = [place.running.plane for place in cluster.places.values()]
    await until(lambda: not any(len(plane.deadlines) for plane in planes))
    for place in cluster.places.values():
        clients = [c for c in place.running.plane.connections.values() if c.kind != "internal" and c.side == LOCAL]
        await until(lambda clients=clients: not any(c.requesting or c.serving for c in clients))  # type: ignore[misc]


def ask(client: RawClient, kind: str, wait_ms: int | None = None) -> int:
    """`wait_ms`: what its caller says itself."""
    entries = [] if wait_ms is None else [(mimetypes.DEADLINE, wait_ms.to_bytes(4, "big"))]
    number, told = client.next_stream_id(), composite("lamp.get", entries=entries)
    if kind == "requestResponse":
        client.send(frames.RequestResponse(number, told, b"?"))
    elif kind == "requestStream":
        client.send(frames.RequestStream(number, told, b"?", initial_n=8))
    else:
        client.send(frames.RequestChannel(number, told, b"?", initial_n=8))
    return number


async def of(client: RawClient, number: int) -> frames.Frame:
    """The next frame of a request."""
    while True:
        frame = await client.recv(30)
        if getattr(frame, "stream_id", 0) == number:
            return frame


def left_ms(asked: Any) -> int:
    (left,) = [content for mime, content in metadata.decode_composite(asked.metadata) if mime == mimetypes.DEADLINE]
    return int.from_bytes(left, "big")


@pytest.mark.parametrize("kind", KINDS)
async def test_what_hangs_behind_two_links_is_ended(edges: Cluster, lamp: Hanging, kind: str) -> None:
    """Its caller hears of the document, its responder was told of less than the timeout, and gets CANCEL. The first
    request waits for the parent to say who serves it, the second one knows the way."""
    govern(edges, "300ms")
    phone = await edges.client("edge-a")
    for _ in range(2):
        error = await of(phone, ask(phone, kind))
        assert isinstance(error, frames.Error)
        what = "answer" if kind == "requestResponse" else "first item"
        assert error.code == 0x203
        assert error.text == f"deadline exceeded: Service/lamp: no {what} within 0.3 s, the timeout of routes/0"
    await until(lambda: len(lamp.canceled) == 2)
    assert lamp.canceled == [frame.stream_id for frame in lamp.asked]
    assert all(0 < left_ms(frame) <= 300 - 2 for frame in lamp.asked)
    assert edges["edge-a"].running.plane.counters.refusals["deadline_exceeded"] == 2
    # What comes late disturbs nobody.
    for number in lamp.canceled:
        lamp.client.send(frames.Payload(number, None, b"late", next=True, complete=True))
    await nothing_is_left(edges)
    assert [frame for frame in await phone.barrier() if not isinstance(frame, frames.KeepAlive)] == []


@pytest.mark.parametrize("kind", KINDS)
async def test_the_caller_hears_whose_time_it_was_when_another_node_is_first(
    edges: Cluster, lamp: Hanging, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a link was slow when it was measured: the next node has much less than is left here."""
    monkeypatch.setattr(edges["edge-a"].federation, "way_s", lambda _: 20.0)
    govern(edges, "20.3s")
    phone = await edges.client("edge-a")
    error = await of(phone, ask(phone, kind))
    assert isinstance(error, frames.Error)
    assert error.code == 0x203
    assert error.text.startswith("deadline exceeded: Service/lamp: ")
    assert error.text.endswith(" within 20.3 s, the timeout of routes/0")
    await until(lambda: lamp.canceled)
    assert 0 < left_ms(lamp.asked[0]) < 300
    await nothing_is_left(edges)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_that_waits_less_than_the_document_says(edges: Cluster, lamp: Hanging, kind: str) -> None:
    govern(edges, "60s")
    phone = await edges.client("edge-a")
    error = await of(phone, ask(phone, kind, 250))
    assert isinstance(error, frames.Error)
    what = "answer" if kind == "requestResponse" else "first item"
    assert error.code == 0x203
    # The parent was asked first who serves it.
    left = re.fullmatch(rf"deadline exceeded: no {what} within the (\d+) ms that its caller had left here", error.text)
    assert left is not None, error.text
    assert 0 < int(left[1]) <= 250
    await until(lambda: lamp.canceled)
    assert 0 < left_ms(lamp.asked[0]) <= 250 - 2
    await nothing_is_left(edges)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_that_waits_longer_than_the_document_says(edges: Cluster, lamp: Hanging, kind: str) -> None:
    govern(edges, "250ms")
    phone = await edges.client("edge-a")
    error = await of(phone, ask(phone, kind, 60_000))
    assert isinstance(error, frames.Error)
    assert error.text.startswith("deadline exceeded: Service/lamp: ")
    await until(lambda: lamp.canceled)
    assert 0 < left_ms(lamp.asked[0]) <= 250 - 2


@pytest.mark.parametrize("kind", ["requestStream", "requestChannel"])
async def test_a_stream_that_runs_is_not_ended(edges: Cluster, lamp: Hanging, kind: str) -> None:
    """The one that has its first item goes on when the timeout of another, asked later, has ended that one."""
    govern(edges, "1s")
    phone = await edges.client("edge-a")
    running = ask(phone, kind)
    await until(lambda: lamp.asked)
    number = lamp.asked[0].stream_id
    lamp.client.send(frames.Payload(number, None, b"1", next=True))
    first = await of(phone, running)
    assert isinstance(first, frames.Payload), first
    hanging = ask(phone, kind)
    assert isinstance(await of(phone, hanging), frames.Error)
    await until(lambda: lamp.canceled)
    assert lamp.canceled == [lamp.asked[1].stream_id]
    lamp.client.send(frames.Payload(number, None, b"2", next=True))
    second = await of(phone, running)
    assert isinstance(second, frames.Payload), second
    assert (first.data, second.data) == (b"1", b"2")


@pytest.mark.soak
async def test_a_deadline_is_kept_within_20_ms(edges: Cluster, lamp: Hanging) -> None:
    """Issue 8: how much later its caller has the error, counted from when it asked. Alone on the machine."""
    govern(edges, "200ms")
    phone = await edges.client("edge-a")
    await of(phone, ask(phone, "requestResponse"))
    late_ms: list[float] = []
    for number in range(50):
        began = time.monotonic()
        assert isinstance(await of(phone, ask(phone, KINDS[number % 3])), frames.Error)
        late_ms.append((time.monotonic() - began - 0.2) * 1000)
    await until(lambda: len(lamp.canceled) == 51)
    late_ms.sort()
    print(
        f"after its deadline: least {late_ms[0]:.1f}, median {late_ms[25]:.1f}, p99 {late_ms[49]:.1f} ms of 50 requests"
    )
    # Of fifty, the 99th percentile is the last one. Early is no better than late.
    assert late_ms[0] >= -20
    assert late_ms[49] <= 20
