"""TLS on both listeners: versions, ciphers, names, deadlines, and what happens to those who do not speak it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

import gateway.front
import gateway.node
from gateway.errors import ConfigError
from gateway.transport import carrier
from gateway.transport.tls import Certificate
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, until
from tests.rawclient import RawClient

TRANSPORTS = ["ws", "tcp"]


@pytest.fixture(scope="session")
def named_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls") / "data"


@pytest.fixture
async def node(start_node: StartNode, named_data: Path) -> LocalNode:
    """A node as in production: TLS with the certificate that it issues itself."""
    return await start_node({"tls.names": "edge.example,10.1.2.3"}, dev=False, data=named_data)


@pytest.fixture
async def hasty(start_node: StartNode, named_data: Path) -> LocalNode:
    """The same, with less time for a handshake."""
    more = {"limits.tls_handshake_timeout_s": 0.8, "tls.names": "edge.example,10.1.2.3"}
    return await start_node(more, dev=False, data=named_data)


def trusting(node: LocalNode, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=node.node.identity.ca_path)
    if version is not None:
        with warnings.catch_warnings():
            # Old versions are asked for here to see them refused.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = version
            context.maximum_version = version
    return context


def _certificate(client: RawClient) -> dict[str, Any]:
    return dict(client._writer.get_extra_info("ssl_object").getpeercert())


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions(node: LocalNode, transport: str, version: ssl.TLSVersion) -> None:
    """Fault 3: 1.2 for microcontrollers, 1.3 for the rest; a request crosses from one to the other listener."""
    context = trusting(node, version)
    await node.servant("tcp", ssl=trusting(node))
    client = await node.client(transport, ssl=context)
    used = client._writer.get_extra_info("ssl_object")
    assert used.version() == version.name.replace("_", ".")
    assert used.compression() is None
    name, _, bits = used.cipher()
    assert "GCM" in name or "CHACHA20" in name
    assert bits >= 128
    assert await call(client, data=bytes(200_000)) == bytes(200_000)


async def test_old_versions_are_refused(node: LocalNode) -> None:
    """Fault 3: by the node, not by this client, which could."""
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = trusting(node, version)
        context.set_ciphers("ALL:@SECLEVEL=0")
        assert _agree(node, context) == version.name.replace("_", ".").removesuffix(".0")
        for transport in TRANSPORTS:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await node.connect(transport, ssl=context)
    await _counted(node, 4)


async def test_weak_ciphers_are_refused(node: LocalNode) -> None:
    """Fault 3: neither without forward secrecy nor without authenticated encryption."""
    for cipher in ("AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"):
        context = trusting(node, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(f"{cipher}:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await node.connect("tcp", ssl=context)
    await _counted(node, 3)


def _agree(node: LocalNode, client: ssl.SSLContext) -> str | None:
    """The version that a client and a server that takes every version agree on."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server.minimum_version = ssl.TLSVersion.TLSv1
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.load_cert_chain(node.node.identity.certificate_path)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return near.version()


async def _counted(node: LocalNode, number: int) -> None:
    """A failed handshake is counted, and held nothing but its socket."""
    await until(lambda: node.counters.closes == {"tls_handshake": number})
    assert all(listener.handshakes == 0 for listener in node.node.listeners.values())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_another_authority_is_not_trusted(
    node: LocalNode, start_node: StartNode, tmp_path: Path, transport: str
) -> None:
    # A directory that is there gets an identity of its own.
    other = await start_node(dev=False, data=tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        await node.connect(transport, ssl=trusting(other))
    with pytest.raises(ssl.SSLCertVerificationError):
        await node.connect(transport, ssl=ssl.create_default_context())
    await node.settle()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_certificate_is_for_every_name_of_the_node(node: LocalNode, transport: str) -> None:
    client = await node.client(transport, ssl=trusting(node))
    names = {name for _, name in _certificate(client)["subjectAltName"]}  # type: ignore[attr-defined]
    expected = {"localhost", "127.0.0.1", "0:0:0:0:0:0:0:1", "edge.example", "10.1.2.3", socket.gethostname()}
    assert {name.lower() for name in names} >= {name.lower() for name in expected}


async def test_client_that_names_no_server(node: LocalNode) -> None:
    """Fault 3: without SNI, as a microcontroller may come: there is one certificate, and it is shown."""
    context = trusting(node)
    context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port("tcp"), ssl=context, server_hostname="")
    client = RawClient(reader, writer, websocket=False)
    node.clients.append(client)
    client.setup(node.token())
    await client.ready()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_setup_deadline_starts_behind_the_handshake(start_node: StartNode, transport: str) -> None:
    """Fault 18, over TLS."""
    node = await start_node({"limits.setup_timeout_s": 0.3}, dev=False)
    client = await node.connect(transport, ssl=trusting(node))
    error = await client.recv()
    assert error == frames.Error(0, 0x101, "no SETUP in time")
    assert (await client.recv_close())[0] == (4408 if transport == "ws" else None)


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    wrapped = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        wrapped.do_handshake()
    return outgoing.read()


async def _until_end(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_dribbled_handshake_is_cut_off(hasty: LocalNode, transport: str) -> None:
    """Fault 2: bytes that keep coming do not move the deadline."""
    loop = asyncio.get_running_loop()
    healthy = await hasty.client("tcp", ssl=trusting(hasty))
    start = loop.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port(transport))
    ended = asyncio.create_task(_until_end(reader))
    for byte in _client_hello():
        writer.write(bytes((byte,)))
        if (await asyncio.wait({ended}, timeout=0.02))[0]:
            break
    assert ended.done(), "the handshake would have gone on"
    assert loop.time() - start >= 0.7
    writer.close()
    await healthy.barrier()
    await until(lambda: hasty.counters.closes == {"tls_handshake": 1})


async def test_what_is_no_tls_does_no_harm(hasty: LocalNode) -> None:
    """Fault 1, where TLS is spoken: silence and half a ClientHello are cut off, other bytes are refused at once."""
    healthy = await hasty.client("tcp", ssl=trusting(hasty))
    waiting, wrong = (
        [b"", _client_hello()[:60], b"\x16\x03\x01\x3f\xff" + bytes(1000)],
        [
            b"GET /rsocket HTTP/1.1\r\nHost: x\r\n\r\n",
            frames.encode(frames.KeepAlive(respond=True)),
            bytes(100_000),
            b"\xff" * 10,
        ],
    )
    loop = asyncio.get_running_loop()
    writers, ends = [], []
    for data in (*waiting, *wrong):
        for transport in TRANSPORTS:
            reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port(transport))
            writer.write(data)
            writers.append(writer)
            ends.append((data, loop.time(), asyncio.create_task(_until_end(reader))))
    for data, start, end in ends:
        await end
        if data in waiting:
            assert loop.time() - start > 0.7
    for writer in writers:
        writer.close()
    await _counted(hasty, len(ends))
    await healthy.barrier()
    assert len(hasty.node.plane.connections) == 3  # gateway, multicast, the healthy one


async def test_tls_to_a_plain_port(start_node: StartNode) -> None:
    """The other way about: the client hears at once that this is no TLS, instead of waiting for a deadline."""
    plain = await start_node()
    for transport in TRANSPORTS:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await plain.connect(transport, ssl=ssl.create_default_context())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_refusal_is_read_in_spite_of_data_in_flight(
    node: LocalNode, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P03, over TLS, which has no half-close: the ERROR frame still arrives, and then a clean end."""
    monkeypatch.setattr(carrier, "QUIET_S", 0.1)
    client = await node.connect(transport, ssl=trusting(node))
    client.setup("not a token")
    client.send(*[frames.Payload(1, None, bytes(8000), next=True)] * 500)
    await asyncio.sleep(0.05)
    error = await client.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (0, 0x003)
    assert (await client.recv_close())[0] == (4401 if transport == "ws" else None)
    await until(lambda: not node.residue())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_peer_that_keeps_sending_is_cut_off(
    node: LocalNode, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "QUIET_S", 0.05)
    monkeypatch.setattr(carrier, "LINGER_S", 0.3)
    client = await node.connect(transport, ssl=trusting(node))
    client.setup("not a token")
    async with asyncio.timeout(30):
        while node.residue():
            client.send(frames.Payload(1, None, bytes(100), next=True))
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("how", [RawClient.close, RawClient.abort])
async def test_ends(node: LocalNode, transport: str, how: Callable[[RawClient], object]) -> None:
    """A service over TLS goes, politely or by reset: its requester hears at once."""
    service = await node.client(transport, serving=("echo",), ssl=trusting(node))
    client = await node.client("tcp", ssl=trusting(node))
    number = client.request("echo.it")
    await service.recv()
    done = how(service)
    if done is not None:
        await done  # type: ignore[misc]
    assert await client.recv() == frames.Error(number, 0x203, "responder disconnected")


async def test_draining_is_quick(node: LocalNode) -> None:
    """Stopping does not wait for peers that neither answer nor close."""
    clients = [await node.client(transport, ssl=trusting(node)) for transport in TRANSPORTS]
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port("tcp"))
    await until(lambda: node.node.listeners["tcp"].handshakes == 1)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await node.stop()
    assert loop.time() - start < 8
    for client in clients:
        await client.recv_close()
        assert {frame.code for frame in client.skipped if isinstance(frame, frames.Error)} == {0x102}
    writer.close()
    assert await _until_end(reader) == b""


# Certificates that are replaced while the node runs


class _Pair:
    """The files of `tls.certificate` and `tls.key`."""

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "certificate.pem"
        self.key = directory / "key.pem"

    @property
    def settings(self) -> dict[str, object]:
        return {"tls.certificate": self.certificate, "tls.key": self.key}

    def put(self, issued: trustme.LeafCert) -> None:
        self.put_certificate(issued)
        self.key.write_bytes(issued.private_key_pem.bytes())

    def put_certificate(self, issued: trustme.LeafCert) -> None:
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))


async def _shown(node: LocalNode, transport: str, context: ssl.SSLContext) -> str:
    """The name in the certificate that a new connection is shown."""
    client = await node.client(transport, ssl=context)
    return str(_certificate(client)["subjectAltName"][0][1])


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    trusting.check_hostname = False
    return trusting


@pytest.mark.parametrize("how", ["change", "signal"])
async def test_new_certificate_without_a_restart(
    start_node: StartNode,
    tmp_path: Path,
    authority: trustme.CA,
    context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """The next connection on either listener is shown the new one; those that stand go on."""
    monkeypatch.setattr(gateway.front, "CHECK_S", 0.05 if how == "change" else 3600)
    pair = _Pair(tmp_path)
    pair.put(authority.issue_cert("old.example"))
    node = await start_node(pair.settings, dev=False)
    stays = [await node.client(transport, ssl=context) for transport in TRANSPORTS]
    assert [await _shown(node, transport, context) for transport in TRANSPORTS] == ["old.example"] * 2
    pair.put(authority.issue_cert("new.example"))
    before = node.node.certificate
    assert before is not None
    old = before.context
    if how == "signal":
        node.node.reload_certificate()
    await until(lambda: before.context is not old)
    assert [await _shown(node, transport, context) for transport in TRANSPORTS] == ["new.example"] * 2
    for client in stays:
        await client.barrier()


@pytest.mark.parametrize("wrong", ["no PEM", "", "half", None])
async def test_bad_pair_keeps_the_old_one(
    start_node: StartNode,
    tmp_path: Path,
    authority: trustme.CA,
    context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: str | None,
) -> None:
    """Fault 67: said in one line, however often it is looked at, and mended by the next change."""
    monkeypatch.setattr(gateway.front, "CHECK_S", 0.02)
    pair = _Pair(tmp_path)
    pair.put(authority.issue_cert("old.example"))
    node = await start_node(pair.settings, dev=False)
    good = authority.issue_cert("new.example")
    if wrong == "half":
        pair.put_certificate(good)
    elif wrong is None:
        pair.certificate.unlink()
    else:
        pair.certificate.write_text(wrong)
    told = ""

    def said() -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return "the old certificate stays in use" in told

    await until(said)
    await asyncio.sleep(0.2)
    said()
    assert told.count("the old certificate stays in use") == 1
    assert str(pair.certificate) in told
    for transport in TRANSPORTS:
        assert await _shown(node, transport, context) == "old.example"
    pair.put(good)
    certificate = node.node.certificate
    assert certificate is not None
    old = certificate.context
    await until(lambda: certificate.context is not old)
    assert await _shown(node, "ws", context) == "new.example"


def test_one_file_and_then_the_other(tmp_path: Path, authority: trustme.CA) -> None:
    """A change is read when it stands still: between two files that are replaced there is no good pair."""
    pair = _Pair(tmp_path)
    pair.put(authority.issue_cert("old.example"))
    certificate = Certificate(pair.certificate, pair.key)
    old = certificate.context
    assert not certificate.refresh(only_if_changed=True)
    good = authority.issue_cert("new.example")
    pair.put_certificate(good)
    assert not certificate.refresh(only_if_changed=True)
    pair.put(good)
    assert not certificate.refresh(only_if_changed=True)
    assert certificate.context is old
    assert certificate.refresh(only_if_changed=True)
    assert certificate.context is not old
    assert not certificate.refresh(only_if_changed=True)
    pair.key.write_text("not a key")
    with pytest.raises(ConfigError, match=r"key\.pem cannot be used"):
        certificate.refresh()
    assert not certificate.refresh(only_if_changed=True)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_own_certificate_is_renewed_while_the_node_runs(
    start_node: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """A node that is not started again for a year: near its end the certificate is issued anew, for the same names, and
    the next connection is shown it; those that stand go on.
    """
    monkeypatch.setattr(gateway.front, "CHECK_S", 0.02)
    node = await start_node({"tls.names": ["edge.example"]}, dev=False, data=tmp_path / "data")
    identity = node.node.identity
    trusting = ssl.create_default_context(cafile=identity.ca_path)
    certificate = node.node.certificate
    assert certificate is not None

    async def seen() -> dict[str, Any]:
        client = await node.client(transport, ssl=trusting, host="127.0.0.1")
        return _certificate(client)

    fresh = await seen()
    began = certificate.context
    # As if it had been issued 380 days ago.
    identity.renew_certificate(time.time() - 380 * 86400)
    await until(lambda: certificate.context is not began)
    old = certificate.context
    stays = await node.client(transport, ssl=trusting, host="127.0.0.1")
    shown = await seen()
    node.node._renewal_at = 0.0  # an hour later
    await until(lambda: certificate.context is not old)
    renewed = await seen()
    assert len({fresh["serialNumber"], renewed["serialNumber"]}) == 2
    assert shown["subjectAltName"] == renewed["subjectAltName"] == fresh["subjectAltName"]
    assert ("DNS", "edge.example") in renewed["subjectAltName"]
    left = ssl.cert_time_to_seconds(renewed["notAfter"]) - time.time()
    assert left > 390 * 86400
    await stays.barrier()
    current = certificate.context
    await asyncio.sleep(0.3)
    assert certificate.context is current


async def test_a_certificate_that_cannot_be_renewed(
    start_node: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 67: it is said, and the old one stays in use."""
    monkeypatch.setattr(gateway.front, "CHECK_S", 0.02)
    monkeypatch.setattr(gateway.node, "RENEWAL_CHECK_S", 0.1)
    node = await start_node({"tls.names": ["edge.example"]}, dev=False, data=tmp_path / "data")
    identity = node.node.identity
    (identity.directory / "ca-key.pem").write_text("damaged")
    told = ""

    def said() -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return "the certificate cannot be renewed" in told

    await until(said)
    assert "ca-key.pem" in told
    client = await node.client("ws", ssl=ssl.create_default_context(cafile=identity.ca_path), host="127.0.0.1")
    await client.barrier()
