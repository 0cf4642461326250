"""The shared table over TLS: who is trusted, on either side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from bench.local_nats import LocalNats
from gateway.config import Federation
from gateway.errors import FederationError
from gateway.federation.engines import nats_options, store_for
from gateway.federation.nats import NatsClient
from gateway.federation.nats.bucket import make
from gateway.federation.table import SharedTable, TableOptions, shared
from tests.federation.waiting import until

pytestmark = pytest.mark.xdist_group("nats")


class Secured:
    """One server that shows a certificate and asks for one, and what it takes to talk to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        authority = trustme.CA()
        self.file("ca.pem", authority.cert_pem)
        for name in ("server", "node"):
            pair = authority.issue_cert("localhost", "127.0.0.1")
            self.file(f"{name}.pem", *pair.cert_chain_pems)
            self.file(f"{name}.key", pair.private_key_pem)
        parts = [f'{key}: "{directory / file}"' for key, file in _SERVER.items()]
        self.nats = LocalNats(directory, ("c1",), 1, f"tls {{ {', '.join(parts)}, verify: true }}\n")

    def file(self, name: str, *blobs: trustme.Blob) -> Path:
        path = self.directory / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return path

    def settings(self, user: str = "c1", **other: object) -> Federation:
        found: dict[str, object] = {
            "engine": "nats",
            "nats_servers": [url.replace("nats://127.0.0.1", "tls://localhost") for url in self.nats.urls],
            "nats_nkey_file": self.nats.seeds[user],
            "nats_tls_ca": self.directory / "ca.pem",
            "nats_tls_certificate": self.directory / "node.pem",
            "nats_tls_key": self.directory / "node.key",
        }
        return Federation.model_validate(found | other)


_SERVER = {"cert_file": "server.pem", "key_file": "server.key", "ca_file": "ca.pem"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("secured"))
    yield secured
    secured.nats.close()


async def test_the_table_is_followed_over_tls(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides show a certificate. Without one there is no connection, and it is said; with another authority there
    never will be, and the start ends."""
    administrator = NatsClient(nats_options(secured.settings("admin"), "admin"))
    await administrator.start()
    await administrator.ready.wait()
    await make(administrator, "rt", 1)
    await administrator.stop()
    table = SharedTable(store_for(secured.settings(), "c1"), TableOptions("c1"))
    await table.start()
    await until(lambda: table.fresh)
    await table.stop()
    monkeypatch.setattr(shared, "START_S", 1.0)
    table = SharedTable(
        store_for(secured.settings(nats_tls_certificate=None, nats_tls_key=None), "c1"), TableOptions("c1")
    )
    await table.start()
    assert not table.fresh
    assert table.status().why
    await table.stop()
    strange = secured.settings(nats_tls_ca=secured.file("other.pem", trustme.CA().cert_pem))
    table = SharedTable(store_for(strange, "c1"), TableOptions("c1"))
    with pytest.raises(FederationError, match=r"not trusted \(federation\.nats_tls_ca\): .*verify failed") as refused:
        await table.start()
    assert refused.value.reason == "engine_tls"


@pytest.mark.parametrize("content", [None, "scribble"])
def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "nats-ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(
        FederationError, match=r"nats-ca\.pem \(federation\.nats_tls_ca\) cannot be used: \S"
    ) as refused:
        store_for(Federation(engine="nats", nats_servers=("tls://here",), nats_tls_ca=file), "c1")
    assert refused.value.reason == "engine_tls"
