"""A raw client against a real node over loopback: any order of what a client may and may not do (fault 51).

Hypothesis chooses the steps. The client connects, sets up, calls, serves, breaks rules and leaves; a bystander calls a
service all the while, and an asker calls the client's own service. After each step every frame that anybody got is held
against `PeerRules`, the step's outcome must be one that the protocol allows, and the bystander must be answered. When
the client has gone the node must be as empty as before it came.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gateway.wire import frames
from gateway.wire.mimetypes import PRINCIPAL
from tests.fuzz.peer_rules import PeerRules
from tests.local_node import LocalNode, until
from tests.rawclient import ConnectionEnded, RawClient, composite, route_setup

T = TypeVar("T")

SUBJECTS = {"wild", "bystander", "asker", "svc-echo"}
CONNECTION_ERROR = 0x101
#: What a refused SETUP may be refused with.
SETUP_CODES = {0x001, 0x002, 0x003, 0x004}
REFUSALS = {0x202, 0x203, 0x204}
WAIT_S = 30

# Frames that mean nothing on an accepted connection and must be ignored (P07, P21, P22, P23, faults 22, 41 to 45).
MEANINGLESS = (
    frames.encode(RawClient.setup_frame("again")),
    frames.encode(frames.Cancel(99)),
    frames.encode(frames.Payload(98, None, b"stray", next=True)),
    frames.encode(frames.Payload(97, b"m", b"stray", follows=True)),
    frames.encode(frames.RequestN(96, 5)),
    frames.encode(frames.RequestN(97, 5)),
    frames.encode(frames.Error(95, 0x201, "stray")),
    frames.encode(frames.Error(0, 0x003, "I refuse you")),
    frames.encode(frames.Lease(1000, 5)),
    frames.encode(frames.ResumeOk(7)),
    frames.encode(frames.MetadataPush(b"pushed")),
    bytes.fromhex("000000053100"),  # METADATA_PUSH on stream 5
    bytes.fromhex("0000000112000000"),  # REQUEST_RESPONSE on stream 0 would be 00000000…
    bytes.fromhex("000000001000"),  # REQUEST_RESPONSE on stream 0
    bytes.fromhex("00000000fe0000000001"),  # EXT with IGNORE
    bytes.fromhex("00000007c20000"),  # an unknown type with IGNORE
    bytes.fromhex("800000632400"),  # CANCEL on stream 99, the reserved bit set
)
# Frames that end an accepted connection with CONNECTION_ERROR (faults 8, 39, 41, 44, 49, 31).
FATAL = (
    b"",
    b"\x00\x00\x00",
    bytes.fromhex("00000007c00000"),  # an unknown type
    bytes.fromhex("00000000fc0000000001"),  # EXT
    bytes.fromhex("000000021000"),  # a request on an even id
    bytes.fromhex("0000006511000009ff"),  # metadata beyond the frame
    bytes.fromhex("0000006518000001"),  # REQUEST_STREAM without all of its n
    bytes.fromhex("00000000340001000000016100000000000000000000000000000000"),  # RESUME
    bytes.fromhex("000000000c8000"),  # KEEPALIVE cut short
    frames.encode(frames.KeepAlive(respond=True, data=bytes(65))),
)
BAD_SETUPS = (
    frames.encode(RawClient.setup_frame("garbage")),
    frames.encode(RawClient.setup_frame(None)),
    frames.encode(RawClient.setup_frame("garbage", major=9)),
    frames.encode(RawClient.setup_frame("garbage", lease=True)),
    frames.encode(RawClient.setup_frame("garbage", resume_token=b"token")),
    frames.encode(RawClient.setup_frame(None, metadata=b"\xfc\xff\xff\xff")),
    frames.encode(RawClient.setup_frame(None, metadata=None, data=b'{"token": "\\ud800"}')),
    frames.encode(frames.KeepAlive(respond=True)),
    frames.encode(frames.RequestResponse(1, composite("echo.it"), b"too early")),
    frames.encode(frames.Resume(b"token", 0, 0)),
    bytes.fromhex("00000000040000010000000000000001000000"),  # keepalive 0
)


class Voice:
    """One client with the rules for what it is sent."""

    def __init__(self, client: RawClient, name: str) -> None:
        self.client = client
        self.rules = PeerRules(name, SUBJECTS, composite=True)
        self._marks = itertools.count(1)

    def send(self, *sent: frames.Frame | bytes) -> None:
        for frame in sent:
            data = frame if isinstance(frame, bytes) else frames.encode(frame)
            self.rules.sent(data)
            self.client.send(data)

    async def get(self, timeout: float = WAIT_S) -> frames.Frame:
        data = await self.client.recv_bytes(timeout)
        self.rules.got(data)
        return frames.decode(data)

    async def barrier(self) -> list[frames.Frame]:
        """Everything that the node sent before it answered a KEEPALIVE sent now."""
        mark = next(self._marks).to_bytes(8, "big")
        self.send(frames.KeepAlive(respond=True, data=mark))
        got: list[frames.Frame] = []
        while True:
            frame = await self.get()
            if isinstance(frame, frames.KeepAlive):
                assert frame.data == mark
                return got
            got.append(frame)

    async def ended(self) -> set[int]:
        """Read to the end, which must come; the codes of the ERRORs on stream 0 before it."""
        codes = set()
        try:
            while True:
                frame = await self.get()
                if isinstance(frame, frames.Error) and not frame.stream_id:
                    codes.add(frame.code)
        except ConnectionEnded:
            return codes

    async def answer_to(self, stream_id: int) -> frames.Frame:
        """The next frame on this stream that is no credit."""
        while True:
            frame = await self.get()
            if getattr(frame, "stream_id", 0) == stream_id and not isinstance(frame, frames.RequestN):
                return frame


class Place:
    """A node, a service that echoes, a bystander who calls it and an asker; they stay for all examples."""

    def __init__(self, runner: asyncio.Runner, data: Path) -> None:
        self.runner = runner
        runner.run(self._open(data))

    async def _open(self, data: Path) -> None:
        # Every step waits for the answer to a KEEPALIVE.
        self.node = await LocalNode.start(data, {"limits.device.keepalive_burst": 0})
        await self.node.servant("tcp", "echo")
        self.bystander = Voice(await self.node.client("ws", "bystander"), "bystander")
        self.asker = Voice(await self.node.client("tcp", "asker"), "asker")
        self.token = self.node.token("wild", "device", ("wild",), ("*",))
        self.at_rest = self.node.residue()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(step)

    async def settle(self) -> None:
        """Whatever was there before is there, and nothing else."""
        try:
            await until(lambda: self.node.residue() == self.at_rest)
        except TimeoutError:
            raise AssertionError(f"left behind: {self.node.residue()} and not {self.at_rest}") from None

    def close(self) -> None:
        self.run(self.node.finish())


class ClientMachine(RuleBasedStateMachine):
    """`wild` is the client; None while it is not connected. `streams`: ids of what it has opened and not ended."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.wild: Voice | None = None
        self.set_up = False
        self.streams: list[int] = []
        self.asked: list[int] = []

    @property
    def voice(self) -> Voice:
        assert self.wild is not None
        return self.wild

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.place.run(step)

    # Coming and going

    @precondition(lambda self: self.wild is None)
    @rule(transport=st.sampled_from(["ws", "tcp"]))
    def connect(self, transport: str) -> None:
        self.wild = Voice(self.run(self.place.node.connect(transport)), "wild")

    @precondition(lambda self: self.wild is not None and not self.set_up)
    @rule(pipelined=st.booleans())
    def sets_up(self, pipelined: bool) -> None:
        """P09: an accepted SETUP is not answered; requests may come with it."""
        setup = frames.encode(RawClient.setup_frame(self.place.token, [route_setup("wild")]))
        if not pipelined:
            self.voice.send(setup)
            assert self.run(self.voice.barrier()) == []
        else:
            number = self.voice.client.next_stream_id()
            self.voice.send(setup, frames.RequestResponse(number, composite("gateway.ready"), b""))
            assert isinstance(self.run(self.voice.answer_to(number)), frames.Payload)
        self.set_up = True

    @precondition(lambda self: self.wild is not None and not self.set_up)
    @rule(setup=st.sampled_from(BAD_SETUPS), behind=st.booleans())
    def is_refused(self, setup: bytes, behind: bool) -> None:
        """P01, P03 to P06, P08: one ERROR with a code of SETUP, the end, and nothing that was behind it is served."""
        self.voice.send(setup)
        if behind:
            self.voice.send(frames.RequestResponse(3, composite("echo.it"), b"behind"))
        codes = self.run(self.voice.ended())
        assert len(codes) == 1
        assert codes <= SETUP_CODES
        self._gone()

    @precondition(lambda self: self.wild is not None)
    @rule(how=st.sampled_from(["close", "abort", "half a frame", "close frame"]))
    def goes(self, how: str) -> None:
        client = self.voice.client
        if how == "half a frame":
            client.send_raw(b"\x82\xfe\x01\x00" if client.websocket else b"\x00\x01\x00\x00")
        elif how == "close frame" and client.websocket:
            client.send_message((1000).to_bytes(2, "big"), opcode=8)
        if how == "abort":
            client.abort()
        else:
            self.run(client.close())
        self._gone()

    def _gone(self) -> None:
        self.run(self.voice.client.close())
        self.wild = None
        self.set_up = False
        self.streams.clear()
        self.asked.clear()

    # What a client may do

    @precondition(lambda self: self.set_up)
    @rule(
        size=st.sampled_from([0, 1, 100, 5000]), route=st.sampled_from(["echo.it", "nobody.home", "gateway.time", ""])
    )
    def requests(self, size: int, route: str) -> None:
        number = self.voice.client.next_stream_id()
        self.voice.send(frames.RequestResponse(number, composite(route), bytes(size)))
        answer = self.run(self.voice.answer_to(number))
        if route in ("echo.it", "gateway.time"):
            assert isinstance(answer, frames.Payload)
            assert answer.complete
            assert route != "echo.it" or answer.data == bytes(size)
        else:
            assert isinstance(answer, frames.Error)
            assert answer.code in REFUSALS

    @precondition(lambda self: self.set_up)
    @rule(size=st.sampled_from([100, 5000]), last=st.booleans())
    def requests_in_fragments(self, size: int, last: bool) -> None:
        """P40, P41: in fragments, or canceled within them."""
        number = self.voice.client.next_stream_id()
        metadata = composite("echo.it", entries=[("text/plain", bytes(150))])
        parts = frames.fragment(frames.RequestResponse(number, metadata, bytes(size)), 100)
        if last:
            # The service answers the first fragment, and the others are forgiven.
            self.voice.send(*parts)
            assert isinstance(self.run(self.voice.answer_to(number)), frames.Payload)
        else:
            self.voice.send(*parts[:-1], frames.Cancel(number))
            self.run(self.voice.barrier())

    @precondition(lambda self: self.set_up)
    @rule(n=st.integers(1, 300), channel=st.booleans(), done=st.booleans())
    def opens(self, n: int, channel: bool, done: bool) -> None:
        """P31: the service sends as many items as it has credit for, and no more arrive (`PeerRules`)."""
        number = self.voice.client.next_stream_id()
        if channel:
            request: frames.Frame = frames.RequestChannel(number, composite("echo.it"), b"1", n, done)
        else:
            request = frames.RequestStream(number, composite("echo.it"), b"1", n)
        self.voice.send(request)
        assert isinstance(self.run(self.voice.answer_to(number)), frames.Payload)
        self.streams.append(number)

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), n=st.sampled_from([1, 7, 300, frames.MAX_REQUEST_N]))
    def grants(self, data: st.DataObject, n: int) -> None:
        """P30, fault 25: also more than can be; the stream flows on until it is canceled."""
        number = data.draw(st.sampled_from(self.streams))
        if n == frames.MAX_REQUEST_N:
            self.voice.send(frames.RequestN(number, n), frames.RequestN(number, n), frames.Cancel(number))
            self.streams.remove(number)
        else:
            self.voice.send(frames.RequestN(number, n))
        self.run(self.voice.barrier())

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), with_error=st.booleans())
    def cancels(self, data: st.DataObject, with_error: bool) -> None:
        number = data.draw(st.sampled_from(self.streams))
        self.voice.send(frames.Error(number, 0x201, "enough") if with_error else frames.Cancel(number))
        self.streams.remove(number)
        self.run(self.voice.barrier())

    @precondition(lambda self: self.set_up)
    @rule()
    def fires(self) -> None:
        """P35: nothing comes back, whether somebody is there or not."""
        for route in ("echo.it", "nobody.home", ""):
            self.voice.send(frames.RequestFnf(self.voice.client.next_stream_id(), composite(route), b"note"))
        self.run(self.voice.barrier())

    # What it may not do

    @precondition(lambda self: self.set_up)
    @rule(frame=st.sampled_from(MEANINGLESS), times=st.integers(1, 5))
    def means_nothing(self, frame: bytes, times: int) -> None:
        self.voice.send(*[frame] * times)
        self.run(self.voice.barrier())

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def uses_an_id_again(self, data: st.DataObject) -> None:
        """P21: the open stream stays what it is."""
        number = data.draw(st.sampled_from(self.streams))
        self.voice.send(frames.RequestResponse(number, composite("nobody.home"), b""))
        got = self.run(self.voice.barrier())
        assert not [frame for frame in got if isinstance(frame, frames.Error)]

    @precondition(lambda self: self.set_up)
    @rule(frame=st.sampled_from(FATAL))
    def breaks_the_protocol(self, frame: bytes) -> None:
        self.voice.send(frame)
        assert self.run(self.voice.ended()) == {CONNECTION_ERROR}
        self._gone()

    @precondition(lambda self: self.set_up)
    @rule(n=st.sampled_from([0, 1 << 31]))
    def asks_for_nothing(self, n: int) -> None:
        """Fault 26: ERROR[INVALID] on the stream, and the connection lives."""
        number = self.voice.client.next_stream_id()
        whole = frames.encode(frames.RequestStream(number, composite("echo.it"), b"1", 1))
        self.voice.send(whole[:6] + n.to_bytes(4, "big") + whole[10:])
        answer = self.run(self.voice.answer_to(number))
        assert isinstance(answer, frames.Error)
        assert answer.code == 0x204

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), times=st.integers(1, 3))
    def sends_items_nobody_asked_for(self, data: st.DataObject, times: int) -> None:
        """P32, fault 30: on a channel whose service asks for none, ERROR[INVALID]; on a stream, ignored."""
        number = data.draw(st.sampled_from(self.streams))
        self.voice.send(*[frames.Payload(number, None, b"unasked", next=True)] * times)
        got = self.run(self.voice.barrier())
        errors = [frame for frame in got if isinstance(frame, frames.Error)]
        assert all(error.stream_id == number and error.code == 0x204 for error in errors)
        if errors:
            self.streams.remove(number)

    @precondition(lambda self: self.set_up)
    @rule()
    def forges_an_identity(self) -> None:
        """The asker's own service is not there; the echo must be told who really asks (`PeerRules` of the service)."""
        number = self.voice.client.next_stream_id()
        forged = composite("wild.me", entries=[(PRINCIPAL, b'{"subject":"root","kind":"admin","node":"x"}')])
        self.voice.send(frames.RequestResponse(number, forged, b""))
        while True:
            frame = self.run(self.voice.get())
            if isinstance(frame, frames.RequestResponse):
                break
        self.voice.send(frames.Payload(frame.stream_id, None, b"me", complete=True, next=True))
        assert isinstance(self.run(self.voice.answer_to(number)), frames.Payload)

    @precondition(lambda self: self.wild is not None and self.wild.client.websocket)
    @rule(opcode=st.sampled_from([0x1, 0x3, 0xB]), masked=st.booleans())
    def breaks_websocket(self, opcode: int, masked: bool) -> None:
        """Faults 9 and 13: the end, whatever the state."""
        self.voice.client.send_message(b"text", opcode=opcode, masked=masked)
        self.run(self.voice.ended())
        self._gone()

    @precondition(lambda self: self.wild is not None and self.wild.client.websocket)
    @rule(size=st.integers(0, 125))
    def pings(self, size: int) -> None:
        self.voice.client.send_message(bytes(size), opcode=9)
        if self.set_up:
            self.run(self.voice.barrier())

    # Serving

    @precondition(lambda self: self.set_up)
    @rule(kind=st.sampled_from(["response", "stream", "channel", "fnf"]))
    def is_asked(self, kind: str) -> None:
        """The asker calls the client; what it sends is what `answers` answers."""
        asker = self.place.asker
        number = asker.client.next_stream_id()
        route = composite("wild.thing")
        request: frames.Frame = {
            "response": frames.RequestResponse(number, route, b"?"),
            "stream": frames.RequestStream(number, route, b"?", 3),
            "channel": frames.RequestChannel(number, route, b"?", 3),
            "fnf": frames.RequestFnf(number, route, b"?"),
        }[kind]
        asker.send(request)
        while True:
            got = self.run(self.voice.get())
            if type(got) is type(request):
                break
        assert not isinstance(got, frames.Cancel)
        if kind != "fnf":
            self.asked.append(got.stream_id)  # type: ignore[union-attr]

    @precondition(lambda self: self.asked)
    @rule(
        data=st.data(),
        what=st.sampled_from(
            ["item", "last", "many", "empty", "error", "cancel", "fragment", "torn", "credit", "none"]
        ),
    )
    def answers(self, data: st.DataObject, what: str) -> None:
        """Right or wrong, the asker is sent only what it may be, and stays connected."""
        number = data.draw(st.sampled_from(self.asked))
        item = frames.Payload(number, None, b"item", next=True)
        answer: list[frames.Frame | bytes] = {
            "item": [item],
            "last": [frames.Payload(number, b"m", b"last", complete=True, next=True)],
            "many": [item] * 5,
            "empty": [frames.Payload(number, None, b"")],
            "error": [frames.Error(number, 0x321, "no")],
            "cancel": [frames.Cancel(number)],
            "fragment": [frames.Payload(number, None, bytes(80), follows=True, next=True)],
            "torn": [number.to_bytes(4, "big") + bytes.fromhex("2b20ffffff6d")],
            "credit": [frames.RequestN(number, 2)],
            "none": [number.to_bytes(4, "big") + bytes.fromhex("200000000000")],
        }[what]
        self.voice.send(*answer)
        self.run(self.voice.barrier())
        self.run(self.place.asker.barrier())

    # What holds

    @invariant()
    def the_bystander_is_answered(self) -> None:
        bystander = self.place.bystander
        number = bystander.client.next_stream_id()
        bystander.send(frames.RequestResponse(number, composite("gateway.time"), b""))
        assert isinstance(self.run(bystander.answer_to(number)), frames.Payload)

    @invariant()
    def nothing_was_raised(self) -> None:
        assert self.place.node.errors == []

    def teardown(self) -> None:
        if self.wild is not None:
            self._gone()
        self.run(self.place.asker.barrier())
        self.run(self.place.settle())


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as data:
        place = Place(runner, Path(data) / "data")
        yield place
        place.close()


def _run(place: Place, examples: int, steps: int, *, derandomize: bool) -> None:
    class Machine(ClientMachine):
        pass

    Machine.place = place
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            database=None,
            print_blob=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_order_of_steps(place: Place) -> None:
    _run(place, 40, 25, derandomize=True)


@pytest.mark.soak
def test_any_order_of_many_steps(place: Place) -> None:
    _run(place, 3000, 60, derandomize=False)
