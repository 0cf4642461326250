"""Who is let in: the decisions with a clock of their own, then a node that acts on them."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
import ssl

import pytest

from gateway.transport import admission, listener
from gateway.transport.admission import (
    CROWDED,
    FLAPPING,
    FULL,
    TOKENS_REFUSED,
    TOO_FAST,
    WINDOW_S,
    Admission,
    AdmissionRules,
    Refusal,
    Visitor,
)
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, until
from tests.rawclient import HandshakeRefused

TRANSPORTS = ["ws", "tcp"]
HOST = "192.0.2.1"


def let_in(doors: Admission, host: str = HOST, now: float = 0.0) -> Visitor:
    verdict = doors.arrive(host, now)
    assert isinstance(verdict, Visitor), verdict
    return verdict


# Decisions


@pytest.mark.parametrize("host", [HOST, "127.0.0.1", "local"])
def test_connections_of_a_node(host: str) -> None:
    """limits.max_connections: the last one that fits, one too many, and one that fits again; for every address."""
    doors = Admission(AdmissionRules(max_connections=3, max_unauthenticated=0), 0)
    visitors = [let_in(doors, host) for _ in range(3)]
    assert doors.arrive(host, 0) is FULL
    assert doors.arrive(host, 0) is FULL
    doors.leave(visitors[0], 0, in_peace=True)
    let_in(doors, host)
    assert doors.arrive(host, 0) is FULL


def test_rate_of_accepting() -> None:
    """limits.accept_rate, accept_burst, fault 16: shared by all addresses; it comes back evenly."""
    doors = Admission(AdmissionRules(accept_rate=10, accept_burst=4), 0)
    for number in range(4):
        let_in(doors, f"192.0.2.{number}")
    assert doors.arrive(HOST, 0) is TOO_FAST
    assert doors.arrive(HOST, 0.09) is TOO_FAST
    let_in(doors, now=0.15)
    assert doors.arrive(HOST, 0.15) is TOO_FAST
    for _ in range(4):
        let_in(doors, now=100)
    assert doors.arrive(HOST, 100) is TOO_FAST


def test_who_is_refused_by_address_takes_nothing_from_others() -> None:
    doors = Admission(AdmissionRules(accept_rate=1, accept_burst=3, max_unauthenticated=2), 0)
    for _ in range(2):
        let_in(doors)
    for _ in range(10):
        assert doors.arrive(HOST, 0) is CROWDED
    let_in(doors, "192.0.2.2")


def test_unauthenticated_connections_of_an_address() -> None:
    """limits.max_unauthenticated: those whose SETUP was accepted do not count, nor do those of others."""
    doors = Admission(AdmissionRules(max_unauthenticated=3), 0)
    visitors = [let_in(doors) for _ in range(3)]
    assert doors.arrive(HOST, 0) is CROWDED
    let_in(doors, "192.0.2.2")
    doors.accept(visitors[0])
    doors.accept(visitors[0])
    let_in(doors)
    assert doors.arrive(HOST, 0) is CROWDED
    doors.leave(visitors[1], 0, in_peace=False)
    let_in(doors)
    assert doors.arrive(HOST, 0) is CROWDED


@pytest.mark.parametrize("accepted", [True, False])
def test_flapping(accepted: bool) -> None:
    """limits.flapping, fault 16: the fifteenth that comes to nothing in a minute bars the address, for five minutes."""
    doors = Admission(AdmissionRules(), 0)

    def flap(now: float, *, in_peace: bool = False) -> None:
        visitor = let_in(doors, now=now)
        if accepted:
            doors.accept(visitor)
        doors.leave(visitor, now, in_peace=in_peace)

    for _ in range(40):
        flap(0, in_peace=True)
    for _ in range(14):
        flap(1)
    flap(1 + WINDOW_S)  # the minute is over: this is the first of the next one
    for _ in range(13):
        flap(1 + WINDOW_S)
    let_in(doors, now=1 + WINDOW_S)
    last = let_in(doors, now=2 + WINDOW_S)
    doors.leave(last, 2 + WINDOW_S, in_peace=False)
    assert doors.arrive(HOST, 2 + WINDOW_S) is FLAPPING
    let_in(doors, "192.0.2.2", 2 + WINDOW_S)
    assert doors.arrive(HOST, 1 + WINDOW_S + 300) is FLAPPING
    let_in(doors, now=2 + WINDOW_S + 300)


def test_refused_tokens() -> None:
    """limits.token_failures, fault 63: the tenth in a minute bars the address and turns away who waits there."""
    doors = Admission(AdmissionRules(max_flaps=0), 0)
    waiting, accepted = let_in(doors), let_in(doors)
    doors.accept(accepted)
    for _ in range(9):
        visitor = let_in(doors)
        assert doors.token_refused(visitor, 0) == []
        doors.leave(visitor, 0, in_peace=False)
    visitor = let_in(doors, now=1)
    assert doors.token_refused(visitor, 1) == [waiting]
    assert doors.arrive(HOST, 1) is TOKENS_REFUSED
    let_in(doors, now=301)


def test_loopback_is_spared_unless_it_is_not() -> None:
    """limits.loopback: everything that goes by rate or by address."""
    rules = AdmissionRules(accept_rate=1, accept_burst=1, max_unauthenticated=1, max_flaps=1, max_token_failures=1)
    for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        doors = Admission(rules, 0)
        for _ in range(10):
            visitor = let_in(doors, host)
            assert doors.token_refused(visitor, 0) == []
            doors.leave(visitor, 0, in_peace=False)
            let_in(doors, host)
        assert doors.addresses == 0
        doors = Admission(AdmissionRules(max_unauthenticated=1, loopback=True), 0)
        let_in(doors, host)
        assert doors.arrive(host, 0) is CROWDED


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::2:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    """A customer has 64 bits of version 6 to choose addresses from: they are one."""
    doors = Admission(AdmissionRules(max_unauthenticated=1), 0)
    let_in(doors, one)
    verdict = doors.arrive(other, 0)
    assert (verdict is CROWDED) == same


def test_memory_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_ADDRESSES", 10)
    doors = Admission(AdmissionRules(accept_rate=0), 0)
    stays = let_in(doors, "198.51.100.1")
    for number in range(200):
        doors.leave(let_in(doors, f"192.0.2.{number}", number / 100), number / 100, in_peace=False)
    assert doors.addresses <= 12
    doors.sweep(70)
    assert doors.addresses == 1
    doors.leave(stays, 70, in_peace=True)
    assert doors.addresses == 0
    assert doors.connections == 0


def test_nobody_is_let_in_while_the_doors_are_closed() -> None:
    doors = Admission(AdmissionRules(), 0)
    doors.closed_for = Refusal("memory", 503, "no")
    assert doors.arrive("127.0.0.1", 0) is doors.closed_for
    doors.closed_for = None
    let_in(doors, "127.0.0.1")


# A node that acts on them


async def refused(node: LocalNode, transport: str) -> HandshakeRefused | None:
    """Connect and see it refused: by a status on WebSocket, by the end of the socket on TCP."""
    if transport == "ws":
        with pytest.raises(HandshakeRefused) as caught:
            await node.connect("ws")
        assert 5 <= int(re.search(r"(?i)\r\nretry-after: (\d+)\r\n", caught.value.head)[1]) <= 30  # type: ignore[index]
        return caught.value
    client = await node.connect("tcp")
    assert await client.recv_close() == (None, "")
    return None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_full_node(start_node: StartNode, transport: str) -> None:
    """limits.max_connections: over both listeners; whoever goes makes room."""
    node = await start_node({"limits.max_connections": 3})
    clients = [await node.client(each) for each in ("ws", "tcp", transport)]
    told = await refused(node, transport)
    assert told is None or (told.status, told.body) == (503, FULL.text.encode() + b"\n")
    assert node.counters.closes == {"max_connections": 1}
    await clients[0].close()
    await until(lambda: node.node.admission.connections == 2)
    await node.client(transport)
    await refused(node, transport)
    for client in clients[1:]:
        await client.barrier()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_unauthenticated_connections(start_node: StartNode, transport: str) -> None:
    """limits.max_unauthenticated: 20 may wait for their SETUP, and the 21st is refused."""
    node = await start_node({"limits.loopback": True})
    waiting = [await node.connect(transport) for _ in range(20)]
    told = await refused(node, transport)
    assert told is None or told.status == 429
    assert node.counters.closes == {"max_unauthenticated": 1}
    waiting[0].setup(node.token())
    await waiting[0].ready()
    await node.connect(transport)
    await refused(node, transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_rate(start_node: StartNode, transport: str) -> None:
    """limits.accept_rate, faults 16 and 86."""
    node = await start_node({"limits.loopback": True, "limits.accept_rate": 2, "limits.accept_burst": 3})
    for _ in range(3):
        await node.client(transport)
    told = await refused(node, transport)
    assert told is None or told.status == 503
    assert node.counters.closes == {"accept_rate": 1}
    await asyncio.sleep(0.5)
    await node.client(transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refusals_are_rationed(start_node: StartNode, transport: str) -> None:
    """What a refusal costs is bounded too: beyond the ration the socket is closed without a word."""
    node = await start_node({"limits.max_connections": 1, "limits.accept_rate": 1, "limits.accept_burst": 2})
    client = await node.client()
    for _ in range(2):
        await refused(node, transport)
    if transport == "ws":
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await node.connect("ws")
    await client.barrier()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_flapping_address(start_node: StartNode, transport: str) -> None:
    """limits.flapping, fault 16: those that never got past SETUP, and those closed for what they did."""
    node = await start_node({"limits.loopback": True, "limits.flapping": 4, "limits.ban_s": 0.5})
    doors = node.node.admission
    for _ in range(5):
        await (await node.client(transport)).close()  # in peace
    for flaps in range(4):
        await until(lambda: not doors.connections)
        client = await (node.client if flaps % 2 else node.connect)(transport)
        if flaps % 2:
            client.send(b"\0\0\0\1\xf8\0")  # no frame type of RSocket's
            await client.recv_close()
        await client.close()
    await until(lambda: not doors.connections)
    told = await refused(node, transport)
    assert told is None or told.status == 429
    assert node.counters.closes["flapping"] == 1
    await asyncio.sleep(0.5)
    await node.client(transport)


async def test_asking_for_health_is_no_flapping(start_node: StartNode) -> None:
    node = await start_node({"limits.loopback": True, "limits.flapping": 2})
    for _ in range(5):
        with pytest.raises(HandshakeRefused) as answer:
            await node.connect("ws", path="/healthz")
        assert answer.value.status == 200
    await node.client()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refused_tokens_of_an_address(start_node: StartNode, transport: str) -> None:
    """limits.token_failures, fault 63: then not even a good token is looked at, whatever it comes on."""
    node = await start_node({"limits.loopback": True, "limits.token_failures": 3})
    works = await node.client(transport)
    waiting = await node.connect(transport)
    for _ in range(3):
        client = await node.connect(transport)
        client.setup("no token")
        code, _ = await client.recv_close()
        assert code == (4401 if transport == "ws" else None)
    code, text = await waiting.recv_close()
    assert (code, text) == ((4429, TOKENS_REFUSED.text) if transport == "ws" else (None, ""))
    assert waiting.skipped == [frames.Error(0, 0x003, TOKENS_REFUSED.text)]
    told = await refused(node, transport)
    assert told is None or told.status == 429
    assert node.counters.closes["rate_limited"] == 1
    assert node.counters.closes["token_failures"] == 1
    await works.barrier()


async def test_handshakes_at_once(start_node: StartNode) -> None:
    """limits.max_handshakes, fault 2: others wait in the system's queue and get their turn; the other port is free."""
    node = await start_node({"limits.max_handshakes": 3, "limits.tls_handshake_timeout_s": 0.5}, dev=False)
    tls = ssl.create_default_context(cafile=node.node.identity.ca_path)
    silent = [await asyncio.open_connection("127.0.0.1", node.port("tcp")) for _ in range(3)]
    await until(lambda: node.node.listeners["tcp"].handshakes == 3)
    waiting = asyncio.create_task(node.client("tcp", ssl=tls))
    await node.client("ws", ssl=tls)
    assert not waiting.done()
    await waiting  # its turn comes when the first of the silent ones is cut off
    await until(lambda: node.counters.closes == {"tls_handshake": 3})
    for _, writer in silent:
        writer.close()


async def test_a_burst_waits_for_its_turn(start_node: StartNode) -> None:
    """2,000 devices that come at once are none too many: handshakes go on a few at a time."""
    node = await start_node({"limits.max_handshakes": 4})
    clients = await asyncio.gather(*[node.client() for _ in range(60)])
    for client in clients:
        await client.barrier()
    assert node.counters.closes == {}


async def test_refusal_over_tls(start_node: StartNode) -> None:
    node = await start_node({"limits.max_connections": 1}, dev=False)
    tls = ssl.create_default_context(cafile=node.node.identity.ca_path)
    await node.client(ssl=tls)
    with pytest.raises(HandshakeRefused) as told:
        await node.connect("ws", ssl=tls)
    assert told.value.status == 503
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await node.connect("tcp", ssl=tls)


async def test_a_refusal_that_nobody_reads_is_over_soon(start_node: StartNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LINGER_S", 0.2)
    node = await start_node({"limits.max_connections": 1})
    client = await node.client("tcp")
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port("ws"))
    async with asyncio.timeout(30):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()
    await client.barrier()


async def test_accepting_rests_when_the_system_has_nothing_left(
    node: LocalNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 15, in this process: its own limit is set to what is open, and lifted again."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    stays = await node.client("tcp")
    spare = [socket.socket() for _ in range(3)]
    for opened in spare:
        opened.setblocking(False)
    used = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, before[1]))
        while True:
            try:
                spare.append(socket.socket())
            except OSError:
                break
        spare[0].connect_ex(("127.0.0.1", node.port("tcp")))
        await until(lambda: node.node.listeners["tcp"]._resting is not None)
        await stays.barrier()
        await asyncio.sleep(3 * listener.REST_S)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for opened in spare:
            opened.close()
    await node.client("tcp")
    lines = [record.message for record in caplog.records if "cannot accept" in record.message]
    assert lines == ["listen.tcp: cannot accept: Too many open files; it is tried again until it works"]
