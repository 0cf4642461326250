"""`kind: Bridge`: what it means, and what the validator says of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.documents.bridge import Bridge
from gateway.documents.broker import Endpoint, endpoint
from gateway.documents.validation import examine, examine_removal, understand

PLANT = """
kind: Bridge
name: plant-a
mqtt: {address: [mqtts://broker:8883], version: 5, clientId: edge-7, cleanStart: false, sessionExpiry: 7d, keepalive: 60s}
topics:
  - {pattern: "sensors/{device}/{metric}", direction: in, qos: 1, remote: "site/7/", route: "telemetry.ingest", tags: {device: "{device}", metric: "{metric}"}, spool: telemetry, exclude: ["sensors/debug/#"]}
  - {pattern: "readings/{sub}", direction: out, qos: 1, remote: "site/7/", route: "telemetry.readings", retain: preserve}
rpc:
  - {topic: "cmd/{device}/{method}", route: "thermo.{method}", tags: {sub: "{device}"}, timeout: 10s}
loop: {maxHops: 1}
backoff: {base: 1s, cap: 120s, stable: 30s}
---
kind: Spool
name: telemetry
match: [{service: telemetry}]
"""  # noqa: E501


def bridge(topics: str = "", mqtt: str = "address: mqtt://broker", name: str = "a", more: str = "") -> str:
    return f"kind: Bridge\nname: {name}\nmqtt: {{{mqtt}}}\ntopics: [{topics}]\n{more}\n"


def said(text: str) -> list[str]:
    return [f"{finding.code} {finding.pointer}" for finding in examine(text).findings]


def spec(**body: Any) -> Bridge:
    return Bridge.model_validate({"kind": "Bridge", "name": "a", "mqtt": {"address": "mqtt://broker"}, **body})


def test_the_example_of_the_documentation() -> None:
    examined = examine(PLANT)
    assert examined.findings == ()
    found = examined.documents[0].spec
    assert isinstance(found, Bridge)
    assert found.service == "mqtt.plant-a"
    assert found.client_id == "edge-7"
    assert found.mqtt.endpoints == (Endpoint("broker", 8883, True, None),)
    assert (found.mqtt.version, found.mqtt.session_expiry, found.mqtt.keepalive) == (5, 604_800.0, 60.0)
    assert (found.backoff.base, found.backoff.cap, found.backoff.stable, found.loop.max_hops) == (1.0, 120.0, 30.0, 1)
    assert found.grants == (
        ("mqtt.plant-a", "mqtt.plant-a.*", "telemetry.readings"),
        ("telemetry.ingest", "thermo.*"),
    )
    assert found.state_topic == "$SYS/broker/connection/edge-7/state"
    assert not found.caches_repetitions
    assert found.rules.inbound[0].spool == "telemetry"
    assert understand(examined.documents[0].body) == examined.documents[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://h", ("h", 1883, False, None)),
        ("mqtts://h:1", ("h", 1, True, None)),
        ("ws://h/x", ("h", 80, False, "/x")),
        ("wss://[::1]:9", ("::1", 9, True, "/mqtt")),
    ],
)
def test_addresses(text: str, expected: tuple[str, int, bool, str | None]) -> None:
    found = endpoint(text)
    assert (found.host, found.port, found.tls, found.path) == expected
    assert endpoint(str(found)) == found


@pytest.mark.parametrize(
    "mqtt",
    [
        "address: http://h",
        "address: mqtt://",
        "address: 'mqtt://u:p@h'",
        "address: mqtt://h/path",
        "address: mqtt://h:99999",
        "address: []",
        "address: mqtt://h, version: 3",
        "address: mqtt://h, version: true",
        "address: mqtt://h, keepalive: 0",
        "address: mqtt://h, keepalive: 60",
        "address: mqtt://h, receiveMaximum: 0",
        "address: mqtt://h, passwordFile: /x",
        "address: mqtt://h, username: u, passwordFile: x",
        "address: mqtt://h, username: u, passwordFile: /x, token: {file: /y}",
        "address: mqtt://h, token: {}",
        "address: mqtt://h, token: {file: /y, audience: z}",
        "address: mqtt://h, tls: {certificate: /x}",
        "address: mqtt://h, password: secret",
        "address: mqtt://h, maxPacket: 1B",
    ],
)
def test_a_broker_that_makes_no_sense(mqtt: str) -> None:
    findings = examine(bridge(mqtt=mqtt)).findings
    assert {finding.code for finding in findings} == {"GW0103"}
    assert all(finding.pointer.startswith("/mqtt") for finding in findings)


@pytest.mark.parametrize(
    "topic",
    [
        "{pattern: 'a/#/b', direction: in}",
        "{pattern: 'a+', direction: in}",
        "{pattern: 'dev-{x}/y', direction: in}",
        "{pattern: '{x}/{x}', direction: in}",
        "{pattern: '{topic}', direction: in}",
        "{pattern: 'a', direction: up}",
        "{pattern: 'a', qos: 3}",
        "{pattern: 'a', qos: true}",
        "{direction: in, local: x}",
        "{direction: in, remote: x}",
        "{direction: in}",
        "{pattern: 'a/{x}', direction: in, route: 'r.{y}'}",
        "{pattern: 'a/{x}', direction: in, route: r, tags: {k: '{y}'}}",
        "{pattern: 'a/{x}', direction: in, route: 'r.{x'}",
        "{pattern: 'a', direction: in, route: gateway.ready}",
        "{pattern: 'a', direction: in, route: 'a*'}",
        "{pattern: 'a', direction: in, route: r, select: [k]}",
        "{pattern: 'a', direction: in, route: r, tags: {'': x}}",
        "{pattern: 'a', direction: in, route: r, tags: {'a=b': x}}",
        "{pattern: 'a', direction: in, route: %s}" % ("é" * 200),
        "{pattern: 'a', direction: in, remote: 'x/+/'}",
        "{pattern: '#', direction: in, remote: x}",
        "{pattern: 'a', direction: in, exclude: ['#/a']}",
        "{pattern: 'a', direction: in, expiry: 5s}",
        "{pattern: '#'}",
        "{pattern: '{sub}/x'}",
        "{pattern: 'a/+', route: r}",
        "{pattern: 'a', route: '{x}.y'}",
        "{pattern: 'a', route: gateway.x}",
        "{pattern: 'gateway/x'}",
        "{pattern: 'a', wildcard: true}",
        "{pattern: '$share/g/a', direction: in}",
        "{pattern: 'a', direction: in, remote: '$share/g/'}",
        "{pattern: 'a', direction: in, share: g/h}",
        "{pattern: 'a', direction: in, share: '+'}",
        "{pattern: 'a', direction: both, share: g}",
        "{pattern: 'a', share: g}",
    ],
)
def test_a_rule_that_makes_no_sense(topic: str) -> None:
    (finding, *_) = examine(bridge(topic)).findings
    assert finding.code == "GW0103"
    assert finding.pointer.startswith("/topics/0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bridge("{pattern: 'a/#', direction: in}, {pattern: 'a/b'}"), ["GW0121 /topics/1"]),
        (bridge("{pattern: 'a/#', direction: in}, {pattern: 'a/+', direction: in}"), ["GW0123 /topics/1"]),
        (bridge("{pattern: 'a/+', direction: in}, {pattern: '+/b', direction: in}"), ["GW0124 /topics/1"]),
        (
            bridge("{pattern: 'a/+', direction: in, exclude: [a/b]}, {pattern: '+/b', direction: in}"),
            [],
        ),
        (bridge("{pattern: a, direction: in, spool: none}"), ["GW0125 /topics/0/spool"]),
        (bridge("{pattern: a, direction: both}", "address: mqtt://b, version: 4"), []),
        (
            bridge("{pattern: a, direction: both}", "address: mqtt://b, version: 4", more="loop: {cache: false}"),
            ["GW0126 /topics/0/direction"],
        ),
        (bridge(mqtt="address: mqtt://b, version: 3.1.1", more="rpc: [{topic: a, route: b}]"), ["GW0127 /rpc"]),
        (bridge("{pattern: a, expiry: 5s}", "address: mqtt://b, version: 4"), ["GW0127 /topics/0/expiry"]),
        (bridge("{pattern: a, direction: in, share: g}"), []),
        (bridge("{pattern: a, direction: in, share: g}", "address: mqtt://b, version: 4"), ["GW0127 /topics/0/share"]),
        (bridge(mqtt="address: mqtt://b, version: 4, sessionExpiry: 1h"), ["GW0127 /mqtt/sessionExpiry"]),
        (
            bridge("{pattern: a, direction: in, qos: 1}", "address: mqtt://b, cleanStart: true"),
            ["GW0128 /mqtt/cleanStart"],
        ),
        (bridge("{pattern: a, direction: in}", "address: mqtt://b, cleanStart: true"), []),
        (bridge(mqtt="address: mqtt://b, username: u, passwordFile: /x"), ["GW0129 /mqtt/address/0"]),
        (bridge(mqtt="address: [mqtt://localhost, mqtts://b], username: u, passwordFile: /x"), []),
    ],
)
def test_what_the_validator_says(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_a_spool_must_take_what_the_rule_sends() -> None:
    text = bridge("{pattern: a, direction: in, route: thermo.set, spool: s}")
    spool = "---\nkind: Spool\nname: s\nmatch: [{service: %s}]\n"
    assert said(text + spool % "thermo") == []
    assert said(text + spool % "other") == ["GW0125 /topics/0/spool"]


def test_a_spool_that_a_bridge_needs_stays() -> None:
    text = bridge("{pattern: a, direction: in, route: thermo.set, spool: s}")
    spool = "kind: Spool\nname: s\nmatch: [{service: %s}]\n"
    standing = examine(text + "---\n" + spool % "thermo").documents
    assert examine(spool % "thermo.set", standing).good
    (finding,) = examine(spool % "other", standing).findings
    assert (finding.code, finding.document, finding.pointer) == ("GW0125", "Bridge/a", "/topics/0/spool")
    both = text.replace("thermo.set", "other.set") + "---\n" + spool % "other"
    assert examine(both, standing).good
    (gone,) = examine_removal(standing[1], standing)
    assert (gone.code, gone.document) == ("GW0125", "Bridge/a")
    assert examine_removal(standing[0], standing) == ()


def test_a_ring_of_bridges_is_refused() -> None:
    one = bridge("{pattern: 't/#', direction: in, route: relay}", name="a")
    two = bridge("{pattern: t/x, route: relay}", name="b")
    assert said(f"{one}---\n{two}") == ["GW0122 /topics/0"]
    off = f"{one}---\n{two}enabled: false\n"
    assert said(off) == []


def test_no_more_bridges_than_a_node_takes() -> None:
    text = "---\n".join(bridge(name=f"b{at}") for at in range(17))
    assert set(said(text)) == {"GW0130 "}


def test_a_bridge_beside_those_that_stand() -> None:
    standing = examine(bridge("{pattern: t/x, route: relay}", name="b")).documents
    examined = examine(bridge("{pattern: 't/#', direction: in, route: relay}"), standing)
    assert [finding.code for finding in examined.findings] == ["GW0122"]


def test_a_bridge_is_frozen() -> None:
    with pytest.raises(ValidationError):
        spec().enabled = False  # type: ignore[misc]


def test_the_page_says_what_the_validator_takes() -> None:
    """Whole documents, and parts of one."""
    page = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    for block in blocks:
        text = block if "kind:" in block else f"kind: Bridge\nname: a\nmqtt: {{address: mqtt://broker}}\n{block}"
        assert examine(text).findings == (), block


def test_presence_and_home_assistant_have_what_they_need() -> None:
    assert spec(presence={"devices": "x/{sub}"}).presence.devices == "x/{sub}"
    assert spec(presence={"notifications": False}).state_topic is None
    for body in ({"presence": {"devices": "x"}}, {"homeAssistant": {"state": "x/{sub}"}}, {"backoff": {"base": "0s"}}):
        with pytest.raises(ValidationError):
            spec(**body)
