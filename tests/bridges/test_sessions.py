"""The session with a broker: limits, ways to it, refusals, silence, and what stays over a reconnection."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.observe.bridges import BridgeState
from gateway.wire import frames
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer, StartBroker
from tests.bridges.peers import Bridged, answer, bridge, cut
from tests.local_node import LocalNode, fnf, until

IN = {"pattern": "sensors/#", "direction": "in", "qos": 0, "route": "telemetry.ingest"}


async def test_no_more_is_on_its_way_than_the_broker_takes(bridged: Bridged, start_broker: StartBroker) -> None:
    broker = await start_broker("max_inflight_messages 1")
    await bridged.apply(bridge(broker))
    await bridged.is_connected()
    assert bridged.status().receive_maximum == 1
    phone = await bridged.local.client(subject="phone", kind="service")
    before = bridged.status().counters.confirmed
    for number in range(50):
        data = json.dumps({"topic": f"t/{number}", "qos": 1}).encode()
        phone.send(fnf(phone, "mqtt.plant.publish", data))
    seen = set()

    def confirmed() -> bool:
        seen.add(bridged.status().in_flight_out)
        return bridged.status().counters.confirmed >= before + 50

    await until(confirmed)
    assert max(seen) <= 1


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


async def test_two_bridges_in_a_ring_pass_a_message_once(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, tmp_path: Path
) -> None:
    other = Bridged(await LocalNode.start(tmp_path / "other"))
    try:
        for node, (here, there) in ((bridged, "ab"), (other, "ba")):
            rules = (
                {"pattern": f"{here}/{{x}}", "direction": "in", "qos": 1, "route": f"relay.to-{there}"},
                {"pattern": f"{there}/1", "direction": "out", "qos": 1, "route": f"relay.to-{there}"},
            )
            await node.apply(bridge(broker, *rules, mqtt={"clientId": f"ring-{here}"}))
            await node.is_connected()
        sensor = await peer(broker, "sensor")
        watcher = await peer(broker, "watcher")
        await watcher.subscribe("b/#")
        await sensor.publish("a/1", b"round", 1)
        await watcher.gets(1)
        await other.becomes("plant", lambda status: sum(status.counters.loops.values()) == 1)
        assert len(watcher.got) == 1
        (loop,) = other.status().counters.last_loops
        assert loop.topic == "b/1"
    finally:
        await other.local.stop()
