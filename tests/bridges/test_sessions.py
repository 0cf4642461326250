"""The session with a broker: limits, ways to it, refusals, silence, and what stays over a reconnection."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import ssl
import subprocess
import time
from itertools import chain
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme

from gateway.bridges.mqtt.credentials import context_of
from gateway.documents.broker import Tls
from gateway.errors import BridgeError
from gateway.observe.bridges import BridgeState
from gateway.wire import frames
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer, StartBroker
from tests.bridges.peers import Bridged, answer, bridge, cut
from tests.local_node import LocalNode, until

IN = {"pattern": "sensors/#", "direction": "in", "qos": 0, "route": "telemetry.ingest"}


async def test_retained_messages_come_once_and_not_again(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    many = 10_000
    sensor = await peer(broker, "sensor")
    for number in range(many):
        await sensor.publish(f"sensors/{number}", b"1", 0, retain=True)
        if not number % 500:
            await asyncio.sleep(0)
    await sensor.publish("sensors/last", b"1", 1, retain=True)
    for version in (5, 4):
        name = f"plant-{version}"
        await bridged.apply(bridge(broker, IN, name=name, mqtt={"version": version}))
        await bridged.becomes(name, lambda status: status.counters.received[0] == many + 1)
        await bridged.is_connected(name)
        await cut(bridged, name)
        assert bridged.status(name).session_present
        await sensor.publish("sensors/now", b"2", 0)
        await bridged.becomes(name, lambda status: status.counters.received[0] >= many + 2)
        assert bridged.status(name).counters.received[0] == many + 2


async def test_filters_that_a_document_no_longer_names_are_unsubscribed(
    bridged: Bridged, broker: Broker, peer: ConnectPeer
) -> None:
    await bridged.apply(bridge(broker, IN))
    await bridged.is_connected()
    await bridged.apply(bridge(broker, {**IN, "pattern": "other/#"}))
    await broker.logs("Received UNSUBSCRIBE from gateway-plant")
    await bridged.becomes("plant", lambda status: status.counters.connects == 2)
    sensor = await peer(broker, "sensor")
    await sensor.publish("sensors/1", b"old", 1)
    await sensor.publish("other/1", b"new", 1)
    await bridged.becomes("plant", lambda status: status.counters.received[0])
    assert bridged.status().counters.unmatched == 0


async def test_a_wrong_password_is_said_and_a_right_one_taken(
    bridged: Bridged, start_broker: StartBroker, tmp_path: Path
) -> None:
    subprocess.run(("mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "edge", "right"), check=True)  # noqa: ASYNC221
    users = ("allow_anonymous false", f"password_file {tmp_path / 'users'}")
    broker = await start_broker(listener=users)
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    await bridged.apply(bridge(broker, mqtt={"username": "edge", "passwordFile": str(secret)}))
    await bridged.becomes("plant", lambda status: "refuses gateway-plant" in status.reason)
    assert bridged.status().state in (BridgeState.WAITING, BridgeState.CONNECTING)
    secret.write_text("right\n")
    await bridged.is_connected()


async def test_tls_is_checked_both_ways(bridged: Bridged, start_broker: StartBroker, tmp_path: Path) -> None:
    authority = trustme.CA()
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "good", "old", "client")}
    authority.cert_pem.write_to_path(str(files["ca"]))
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(files["good"]))
    authority.issue_cert("edge").private_key_and_cert_chain_pem.write_to_path(str(files["client"]))
    old = authority.issue_cert("127.0.0.1", not_before=yesterday - datetime.timedelta(days=9), not_after=yesterday)
    old.private_key_and_cert_chain_pem.write_to_path(str(files["old"]))

    def listener(name: str) -> tuple[str, ...]:
        lines = (f"certfile {files[name]}", f"keyfile {files[name]}", f"cafile {files['ca']}")
        return ("allow_anonymous true", *lines, "require_certificate true")

    with pytest.raises(BridgeError, match=r"tls: /nonexistent/ca\.pem: No such file"):
        context_of(Tls(ca="/nonexistent/ca.pem"))
    with pytest.raises(BridgeError, match=r"tls: /nonexistent/key\.pem: No such file"):
        context_of(Tls(certificate=str(files["client"]), key="/nonexistent/key.pem"))
    shown = {"ca": str(files["ca"]), "certificate": str(files["client"]), "key": str(files["client"])}
    expired = await start_broker(listener=listener("old"))
    url = expired.url.replace("mqtt:", "mqtts:")
    await bridged.apply(bridge(expired, mqtt={"address": url, "tls": shown}))
    await bridged.becomes("plant", lambda status: "certificate has expired" in status.reason)
    good = await start_broker(listener=listener("good"))
    url = good.url.replace("mqtt:", "mqtts:")
    await bridged.apply(bridge(good, mqtt={"address": url, "tls": {"ca": str(files["ca"])}}))
    await bridged.becomes("plant", lambda status: status.counters.failed_connects and url in status.reason)
    await bridged.apply(bridge(good, mqtt={"address": url, "tls": shown}))
    await bridged.is_connected()
    assert ssl.HAS_TLSv1_2


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_broker_over_websocket(
    bridged: Bridged, start_broker: StartBroker, peer: ConnectPeer, tmp_path: Path, scheme: str
) -> None:
    listener: tuple[str, ...] = ("allow_anonymous true",)
    mqtt: dict[str, Any] = {}
    if scheme == "wss":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "broker.pem"))
        listener = (*listener, f"certfile {tmp_path / 'broker.pem'}", f"keyfile {tmp_path / 'broker.pem'}")
        mqtt["tls"] = {"ca": str(tmp_path / "ca.pem")}
    broker = await start_broker(websocket=listener)
    mqtt["address"] = f"{scheme}://127.0.0.1:{broker.websocket_port}"
    telemetry = await bridged.local.servant("tcp", "telemetry")
    await bridged.apply(bridge(broker, {**IN, "qos": 1}, mqtt=mqtt))
    await bridged.is_connected()
    assert bridged.status().address == f"{mqtt['address']}/mqtt"
    phone = await bridged.local.client(subject="phone", kind="service")
    sent = await answer(phone, "mqtt.plant.publish", bytes(70_000), topic="sensors/1", retain="1")
    assert isinstance(sent, frames.Payload), sent
    found = await answer(phone, "mqtt.plant.last", b"", topic="sensors/1")
    assert found.data == bytes(70_000)
    # No Local: what it has sent itself does not come back.
    assert not telemetry.heard
    sensor = await peer(broker, "sensor")
    for number in range(100):
        await sensor.publish("sensors/2", b"%d" % number + bytes(1000), 1)
    await until(lambda: len(telemetry.heard) == 100)
    broker.kill()
    await bridged.becomes("plant", lambda status: status.state is not BridgeState.CONNECTED)
    await broker.start()
    await bridged.is_connected()


async def test_a_broker_that_accepts_and_never_answers_is_given_up(bridged: Bridged, broker: Broker) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        addresses = [f"mqtt://127.0.0.1:{port}", broker.url]
        await bridged.apply(bridge(broker, mqtt={"address": addresses, "connectTimeout": "1s"}))
        await bridged.becomes("plant", lambda status: "accepts connections and does not answer" in status.reason)
        await bridged.is_connected()
        assert bridged.status().address == broker.url
    finally:
        server.close()
        await server.wait_closed()


async def test_a_connection_that_is_cut_without_a_word_is_noticed(bridged: Bridged, broker: Broker) -> None:
    await bridged.apply(bridge(broker, mqtt={"keepalive": "1s", "connectTimeout": "1s"}))
    await bridged.is_connected()
    broker.freeze()
    await bridged.becomes("plant", lambda status: "answers no PINGREQ" in status.reason)
    broker.thaw()
    await bridged.is_connected()


async def test_a_token_is_renewed_before_it_runs_out(bridged: Bridged, broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "token"

    def write(seconds: float) -> None:
        claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + seconds}).encode()).decode().rstrip("=")
        file.write_text(f"e30.{claims}.c2ln")

    write(3)
    await bridged.apply(bridge(broker, mqtt={"token": {"file": str(file)}}))
    await bridged.is_connected()
    write(3600)
    await bridged.becomes("plant", lambda status: status.counters.connects == 2)
    assert bridged.status().session_present


async def test_a_node_signs_its_brokers_token_itself(bridged: Bridged, broker: Broker) -> None:
    """In the name of the client, for this broker alone, by the keys that the node shows."""
    shown: list[bytes] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.append(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    try:
        address = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        token = {"audience": "broker.example", "ttl": "2m"}
        await bridged.apply(bridge(broker, mqtt={"address": address, "clientId": "edge-7", "token": token}))
        await until(lambda: shown)
    finally:
        server.close()
        await server.wait_closed()
    # The password is the last of CONNECT, behind the name, which is the client's.
    name, _, password = shown[0].rpartition(b"edge-7")
    assert name.endswith(b"\x00\x06")
    (key, *_) = bridged.local.node.identity.verification_keys()
    claims = jwt.decode(password[2:].decode(), key.key, algorithms=["EdDSA", "ES256"], audience="broker.example")
    assert claims["sub"] == "edge-7"
    assert 0 < claims["exp"] - time.time() <= 120


@pytest.mark.parametrize("hops", [1, 3])
async def test_in_a_ring_a_message_passes_as_many_bridges_as_it_may(
    bridged: Bridged, start_broker: StartBroker, peer: ConnectPeer, tmp_path: Path, hops: int
) -> None:
    """Two brokers and two nodes, each of which takes from one broker to the other: no validator sees that."""
    other = Bridged(await LocalNode.start(tmp_path / "other"))
    a, b = await start_broker(), await start_broker()
    try:
        for node, here, there in ((bridged, a, b), (other, b, a)):
            take = {"pattern": "ring/{what}", "direction": "in", "qos": 1, "route": "relay.{what}"}
            give = {"pattern": "ring/{what}", "direction": "out", "qos": 1, "route": "relay.{what}"}
            loop = {"maxHops": hops}
            await node.apply(bridge(here, take, name="take", loop=loop), bridge(there, give, name="give", loop=loop))
            await node.is_connected("take")
            await node.is_connected("give")
        sensor = await peer(a, "sensor")
        watchers = [await peer(each, "watcher") for each in (a, b)]
        for watcher in watchers:
            await watcher.subscribe("ring/#")
        await sensor.publish("ring/1", b"round", 1)
        takers = [node.status("take").counters for node in (bridged, other)]
        await until(lambda: sum(sum(each.loops.values()) for each in takers) == 1)
        await until(lambda: sum(len(watcher.got) for watcher in watchers) >= 1 + hops)
        assert sum(len(watcher.got) for watcher in watchers) == 1 + hops
        (loop,) = chain(*(each.last_loops for each in takers))
        assert loop.topic == "ring/1"
    finally:
        await other.local.stop()
