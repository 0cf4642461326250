"""Devices that share a key with the node, in place of certificates."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.transport import shared_keys
from tests.conftest import StartNode
from tests.local_node import LocalNode, until
from tests.rawclient import RawClient

KEY = "00112233445566778899aabbccddeeff"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# the shed\n\nsensor-1:{KEY}\nurn:dev:2:{KEY[::-1]}\n")
    return path


def test_keys_are_read(file: Path) -> None:
    """An identity may have colons, a key has none."""
    assert shared_keys.read(file) == {"sensor-1": bytes.fromhex(KEY), "urn:dev:2": bytes.fromhex(KEY[::-1])}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sensor-1", "line 1: it is identity:key"),
        (f"{'x' * 129}:{KEY}", "line 1: it is identity:key"),
        (f"a:{KEY}\na:{KEY}", "line 2: a has a key already"),
        (f"a:{KEY}\nb:{KEY[:-1]}x", "line 2: the key is not hexadecimal"),
        (f"a:{KEY[2:]}", "line 1: a key has 16 bytes at least"),
    ],
)
def test_what_is_no_key_is_named_by_its_line_and_not_shown(file: Path, text: str, why: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=why) as refused:
        shared_keys.read(file)
    assert str(file) in str(refused.value)
    assert KEY[2:-2] not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        shared_keys.read(tmp_path / "nothing")


if sys.version_info >= (3, 13):

    def knowing(identity: str, key: str) -> ssl.SSLContext:
        context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK+AESGCM")
        context.set_psk_client_callback(lambda hint: (identity, bytes.fromhex(key)))
        return context  # type: ignore[no-any-return]

    def _cipher(client: RawClient) -> str:
        return str(client._writer.get_extra_info("ssl_object").cipher()[0])

    @pytest.fixture
    async def node(start_node: StartNode, file: Path) -> LocalNode:
        return await start_node({"tls.psk_file": file}, dev=False)

    @pytest.mark.parametrize("transport", ["ws", "tcp"])
    async def test_who_has_a_key_gets_in(node: LocalNode, transport: str) -> None:
        client = await node.client(transport, ssl=knowing("urn:dev:2", KEY[::-1]))
        assert _cipher(client) == "PSK-AES256-GCM-SHA384"
        # Who trusts the certificate gets in as before, with what is forward secret.
        trusting = ssl.create_default_context(cafile=node.node.identity.ca_path)
        other = await node.client(transport, ssl=trusting)
        assert not _cipher(other).startswith("PSK")

    @pytest.mark.parametrize(("identity", "key"), [("sensor-1", KEY[::-1]), ("nobody", KEY), ("", KEY)])
    async def test_who_has_none_does_not(node: LocalNode, identity: str, key: str) -> None:
        with pytest.raises(ConnectionError):
            await node.connect("tcp", ssl=knowing(identity, key))

    async def test_a_file_that_changes_is_read_again(node: LocalNode, file: Path) -> None:
        await asyncio.to_thread(file.write_text, f"sensor-3:{KEY}\n")
        certificate = node.node.certificate
        assert certificate is not None
        before = certificate.context
        node.node.reload_certificate()
        await until(lambda: certificate.context is not before)
        await node.client("tcp", ssl=knowing("sensor-3", KEY))
        with pytest.raises(ConnectionError):
            await node.connect("tcp", ssl=knowing("sensor-1", KEY))
        # One that cannot be used changes nothing.
        await asyncio.to_thread(file.write_text, "sensor-4")
        node.node.reload_certificate()
        await node.client("tcp", ssl=knowing("sensor-3", KEY))

else:

    async def test_an_older_python_says_so(start_node: StartNode, file: Path) -> None:
        with pytest.raises(ConfigError, match=r"tls.psk_file needs Python 3.13 or later, and this is 3\.1"):
            await start_node({"tls.psk_file": file}, dev=False)
