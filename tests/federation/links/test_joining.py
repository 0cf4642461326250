"""How a node becomes one of a federation: the line, what it opens, and what it does not."""

from __future__ import annotations

import re
import ssl
import time
from pathlib import Path

import pytest

from gateway.config import LiveSettings, Sources
from gateway.control.audit import SYSTEM
from gateway.control.certificates import fingerprint
from gateway.control.members import CENTRAL
from gateway.control.plane import ControlPlane
from gateway.errors import ConfigError, FederationError
from gateway.federation.joining import JoinToken
from gateway.node import Node
from tests.cli.conftest import Shell, environment
from tests.federation.links.cluster import QUICK, Cluster, until
from tests.local_node import settings
from tests.prepared import prepared
from tests.rawclient import ConnectionEnded, RawClient


def test_the_line_is_read_back() -> None:
    token = JoinToken("ab" * 32, ("wss://a:1/rsocket", "wss://b:2/rsocket"), "ge_x_y")
    assert "\n" not in token.text()
    assert JoinToken.read(f"  {token.text()}\n") == token
    assert "ge_x_y" not in repr(token)


@pytest.mark.parametrize("text", ["", "gwj1.", "gwj1.e30", "gwj1.*", "gwj2.e30", "gwj1.W10"])
def test_what_is_no_line(text: str) -> None:
    with pytest.raises(ConfigError):
        JoinToken.read(text)


def trusting(node: Node) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=node.identity.ca_path)


async def run(home: Path, *words: str) -> str:
    result = await Shell(environment(home)).run(*words)
    return result.out.decode() + result.err


async def node(data: Path, name: str, port: int = 0, more: dict[str, object] | None = None) -> Node:
    wanted = settings(data, {"node.name": name, **QUICK, "listen.websocket": f"127.0.0.1:{port}", **(more or {})})
    node = Node(LiveSettings(Sources(None, {}, wanted, False, data / "no-secrets")))
    await node.start()
    return node


@pytest.fixture
async def central(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port: int) -> Node:
    """A central node that `gateway central init` has made, with TLS as in life."""
    data = prepared(tmp_path_factory.mktemp("central") / "data")
    url = f"wss://localhost:{unused_tcp_port}/rsocket"
    said = await run(data, "central", "init", "--data", str(data), "--name", "middle", "--url", url)
    made = await node(data, "middle", unused_tcp_port, {"node.advertised_url": url})
    made.line = re.search(r"gwj1\.\S+", said)[0]  # type: ignore[attr-defined, index]
    return made


async def test_an_edge_joins_and_links(central: Node, tmp_path: Path) -> None:
    """From nothing to a request over TLS, with the commands that a person uses; the line works once."""
    try:
        line = central.line  # type: ignore[attr-defined]
        token = JoinToken.read(line)
        assert token.authority == fingerprint(central.identity.ca_path.read_text())
        said = await run(tmp_path, "join", line, "--data", str(tmp_path / "edge"), "--name", "edge-7")
        assert "edge-7 has joined as edge" in said
        again = await run(tmp_path, "join", line, "--data", str(tmp_path / "other"))
        assert "no central node has let this node in" in again
        edge = await node(tmp_path / "edge", "edge-7")
        try:
            assert edge.links.membership is not None
            federation = edge.links.membership.federation
            await until(lambda: federation.uplink is not None)
            assert federation.uplink is not None
            assert federation.uplink.name == "middle"
            assert central.control is not None
            member = central.control.members.find(edge.identity.node_id)
            assert member is not None
            assert member.role == "edge"
            # Tokens of devices that enrolled at either are good at the other, within what the member may vouch for.
            for signer, verifier in ((edge, central), (central, edge)):
                device = signer.identity.mint("roaming", "device", ["roaming"], ["*"], 600, time.time())
                principal = verifier.plane.snapshot.admit(device.encode(), time.time())
                assert (principal.subject, principal.issuer) == ("roaming", signer.identity.issuer)
            # A member that is removed is out at once, and so are those that it vouched for.
            await central.control.members.remove(member.id, by=SYSTEM)
            assert central.links.membership is not None
            links = central.links.membership.federation.links
            await until(lambda: not links)
            await until(lambda: federation.uplink is None)
        finally:
            await edge.stop()
        left = await run(tmp_path, "leave", "--data", str(tmp_path / "edge"), "--yes")
        assert left == "edge-7 stands alone. On a central node:    gateway peer rm edge-7\n"
        async with await ControlPlane.offline(tmp_path / "edge") as control:
            assert (control.members.own, control.members.all(), control.refusals.ledgers) == (None, [], {})
        assert "there is no node" in await run(tmp_path, "leave", "--data", str(tmp_path / "edge"), "--yes")
    finally:
        await central.stop()


async def test_the_secret_opens_nothing_else(central: Node) -> None:
    """Whoever holds the line can ask to join, and is reachable for nobody."""
    try:
        secret = JoinToken.read(central.line).secret  # type: ignore[attr-defined]
        client = await RawClient.connect_tcp(central.tcp_port, host="localhost", ssl=trusting(central))
        client.setup(secret)
        ready = await client.ready()
        assert ready["sub"].startswith("join-")
        assert not [route for route in central.plane.table if route.subject.startswith("join-")]
        await client.close()
        wrong = await RawClient.connect_tcp(central.tcp_port, host="localhost", ssl=trusting(central))
        wrong.setup(secret[:-1] + ("A" if secret[-1] != "A" else "B"))
        with pytest.raises((ConnectionEnded, AssertionError)):
            await wrong.ready()
        await wrong.close()
    finally:
        await central.stop()


async def test_another_authority_is_not_trusted(central: Node, tmp_path: Path) -> None:
    try:
        token = JoinToken.read(central.line)  # type: ignore[attr-defined]
        forged = JoinToken("00" * 32, token.urls, token.secret)
        said = await run(tmp_path, "join", forged.text(), "--data", str(tmp_path / "edge"))
        assert "another authority" in said
    finally:
        await central.stop()


async def test_members_are_told_again_only_where_they_differ(cluster: Cluster) -> None:
    """Each node compares what it knows of all others with one number."""
    await cluster.add("central", CENTRAL)
    for edge in ("edge-a", "edge-b"):
        await cluster.add(edge, parents=("central",))
        await cluster.linked(edge)
    edge, own = cluster["edge-a"], cluster["edge-a"].member.id
    uplink, roster = edge.federation.uplink, edge.federation.roster
    assert uplink is not None
    await until(lambda: roster.digest(own) == cluster["central"].federation.roster.digest(own))
    answers: list[dict[str, list[dict[str, str]]]] = []
    for known in (roster.digest(own), b"=0123456789abcdef", b""):
        uplink.ask("gateway.members", known, answers.append, answers.append)  # type: ignore[arg-type]
    await until(lambda: len(answers) == 3)
    assert answers[0] == {"members": []}
    for told in answers[1:]:
        assert {member["name"] for member in told["members"]} == {"central", "edge-a", "edge-b"}


async def test_with_an_engine_a_node_of_no_federation_does_not_start(tmp_path: Path) -> None:
    """It would serve alone, with all of its settings in vain."""
    engine = {"federation.engine": "nats", "federation.nats_servers": "nats://127.0.0.1:1"}
    with pytest.raises(FederationError, match="this node is in no federation: gateway central init or gateway join"):
        await node(tmp_path / "data", "alone", more=engine)
