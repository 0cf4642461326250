"""What can be tried with a session that outlives its link, on real sockets (faults 46 to 50; P51 to P56)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, fnf, stream_request, until
from tests.rawclient import RawClient, composite
from tests.resumable import Resumable

TRANSPORTS = ["ws", "tcp"]
TOKEN = b"0123456789abcdef"
REJECTED_SETUP, REJECTED_RESUME, BROKEN = 0x003, 0x004, 0x101


class Device(Resumable):
    """A device that can come back: what it heard is in `frames`; `link` is what it is connected by."""

    link: RawClient

    def __init__(self, node: LocalNode, subject: str = "device-1", kind: str = "device", token: bytes = TOKEN) -> None:
        super().__init__(token)
        self.node = node
        self.subject = subject
        self.kind = kind
        self.frames: list[frames.Frame] = []

    def heard(self, frame: frames.Frame) -> None:
        self.frames.append(frame)

    async def set_up(self, transport: str, serving: tuple[str, ...] = ()) -> None:
        self.link = await self.node.connect(transport)
        token = self.node.token(self.subject, self.kind)
        self.begin(self.link.setup_frame(token, serving, resume_token=self.token), self.link.send)
        await self.sync()

    async def drop(self) -> None:
        """The link is lost, and the node knows."""
        parked = self.node.counters.sessions_parked
        self.cut()
        self.link.abort()
        await until(lambda: self.node.counters.sessions_parked == parked + 1)

    async def come_back(self, transport: str, **options: Any) -> None:
        self.link = await self.node.connect(transport, **options)
        self.resume(self.link.send)
        while self.resuming and self.refused is None:
            self.take(await self.link.recv_bytes())

    async def sync(self) -> None:
        """Take everything that the node has sent."""
        mark = b"sync"
        self.link.send(frames.KeepAlive(True, self.received.position, mark))
        while True:
            data = await self.link.recv_bytes()
            self.take(data)
            frame = frames.decode(data)
            if self.refused is not None or (isinstance(frame, frames.KeepAlive) and frame.data == mark):
                return


async def refused(node: LocalNode, transport: str, *sent: frames.Frame | bytes, code: int, **options: Any) -> str:
    """Send first frames that must get ERROR `code` and a close, and nothing else; return the text."""
    client = await node.connect(transport, **options)
    client.send(*sent, frames.RequestResponse(1, composite("gateway.time"), b""))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, code)
    assert (await client.recv_close())[0] == (1002 if transport == "ws" else None)
    assert client.skipped == []
    return error.text


async def alive(device: Device) -> None:
    """What was tried has left the session as it was: it goes on over its link."""
    assert await call(device.link, "gateway.time")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_46_guesses(node: LocalNode, transport: str) -> None:
    """Fault 46, P51: a token that is nearly right, short, or empty is told what every other is."""
    device = Device(node)
    await device.set_up(transport)
    guesses = [TOKEN[:-1], TOKEN[:-1] + b"g", TOKEN + b"\0", b"", bytes(16), b"t" * 128]
    texts = {await refused(node, transport, frames.Resume(guess, 0, 0), code=REJECTED_RESUME) for guess in guesses}
    assert texts == {"unknown resume token"}
    assert node.counters.resumes_refused == {"resume_unknown_token": len(guesses)}
    await alive(device)


async def test_fault_46_theft(node: LocalNode) -> None:
    """Fault 46: two clients, one token: who proves in the handshake to be another gets nothing, and learns nothing."""
    device = Device(node)
    await device.set_up("ws")
    resume = frames.encode(device.resume_frame())
    for subject, kind in (("thief", "device"), ("thief", "service")):
        headers = [("Authorization", f"Bearer {node.token(subject, kind)}")]
        text = await refused(node, "ws", resume, code=REJECTED_RESUME, headers=headers)
        assert text == "unknown resume token"
    forged = [("Authorization", "Bearer forged")]
    await refused(node, "ws", resume, code=REJECTED_RESUME, headers=forged)
    assert node.counters.resumes_refused == {"resume_other_holder": 2, "token_malformed": 1}
    await device.drop()
    await device.come_back("ws", headers=[("authorization", f"bearer {node.token('device-1', 'device')}")])
    assert device.resumed == 1
    await alive(device)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("other", TRANSPORTS)
async def test_fault_46_one_link_a_session(node: LocalNode, transport: str, other: str) -> None:
    """Fault 46: a RESUME takes over from a link that is still there; that gets ERROR 0x101 and 4409, and no more."""
    caller = await node.client("tcp")
    device = Device(node)
    await device.set_up(transport, ("lamp",))
    old = device.link
    await device.come_back(other)
    assert device.resumed == 1
    caller.send(fnf(caller, "lamp.set", b"1"))
    # What the old one still sends is nobody's.
    old.send(frames.RequestResponse(1, composite("gateway.time"), b""))
    await until(lambda: node.counters.fire_and_forget == 1)
    await device.sync()
    assert [type(frame) for frame in device.frames] == [frames.RequestFnf]
    code, _ = await old.recv_close()
    assert code == (4409 if transport == "ws" else None)
    assert [(frame.stream_id, frame.code) for frame in old.skipped if isinstance(frame, frames.Error)] == [(0, BROKEN)]
    assert len(old.skipped) == 1
    await alive(device)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_46_a_replayed_resume(node: LocalNode, transport: str) -> None:
    """Fault 46, P51: a RESUME that was listened in on is too old as soon as its client has confirmed anything."""
    caller = await node.client("tcp")
    device = Device(node)
    await device.set_up(transport, ("lamp",))
    await device.drop()
    listened = frames.encode(device.resume_frame())
    await device.come_back(transport)
    caller.send(fnf(caller, "lamp.set", b"1"))
    await until(lambda: node.counters.fire_and_forget == 1)
    await device.sync()
    await device.sync()
    await refused(node, transport, listened, code=REJECTED_RESUME)
    assert node.counters.resumes_refused == {"resume_not_retained": 1}
    await alive(device)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("parked", [False, True], ids=["linked", "parked"])
async def test_fault_47_positions(node: LocalNode, transport: str, parked: bool) -> None:
    """Fault 47, P51: what a client cannot have received, or no longer has, is REJECTED_RESUME; state is untouched."""
    caller = await node.client("tcp")
    device = Device(node)
    await device.set_up(transport, ("lamp",))
    for number in range(3):
        caller.send(fnf(caller, "lamp.set", b"%d" % number))
    await until(lambda: node.counters.fire_and_forget == 3)
    await device.sync()
    first, second, third = device.frames
    sizes = [len(frames.encode(frame)) for frame in (first, second, third)]
    # The node knows of the first two.
    device.link.send(frames.KeepAlive(False, sum(sizes[:2])))
    device.post(frames.RequestN(99, 1))
    await device.link.barrier()
    if parked:
        await device.drop()
    came, sent = sum(sizes), 10
    top = 1 << 63
    table = [
        (came + 1, 0, "resume_beyond_sent"),
        (top - 1, 0, "resume_beyond_sent"),
        (top, 0, "resume_beyond_sent"),
        (2 * top - 1, 0, "resume_beyond_sent"),
        (came - 1, 0, "resume_inside_frame"),
        (sum(sizes[:2]) - 1, 0, "resume_not_retained"),
        (0, 0, "resume_not_retained"),
        (came, sent + 1, "resume_client_lost"),
        (came, top - 1, "resume_client_lost"),
        (came, top, "resume_client_lost"),
    ]
    plain = frames.encode(frames.Resume(TOKEN, 0, 0))
    for received, available, reason in table:
        node.counters.resumes_refused.clear()
        claim = plain[:-16] + received.to_bytes(8, "big") + available.to_bytes(8, "big")
        await refused(node, transport, claim, code=REJECTED_RESUME)
        assert list(node.counters.resumes_refused) in ([reason], ["resume_malformed"]), (received, available)
        if max(received, available) < top:
            assert list(node.counters.resumes_refused) == [reason]
    device.frames.clear()
    # As if the third had not arrived.
    device.received.position -= sizes[2]
    await device.come_back(transport)
    await device.sync()
    assert device.frames == [third]
    assert device.resumed == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["device", "service"])
async def test_fault_48_overflow(start_node: StartNode, transport: str, kind: str) -> None:
    """Fault 48, P54: more than is kept for a parked session ends it: a clean REJECTED_RESUME, then a fresh SETUP."""
    node = await start_node({f"limits.{kind}.resume_bytes": 20_000})
    device = Device(node, kind=kind)
    await device.set_up(transport, ("lamp",))
    caller = await node.client("tcp")
    asked = caller.request("lamp.state")
    await until(lambda: node.connection(device.link).serving)
    await device.drop()
    for _ in range(30):
        caller.send(fnf(caller, "lamp.set", bytes(1000)))
    assert await caller.recv() == frames.Error(asked, 0x203, "responder disconnected")
    assert node.counters.closes["resume_overflowed"] == 1
    await device.come_back(transport)
    assert device.refused is not None
    assert (device.refused.code, device.resumed) == (REJECTED_RESUME, 0)
    again = Device(node, kind=kind)
    await again.set_up(transport, ("lamp",))
    caller.send(fnf(caller, "lamp.set", b"new"))
    await until(lambda: node.counters.fire_and_forget == 31 - node.counters.refusals.get("no_route", 0))
    await again.sync()
    assert [getattr(frame, "data", None) for frame in again.frames] == [b"new"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_48_hold_time(start_node: StartNode, transport: str) -> None:
    """Fault 48: a session that nobody comes back to is over after its time."""
    node = await start_node({"limits.device.resume_hold_s": 0.2})
    device = Device(node)
    await device.set_up(transport, ("lamp",))
    caller = await node.client("tcp")
    asked = caller.request("lamp.state")
    await until(lambda: node.connection(device.link).serving)
    await device.drop()
    assert await caller.recv() == frames.Error(asked, 0x203, "responder disconnected")
    assert node.counters.closes["resume_expired"] == 1
    await device.come_back(transport)
    assert device.refused is not None
    assert device.refused.code == REJECTED_RESUME


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_49_resume_where_it_may_not_be(node: LocalNode, transport: str) -> None:
    """Fault 49, P52: RESUME after SETUP, and a second RESUME, cost the connection, and the session with it."""
    for resumes in (0, 1):
        device = Device(node, token=b"%016d" % resumes)
        await device.set_up(transport)
        if resumes:
            await device.drop()
            await device.come_back(transport)
        device.link.send(frames.encode(device.resume_frame()))
        error = await device.link.recv()
        assert isinstance(error, frames.Error)
        assert (error.stream_id, error.code) == (0, BROKEN)
        assert (await device.link.recv_close())[0] == (1002 if transport == "ws" else None)
        await refused(node, transport, frames.Resume(device.token, 0, 0), code=REJECTED_RESUME)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("parked", [False, True], ids=["linked", "parked"])
async def test_fault_49_a_token_in_use(node: LocalNode, transport: str, parked: bool) -> None:
    """Fault 49, P53, P56: SETUP with the token of a session that lives gets its ERROR and is closed."""
    device = Device(node)
    await device.set_up(transport)
    if parked:
        await device.drop()
    for subject in ("device-1", "thief"):
        setup = RawClient.setup_frame(node.token(subject, "device"), resume_token=TOKEN)
        assert await refused(node, transport, setup, code=REJECTED_SETUP) == "resume token is in use"
    if parked:
        await device.come_back(transport)
    await alive(device)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_p56_a_refused_setup_that_asked_to_resume(node: LocalNode, transport: str) -> None:
    """P56: whatever it is refused for, it gets its ERROR and the close, and its token is free."""
    device = node.token("device-1", "device", services=("lamp",))
    for setup in (
        RawClient.setup_frame(device, ["other"], resume_token=TOKEN),
        RawClient.setup_frame("forged", resume_token=TOKEN),
    ):
        client = await node.connect(transport)
        client.send(setup)
        error = await client.recv()
        assert isinstance(error, frames.Error)
        assert (error.stream_id, error.code) == (0, REJECTED_SETUP)
        await client.recv_close()
    await Device(node).set_up(transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_50_another_node(start_node: StartNode, transport: str) -> None:
    """Fault 50, P55: a session belongs to its node; another says so at once, and a fresh SETUP works there."""
    first, second = await start_node(), await start_node()
    device = Device(first)
    await device.set_up(transport)
    device.node = second
    loop = asyncio.get_running_loop()
    began = loop.time()
    await device.come_back(transport)
    assert device.refused is not None
    assert device.refused.code == REJECTED_RESUME
    assert loop.time() - began < 10
    await Device(second).set_up(transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["device", "service"])
async def test_a_requester_of_a_parked_responder_waits(node: LocalNode, transport: str, kind: str) -> None:
    """P51: nothing is told to it, what it asks meanwhile is kept, and so is the credit that it has given."""
    device = Device(node, kind=kind)
    await device.set_up(transport, ("lamp",))
    caller = await node.client("tcp")
    caller.send(stream_request(101, "lamp.watch", b"", 3))
    await until(lambda: node.connection(device.link).serving)
    await device.sync()
    ((request,), device.frames) = (device.frames, [])
    assert isinstance(request, frames.RequestStream)
    item = frames.Payload(request.stream_id, None, b"", next=True)
    device.post(item)
    assert await caller.recv() == frames.Payload(101, None, b"", next=True)
    await device.drop()
    caller.send(frames.RequestN(101, 4))
    later = caller.request("lamp.state", b"later")
    assert await caller.barrier() == []
    # While it is away it has made one more.
    device.post(item)
    await device.come_back(transport)
    await device.sync()
    assert device.frames[0] == frames.RequestN(request.stream_id, 4)
    state = device.frames[1]
    assert isinstance(state, frames.RequestResponse)
    device.post(*[item] * 4, frames.Payload(request.stream_id, None, b"", next=True, complete=True))
    device.post(frames.Payload(state.stream_id, None, b"on", next=True, complete=True))
    got = [await caller.recv() for _ in range(7)]
    assert got[:5] == [frames.Payload(101, None, b"", next=True)] * 5
    assert got[5] == frames.Payload(101, None, b"", next=True, complete=True)
    assert got[6] == frames.Payload(later, None, b"on", next=True, complete=True)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_parked_requester_keeps_its_answers(node: LocalNode, transport: str) -> None:
    """P51: what is answered to a requester that has no link waits for it."""
    service = await node.client("tcp", serving=("slow",))
    device = Device(node)
    await device.set_up(transport)
    device.post(frames.RequestResponse(1, composite("slow.it"), b"?"))
    asked = await service.recv()
    assert isinstance(asked, frames.RequestResponse)
    await device.drop()
    service.send(frames.Payload(asked.stream_id, None, b"answer", next=True, complete=True))
    await service.barrier()
    await device.come_back(transport)
    await device.sync()
    assert device.frames == [frames.Payload(1, None, b"answer", next=True, complete=True)]
