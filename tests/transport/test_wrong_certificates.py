"""Files of a certificate and its key that cannot be used: the one line names the file, and what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.errors import ConfigError
from gateway.transport.tls import Certificate


def good() -> tuple[bytes, bytes]:
    """A chain and its key."""
    pair = trustme.CA().issue_cert("gateway.example")
    return pair.cert_chain_pems[0].bytes(), pair.private_key_pem.bytes()


CHAIN, KEY = good()
LOCKED = load_pem_private_key(KEY, None).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")
)


@pytest.mark.parametrize(
    ("chain", "key", "why"),
    [
        (CHAIN, good()[1], "the key is not that of the certificate"),
        (None, KEY, r"\S+chain\.pem does not exist"),
        (CHAIN, None, r"\S+key\.pem does not exist"),
        (b"", KEY, r"\S+chain\.pem is empty"),
        (CHAIN, b"\n", r"\S+key\.pem is empty"),
        (KEY, KEY, r"\S+chain\.pem holds no certificate in PEM"),
        (CHAIN, CHAIN, r"\S+key\.pem holds no private key in PEM"),
        (CHAIN, LOCKED, r"\S+key\.pem has a passphrase, which nobody can be asked for: write it without one"),
        (CHAIN, KEY[:90] + b"\n" + KEY[-40:], r"what is in one of them is damaged \(.+\)"),
        (CHAIN.replace(b"M", b"!"), KEY, r"what is in one of them is damaged \(.+\)"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, chain: bytes | None, key: bytes | None, why: str) -> None:
    files = tmp_path / "chain.pem", tmp_path / "key.pem"
    for file, content in zip(files, (chain, key), strict=True):
        if content is not None:
            file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        Certificate(*files)
    (line,) = refused.value.text.splitlines()
    assert re.search(rf"key\.pem cannot be used: {why}$", line), line
