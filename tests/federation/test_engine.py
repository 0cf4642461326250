"""`gateway engine`, against real servers: bucket, permissions, a look at it all; and the settings behind it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import program
from gateway.config import Config, Federation
from gateway.errors import FederationError
from gateway.federation.engines import store_for
from gateway.federation.nats import NatsStore
from gateway.federation.table import EmbeddedStore
from tests.federation.nats_cluster import Administrator, NatsCluster

nats = pytest.mark.xdist_group("nats")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(program(), ["engine", *arguments])
    error = result.exception if isinstance(result.exception, FederationError) else None
    return result.exit_code, result.stdout, result.stderr + ("" if error is None else f"{error.reason}: {error}")


@pytest.fixture
def settings_file(tmp_path: Path, running_cluster: NatsCluster) -> Path:
    path = tmp_path / "gateway.toml"
    servers = ", ".join(f'"{url}"' for url in running_cluster.urls)
    path.write_text(
        f'[node]\nname = "c1"\ndata = "{tmp_path}"\n[federation]\nengine = "nats"\nnats_servers = [{servers}]\n'
        f'nats_nkey_file = "{running_cluster.seeds["c1"]}"\n'
    )
    return path


@nats
@pytest.mark.timeout(300)
def test_an_administrator_makes_the_bucket_and_a_node_looks_at_it(
    settings_file: Path, running_cluster: NatsCluster
) -> None:
    async def without_bucket() -> None:
        running_cluster.heal()
        async with Administrator(running_cluster) as administrator:
            await administrator.fresh_bucket()
            await administrator.client.call("$JS.API.STREAM.DELETE.KV_rt", seconds=10)

    asyncio.run(without_bucket())
    config = ("--config", str(settings_file))
    code, _, error = run("check", *config)
    assert code == 1
    assert "gateway engine init" in error
    # A node's own credential makes nothing.
    code, _, error = run("init", *config)
    assert code == 1
    assert error.startswith("engine_denied: the engine does not allow it to this credential")
    administrator = ("--key", str(running_cluster.seeds["admin"]))
    code, printed, said = run("init", *config, *administrator)
    assert code == 0, said
    assert "bucket 'rt' made, with 3 replicas" in said
    # What is printed is what the servers of these tests run with, for one node.
    assert f"{{ nkey: {running_cluster.keys['c1']}, permissions: {{" in printed
    assert '"$KV.rt.n.c1"' in printed
    assert 'subscribe: { allow: [ "_INBOX_c1.>" ] }' in printed
    assert running_cluster.keys["admin"] in printed
    code, _, said = run("init", *config, *administrator)
    assert code == 0
    assert "bucket 'rt' is there" in said
    code, printed, _ = run("check", *config, "-o", "json")
    assert code == 0
    facts = json.loads(printed)
    assert facts["version"] == "2.15.1"
    assert (facts["replicas"], facts["keys"], facts["faults"]) == (3, 0, [])
    assert run("check", *config)[0] == 0


def test_permissions_are_printed_without_a_server(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'[node]\ndata = "{tmp_path}"\n[federation]\nnats_servers = ["tls://nats.example:4222"]\n')
    key = "U" + "A" * 55
    code, printed, _ = run("init", "--dry-run", "--config", str(path), "--node", f"c1={key}", "--node", f"c.2={key}")
    assert code == 0
    assert printed.count("permissions:") == 2
    assert '"$KV.rt.n.=Yy4y"' in printed
    assert run("init", "--dry-run", "--config", str(path), "--node", "c1=secret")[0] == 2


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "node.nk"
    code, first, _ = run("key", "--file", str(file))
    assert code == 0
    assert first.startswith("U")
    assert run("key", "--file", str(file))[1] == first
    assert os.stat(file).st_mode & 0o777 == 0o600
    file.write_text("no seed")
    assert "holds no nkey" in run("key", "--file", str(file))[2]


def test_servers_that_cannot_be_reached_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'[node]\ndata = "{tmp_path}"\n[federation]\nnats_servers = ["nats://127.0.0.1:1"]\n')
    code, _, error = run("check", "--config", str(path))
    assert code == 1
    assert error.startswith("unreachable: no NATS server can be reached: nats://127.0.0.1:1")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "nats"}, "needs nats_servers"),
        ({"nats_servers": ["http://here"]}, "write nats://host:4222"),
        ({"nats_servers": ["nats://user:secret@here"]}, "holds no credential"),
        ({"bucket": "a.b"}, "letters, digits"),
        ({"nats_tls_key": "key.pem"}, "set together"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Federation.model_validate(settings)


async def test_the_settings_choose_the_engine(tmp_path: Path) -> None:
    assert isinstance(store_for(Config().federation, "c1"), EmbeddedStore)
    chosen = store_for(Federation(engine="nats", nats_servers=("nats://here",)), "c1")
    assert isinstance(chosen, NatsStore)
    with pytest.raises(FederationError, match="nats_tls"):
        store_for(Federation(engine="nats", nats_servers=("tls://here",), nats_tls_ca=tmp_path / "none"), "c1")
