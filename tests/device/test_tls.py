"""TLS with verification on: private CAs, elliptic and RSA, and everything that must be refused."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.device.conftest import Start
from tests.device.interpreters import Interpreter
from tests.device.peer import Link, Peer, gateway


def context(certificate: trustme.LeafCert, client_ca: trustme.CA | None = None) -> ssl.SSLContext:
    ctx = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(ctx)
    if client_ca is not None:
        client_ca.configure_trust(ctx)
        ctx.verify_mode = ssl.CERT_REQUIRED
    return ctx


def pem(ca: trustme.CA, directory: Path) -> Path:
    path = directory / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


def der(ca: trustme.CA, directory: Path) -> Path:
    path = directory / "ca.der"
    path.write_bytes(ssl.PEM_cert_to_DER_cert(ca.cert_pem.bytes().decode()))
    return path


def bundle(ca: trustme.CA, directory: Path) -> Path:
    path = directory / "bundle.pem"
    path.write_bytes(b"Two of them\n" + trustme.CA().cert_pem.bytes() + b"# ours:\r\n" + ca.cert_pem.bytes())
    return path


@pytest.fixture
def interpreter(interpreter: Interpreter) -> Interpreter:
    """TLS takes more heap, and how much depends on the certificate, of which each is another."""
    return interpreter.with_heap("64k") if interpreter.name == "micropython-mpy" else interpreter


@pytest.mark.parametrize("form", [pem, der, bundle])
@pytest.mark.parametrize("key", [trustme.KeyType.ECDSA, trustme.KeyType.RSA], ids=lambda key: key.name)
async def test_private_ca(
    key: trustme.KeyType,
    form: Callable[[trustme.CA, Path], Path],
    interpreter: Interpreter,
    start: Start,
    tmp_path: Path,
) -> None:
    if form is bundle and interpreter.name == "micropython-mpy":
        interpreter = interpreter.with_heap("72k")
    ca = trustme.CA(key_type=key)
    async with Peer(gateway, tls=context(ca.issue_cert("127.0.0.1", key_type=key))) as peer:
        program = await start(interpreter, "secure", peer.url, form(ca, tmp_path), "verify")
        await program.expect(echo="hello")
        await program.expect(echo="hello")
        await program.finish()


async def refused(peer: Peer, interpreter: Interpreter, start: Start, ca: Path) -> None:
    async with peer:
        program = await start(interpreter, "secure", peer.url, ca, "verify")
        line = await program.expect(up=False)
        assert line["error"][0] not in ("TimeoutError", "RSocketError", "MemoryError")
        await program.finish()
        assert not any(hasattr(link, "setup") for link in peer.links), "the token must not reach a stranger"


async def setup_only(link: Link) -> None:
    await link.accept()


async def test_wrong_ca(interpreter: Interpreter, start: Start, tmp_path: Path) -> None:
    peer = Peer(setup_only, tls=context(trustme.CA().issue_cert("127.0.0.1")))
    await refused(peer, interpreter, start, pem(trustme.CA(), tmp_path))


async def test_wrong_host(interpreter: Interpreter, start: Start, tmp_path: Path) -> None:
    ca = trustme.CA()
    peer = Peer(setup_only, tls=context(ca.issue_cert("gateway.example")))
    await refused(peer, interpreter, start, pem(ca, tmp_path))


async def test_expired_certificate(interpreter: Interpreter, start: Start, tmp_path: Path) -> None:
    ca = trustme.CA()
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    peer = Peer(setup_only, tls=context(ca.issue_cert("127.0.0.1", not_after=yesterday)))
    await refused(peer, interpreter, start, pem(ca, tmp_path))


async def test_tls_is_not_optional(interpreter: Interpreter, start: Start) -> None:
    """A wss:// address without a CA is a mistake, unless the device says that it means it."""
    program = await start(interpreter, "secure", "wss://127.0.0.1:1/rsocket", "", "nothing")
    line = await program.line()
    assert "tls" in line["refused"]
    await program.finish()
    async with Peer(gateway, tls=context(trustme.CA().issue_cert("elsewhere.example"))) as peer:
        program = await start(interpreter, "secure", peer.url, "", "insecure")
        await program.expect(echo="hello")
        await program.expect(echo="hello")
        await program.finish()


async def test_client_certificate(interpreter: Interpreter, start: Start, tmp_path: Path) -> None:
    if interpreter.name == "micropython-mpy":
        interpreter = interpreter.with_heap("72k")
    ca = trustme.CA()
    client = ca.issue_cert("dev-1", common_name="dev-1")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    client.cert_chain_pems[0].write_to_path(str(certificate))
    client.private_key_pem.write_to_path(str(key))
    if interpreter.is_micropython:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        certificate.write_bytes(ssl.PEM_cert_to_DER_cert(certificate.read_text()))
        key.write_bytes(
            private.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
    async with Peer(gateway, tls=context(ca.issue_cert("127.0.0.1"), ca)) as peer:
        program = await start(
            interpreter, "secure", peer.url, pem(ca, tmp_path), "client certificate", certificate, key
        )
        await program.expect(echo="hello")
        await program.expect(echo="hello")
        await program.finish()
