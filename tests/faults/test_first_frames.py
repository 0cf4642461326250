"""The first frame of a connection: what is refused, with which codes, and that nothing behind it is served."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.wire import frames
from gateway.wire.metadata import encode_simple
from gateway.wire.mimetypes import AUTHENTICATION, ROUTING
from tests.local_node import LocalNode, call
from tests.rawclient import RawClient, composite

INVALID, UNSUPPORTED, REJECTED, NO_RESUME, BROKEN = 0x001, 0x002, 0x003, 0x004, 0x101


@dataclass(frozen=True)
class Case:
    """`make` gives the bytes of a first frame, `code` and `close` what must come back."""

    name: str
    make: Callable[[LocalNode], bytes]
    code: int
    close: int = 1002


def _setup(node: LocalNode, **fields: object) -> bytes:
    return frames.encode(RawClient.setup_frame(node.token(), **fields))


def _patched(node: LocalNode, at: int, value: bytes) -> bytes:
    """A good SETUP with `value` written over it at `at`."""
    good = bytearray(_setup(node))
    good[at : at + len(value)] = value
    return bytes(good)


def _fixed(frame: frames.Frame | bytes) -> Callable[[LocalNode], bytes]:
    data = frame if isinstance(frame, bytes) else frames.encode(frame)
    return lambda node: data


def _with_metadata(metadata: bytes) -> Callable[[LocalNode], bytes]:
    return lambda node: _setup(node, metadata=metadata)


def _token(**changes: object) -> Callable[[LocalNode], bytes]:
    return lambda node: frames.encode(RawClient.setup_frame(node.token(**changes), ["bench"]))  # type: ignore[arg-type]


def _expired(node: LocalNode) -> bytes:
    token = node.node.identity.mint("late", "device", (), (), 60, time.time() - 300)
    return frames.encode(RawClient.setup_frame(token))


_ROUTE = composite("echo.it")
_RESUME = frames.Resume(b"t" * 16, 0, 0)
_NOT_SETUP: list[frames.Frame] = [
    frames.RequestResponse(1, _ROUTE, b""),
    frames.RequestFnf(1, _ROUTE, b""),
    frames.RequestStream(1, _ROUTE, b"1", initial_n=1),
    frames.RequestChannel(1, _ROUTE, b"1", initial_n=1, complete=True),
    frames.RequestN(1, 1),
    frames.Cancel(1),
    frames.Payload(1, None, b"", next=True),
    frames.Error(0, BROKEN, "no"),
    frames.KeepAlive(respond=True),
    frames.Lease(1000, 10, None),
    frames.MetadataPush(b"x"),
    frames.ResumeOk(0),
]

CASES = [
    *(Case(f"P01 {type(frame).__name__}", _fixed(frame), INVALID) for frame in _NOT_SETUP),
    Case("P01 request on stream 0", _fixed(bytes.fromhex("000000001000")), INVALID),
    Case("P01 unknown type", _fixed(bytes.fromhex("000000008000")), INVALID),
    Case("P01 unknown type that may be ignored", _fixed(bytes.fromhex("000000008200")), INVALID),
    Case("P01 SETUP on stream 1", lambda node: _patched(node, 0, b"\0\0\0\1"), INVALID),
    Case("fault 8 no header", _fixed(b"\0\0\0\0\4"), BROKEN),
    Case("fault 8 nothing", _fixed(b""), BROKEN),
    Case("P04 version 0.2", lambda node: _patched(node, 6, b"\0\0\0\2"), UNSUPPORTED),
    Case("P04 version 1.1", lambda node: _patched(node, 6, b"\0\1\0\1"), UNSUPPORTED),
    Case("P04 version 2.0", lambda node: _patched(node, 6, b"\0\2\0\0"), UNSUPPORTED),
    Case("P08 keepalive 0", lambda node: _patched(node, 10, bytes(4)), INVALID),
    Case("P08 lifetime 0", lambda node: _patched(node, 14, bytes(4)), INVALID),
    Case("fault 21 keepalive with the top bit", lambda node: _patched(node, 10, b"\x80\0\0\1"), INVALID),
    Case("fault 21 lifetime with the top bit", lambda node: _patched(node, 14, b"\xff\xff\xff\xff"), INVALID),
    Case("P08 MIME beyond the frame", lambda node: _patched(node, 18, b"\xff"), INVALID),
    Case("P08 MIME of 200 bytes", lambda node: _setup(node, metadata_mime="m" * 200), INVALID),
    Case("P08 MIME that is not ASCII", lambda node: _patched(node, 19, b"\xff"), INVALID),
    Case("P24 metadata beyond the frame", lambda node: _setup(node)[:-20], INVALID),
    Case("X01 entry cut short", _with_metadata(b"\xfc\x00\x00\x09\x81tok"), INVALID),
    Case("X01 type cut short", _with_metadata(b"\x20abc"), INVALID),
    Case("X03 no type of authentication", _with_metadata(composite(entries=[(AUTHENTICATION, b"")])), INVALID),
    Case("fault 53 no metadata", lambda node: _setup(node, metadata=None), REJECTED, 4401),
    Case("fault 53 no token", _with_metadata(composite("echo.it")), REJECTED, 4401),
    Case("fault 53 nonsense", _fixed(frames.encode(RawClient.setup_frame("nonsense"))), REJECTED, 4401),
    Case("fault 62 5 kB of nonsense", _fixed(frames.encode(RawClient.setup_frame("a" * 5000))), REJECTED, 4401),
    Case("fault 61 expired", _expired, REJECTED, 4401),
    Case(
        "X03 simple authentication",
        _with_metadata(composite(entries=[(AUTHENTICATION, encode_simple("user", "password"))])),
        REJECTED,
        4401,
    ),
    Case("service that the token does not allow", _token(services=("other",)), REJECTED, 4403),
    Case("SETUP over a device's limit", lambda node: _device_setup(node, 8 * 1024 + 1), REJECTED),
    Case("SETUP over every limit", lambda node: _device_setup(node, 65_600), BROKEN, 1009),
]


def _device_setup(node: LocalNode, size: int) -> bytes:
    return frames.encode(RawClient.setup_frame(node.token(kind="device"), data=bytes(size)))


@pytest.mark.parametrize("transport", ["ws", "tcp"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_refused_first_frame(node: LocalNode, transport: str, case: Case) -> None:
    """P01 P02 P03 P04 P08 P24, faults 8, 17, 19, 20, 21: ERROR on stream 0, then the close, and nothing is served.

    The client sends a good SETUP and a request behind it in the same write, as one that cannot wait would.
    """
    servant = await node.servant()
    healthy = await node.client("tcp")
    client = await node.connect(transport)
    ask = frames.RequestResponse(1, _ROUTE, b"")
    tell = frames.RequestFnf(3, _ROUTE, b"")
    client.send(case.make(node), ask, client.setup_frame(node.token()), ask, tell)
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, case.code), error
    assert error.text
    code, _ = await client.recv_close()
    assert code == (case.close if transport == "ws" else None)
    assert client.skipped == []
    assert await call(healthy, data=b"alive") == b"alive"
    assert [frame.data for frame in servant.heard] == [b"alive"]
    assert len(node.node.plane.table) == 3  # gateway, echo, the healthy client


@pytest.mark.parametrize("transport", ["ws", "tcp"])
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda node: frames.encode(RawClient.setup_frame(node.token(kind="node"), resume_token=b"t" * 16)), REJECTED),
        (lambda node: _setup(node, resume_token=b"t" * 15), REJECTED),
        (_fixed(_RESUME), NO_RESUME),
    ],
    ids=["P05 not for nodes", "fault 46 token that can be guessed", "P51 RESUME of nothing"],
)
async def test_no_session_to_resume(
    node: LocalNode, transport: str, make: Callable[[LocalNode], bytes], code: int
) -> None:
    """P05 P51 P56, faults 20, 46: refused with the code that the specification names, and closed."""
    client = await node.connect(transport)
    client.send(make(node), frames.RequestResponse(1, composite("gateway.time"), b""))
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert error.stream_id == 0
    assert error.code == code
    assert (await client.recv_close())[0] == (1002 if transport == "ws" else None)
    assert client.skipped == []


@pytest.mark.parametrize("transport", ["ws", "tcp"])
async def test_setup_cut_short(node: LocalNode, transport: str) -> None:
    """P01 P08: every prefix of a SETUP frame is refused; none is taken for a shorter one, none is half read."""
    good = _setup(node, metadata=b"\xfe\0\0\1\0", metadata_mime="a/b", data_mime="c/d", data=b"")
    for length in range(len(good)):
        client = await node.connect(transport)
        client.send(good[:length])
        error = await client.recv()
        assert isinstance(error, frames.Error)
        assert (error.stream_id, error.code) == (0, BROKEN if length < 6 else INVALID), (length, error)
        assert (await client.recv_close())[0] == (1002 if transport == "ws" else None)
        await client.close()


@pytest.mark.parametrize(
    ("keepalive", "lifetime", "clamped"),
    [
        (1, 1, 5_000),
        (5_000, 4_999, 5_000),
        (20_000, 90_000, 90_000),
        (20_000, 10_000, 20_000),
        (1_000, 3_600_000, 3_600_000),
        (1_000, 3_600_001, 3_600_000),
        (0x7FFFFFFF, 0x7FFFFFFF, 3_600_000),
    ],
)
async def test_times_are_kept_within_bounds(node: LocalNode, keepalive: int, lifetime: int, clamped: int) -> None:
    """Fault 21: what a client proposes is clamped, not refused; readiness says what holds."""
    client = await node.connect()
    client.setup(node.token(), keepalive_ms=keepalive, lifetime_ms=lifetime)
    answer = await client.ready()
    assert (answer["keepalive_ms"], answer["lifetime_ms"]) == (keepalive, clamped)


@pytest.mark.parametrize("mime", [ROUTING, "application/json", "x"])
async def test_token_in_setup_data(node: LocalNode, mime: str) -> None:
    """Clients that cannot build composite metadata; protocol 1, "Identity"."""
    client = await node.connect("tcp")
    client.setup(metadata=None, metadata_mime=mime, data=b'{"token": "%s"}' % node.token("plain").encode())
    await client.barrier()
    assert node.connection(client).principal.subject == "plain"


@pytest.mark.parametrize("data", [b'{"token": 5}', b'{"token": ""}', b"{", b"[" * 100_000, b'{"a":' * 5_000, b"{\xff}"])
async def test_nonsense_in_setup_data(node: LocalNode, data: bytes) -> None:
    """Fault 51: not even JSON that no parser likes does more than be refused."""
    client = await node.connect("tcp")
    client.setup(metadata=None, data=data[:60_000])
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, REJECTED)
    assert (await client.recv_close()) == (None, "")
