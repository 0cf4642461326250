"""Requests in both directions, and who is there, with a real broker."""

from __future__ import annotations

import json

from gateway.bridges.mqtt.message import Properties
from gateway.wire import frames
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import Bridged, Peer, answer, bridge, tagged
from tests.local_node import until

RPC = {"topic": "cmd/{device}/{method}", "route": "thermo.{method}", "timeout": "5s"}


async def replies(device: Peer) -> None:
    """Answer the first request."""
    (request,) = await device.gets(1)
    topic = request.properties.response_topic
    assert topic is not None
    # Nobody waits for longer.
    assert request.properties.expiry_s == 10
    properties = Properties(correlation=request.properties.correlation)
    await device.publish(topic, b"did " + request.payload, 1, properties=properties)


async def test_call_asks_a_device_of_mqtt_5(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    device = await peer(broker, "device")
    await device.subscribe("cmd/7")
    await bridged.apply(bridge(broker))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    number = phone.next_stream_id()
    phone.send(frames.RequestResponse(number, tagged("mqtt.plant.call", topic="cmd/7"), b"this"))
    await replies(device)
    found = await phone.recv(20)
    assert isinstance(found, frames.Payload)
    assert found.data == b"did this"
    late = await answer(phone, "mqtt.plant.call", b"that", topic="cmd/7", timeout="0.2")
    assert isinstance(late, frames.Error)
    assert late.code == frames.ErrorCode.CANCELED
    nobody = await answer(phone, "mqtt.plant.call", b"that", topic="cmd/8")
    assert isinstance(nobody, frames.Error)
    assert nobody.code == frames.ErrorCode.REJECTED
    assert bridged.status().counters.rpc_failed == 2


async def test_call_asks_a_device_of_3_1_1_by_a_rule(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    device = await peer(broker, "device", 4)
    await device.subscribe("cmd/7")
    rule = {"topic": "cmd/{device}", "reply": "answer/{device}", "id": "n"}
    await bridged.apply(bridge(broker, call=[rule], mqtt={"version": "3.1.1"}))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    number = phone.next_stream_id()
    phone.send(frames.RequestResponse(number, tagged("mqtt.plant.call", topic="cmd/7"), b'{"set": 21}'))
    (request,) = await device.gets(1)
    told = json.loads(request.payload)
    assert told["set"] == 21
    await device.publish("answer/7", json.dumps({"n": told["n"] + 1, "ok": 0}).encode())
    await device.publish("answer/7", json.dumps({"n": told["n"], "ok": 1}).encode())
    found = await phone.recv(20)
    assert isinstance(found, frames.Payload)
    assert json.loads(found.data)["ok"] == 1
    unknown = await answer(phone, "mqtt.plant.call", b"{}", topic="other/7")
    assert isinstance(unknown, frames.Error)
    assert "response topic" in unknown.text


async def test_a_request_of_mqtt_is_answered(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    await bridged.local.servant("tcp", "thermo")
    await bridged.apply(bridge(broker, rpc=[RPC]))
    await bridged.is_connected()
    phone = await peer(broker, "phone")
    await phone.subscribe("answers/phone")
    asks = Properties(response_topic="answers/phone", correlation=b"1")
    await phone.publish("cmd/kitchen/read", b"please", 1, properties=asks)
    (first,) = await phone.gets(1)
    assert first.payload == b"please"
    assert first.properties.correlation == b"1"
    assert first.properties.of_user("gateway-end") == "1"
    await until(lambda: bridged.status().counters.acknowledged == 1)
    many = Properties(response_topic="answers/phone", correlation=b"2", user=(("gateway-stream", "70"),))
    await phone.publish("cmd/kitchen/watch", b"3", 1, properties=many)
    await phone.gets(1 + 70)
    assert {message.payload for message in phone.got[1:]} == {bytes(3)}
    lost = Properties(response_topic="answers/phone", correlation=b"3")
    await bridged.apply(bridge(broker, rpc=[{**RPC, "route": "nobody.{method}"}]))
    await bridged.is_connected()
    await until(lambda: bridged.status().counters.connects == 2)
    await phone.publish("cmd/kitchen/read", b"please", 1, properties=lost)
    await until(lambda: phone.got[-1].properties.correlation == b"3")
    assert phone.got[-1].properties.of_user("gateway-error") == "rejected"


async def test_figures_have_mosquittos_names(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    await bridged.apply(bridge(broker, presence={"sys": "plant/gateway/"}))
    await bridged.is_connected()
    watcher = await peer(broker, "watcher")
    await watcher.subscribe("plant/gateway/#")
    await watcher.gets(10)
    told = {message.topic.removeprefix("plant/gateway/"): message.payload for message in watcher.got}
    assert told["version"].startswith(b"gateway version ")
    assert told["clients/connected"].isdigit()
    loads = {f"load/messages/{way}/{minutes}min" for way in ("received", "sent") for minutes in (1, 5, 15)}
    assert set(told) == {"version", "clients/connected", "messages/received", "messages/sent", *loads}
    assert all(message.retain for message in watcher.got)


async def test_who_is_there_is_retained(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    document = bridge(broker, presence={"topic": "gateways/plant", "devices": "devices/{sub}/state"})
    await bridged.apply(document)
    await bridged.is_connected()
    device = await bridged.local.client(subject="kitchen", kind="device")
    watcher = await peer(broker, "watcher")
    await watcher.subscribe("gateways/#")
    await watcher.subscribe("devices/#")
    await watcher.gets(2)
    assert {(message.topic, message.payload) for message in watcher.got} == {
        ("gateways/plant", b"1"),
        ("devices/kitchen/state", b"online"),
    }
    await until(lambda: bridged.status().last_ack_age_s is not None)
    await device.close()
    await until(lambda: watcher.got[-1].payload == b"offline")
    session = bridged.local.node.bridges._places["plant"].bridge.client.session  # type: ignore[union-attr]
    assert session is not None
    session.link.abort()
    await until(lambda: any(message.payload == b"0" for message in watcher.got))
    await until(lambda: watcher.got[-1].payload == b"1")


async def test_call_takes_several_answers_as_a_stream(bridged: Bridged, broker: Broker, peer: ConnectPeer) -> None:
    """Until one says that it is the last, or the time is over."""
    device = await peer(broker, "device")
    await device.subscribe("cmd/7")
    await bridged.apply(bridge(broker))
    await bridged.is_connected()
    phone = await bridged.local.client(subject="phone", kind="user")
    ends = ((b"2", b"2"), (b"", None), (b"0", b"0"))
    for at, (last, item) in enumerate(ends, 1):
        number = phone.next_stream_id()
        asks = tagged("mqtt.plant.call", topic="cmd/7")
        phone.send(frames.RequestStream(number, asks, b"all", initial_n=3 if at < 3 else 1))
        request = (await device.gets(at))[-1]
        topic, said = request.properties.response_topic, Properties(correlation=request.properties.correlation)
        assert topic is not None
        for data in (b"0", b"1"):
            await device.publish(topic, data, properties=said)
        if at == 3:
            assert (await phone.recv(20)).data == b"0"
            refused = await phone.recv(20)
            assert isinstance(refused, frames.Error)
            assert "more answers than were asked for" in refused.text
            continue
        await device.publish(topic, last, properties=said._replace(user=(("gateway-end", "1"),)))
        got = [await phone.recv(20) for _ in range(3 + (item is not None))]
        assert [frame.data for frame in got[: 2 + (item is not None)]] == [b"0", b"1", *([item] if item else [])]
        assert got[-1].complete
        assert not got[-2].complete
    assert bridged.status().counters.rpc_failed == 1
