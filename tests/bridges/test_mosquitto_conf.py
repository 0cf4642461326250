"""Bridges of a Mosquitto, as mosquitto.conf(5) writes them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.bridges.mqtt.mosquitto_conf import read, topic_line
from gateway.documents.bridge import Bridge
from gateway.documents.validation import examine

PLANT = """\
listener 1883
# A comment.
connection Plant_A
address broker.example:8883 [fd00::1]:1884 10.0.0.1
bridge_cafile /etc/ca.pem
bridge_certfile /etc/cert.pem
bridge_keyfile /etc/key.pem
bridge_insecure false
bridge_protocol_version mqttv50
remote_clientid edge-7
remote_username somebody
remote_password sesame
cleansession true
keepalive_interval 30
notifications true
notification_topic bridges/plant
restart_timeout 5 60
bridge_outgoing_retain false
topic sensors/# out 1 "" site/7/
topic cmd/+ in 2 local/ remote/
topic # both 0 l/ r/

connection second
address broker
topic plain
"""


def body(text: str) -> dict[str, Any]:
    imported = read(f"connection a\naddress b\n{text}\n")
    assert imported.good, imported.notes
    return imported.bodies[0]


def wrong(text: str) -> list[str]:
    return [str(note) for note in read(text).notes if note.wrong]


def test_a_whole_file() -> None:
    imported = read(PLANT)
    assert imported.good
    first, second = imported.bodies
    assert first == {
        "kind": "Bridge",
        "name": "plant-a",
        "mqtt": {
            "address": ["mqtts://broker.example:8883", "mqtts://[fd00::1]:1884", "mqtts://10.0.0.1:8883"],
            "version": 5,
            "clientId": "edge-7",
            "username": "somebody",
            "cleanStart": True,
            "keepalive": "30s",
            "passwordFile": "/run/secrets/mqtt-plant-a",
            "tls": {"ca": "/etc/ca.pem", "certificate": "/etc/cert.pem", "key": "/etc/key.pem", "insecure": False},
        },
        "presence": {"notifications": True, "topic": "bridges/plant"},
        "backoff": {"base": "5s", "cap": "60s"},
        "topics": [
            {"pattern": "sensors/#", "direction": "out", "qos": 1, "remote": "site/7/", "retain": "never"},
            {"pattern": "cmd/+", "direction": "in", "qos": 2, "local": "local/", "remote": "remote/"},
            {"pattern": "#", "direction": "both", "qos": 0, "local": "l/", "remote": "r/", "retain": "never"},
        ],
    }
    assert second["mqtt"] == {"address": ["mqtt://broker:1883"], "version": 4}
    assert second["topics"] == [{"pattern": "plain", "direction": "out", "qos": 0}]
    said = [str(note) for note in imported.notes]
    assert "3: the name 'Plant_A' became 'plant-a'" in said
    assert any(note.startswith("12: write the password into the file") for note in said)
    assert any("version 4, as in Mosquitto" in note for note in said)
    assert not any("sesame" in note for note in said)
    examined = examine(yaml.safe_dump_all(imported.bodies))
    assert {finding.code for finding in examined.findings if not finding.warning} <= {"GW0121"}


# The table of mosquitto.conf(5): pattern, local prefix, remote prefix, and the topics on both sides.
@pytest.mark.parametrize(
    ("line", "local", "remote"),
    [
        ("pattern out 0 L/ R/", "L/pattern", "R/pattern"),
        ('pattern out 0 L/ ""', "L/pattern", "pattern"),
        ('pattern out 0 "" R/', "pattern", "R/pattern"),
        ('pattern out 0 "" ""', "pattern", "pattern"),
        ('"" out 0 local remote', "local", "remote"),
        ('"" out 0 local ""', None, None),
        ('"" out 0 "" remote', None, None),
        ('"" out 0 "" ""', None, None),
    ],
)
def test_the_eight_combinations(line: str, local: str | None, remote: str | None) -> None:
    if local is None:
        assert wrong(f"connection a\naddress b\ntopic {line}\n") == [
            "3: topic: without a pattern both prefixes are needed, which are the topics then"
        ]
        return
    spec = Bridge.model_validate(
        body(f"topic {line}\ntopic {line.replace('out', 'in')}") | {"topics": [topic_line(line)]}
    )
    outgoing = spec.rules.outgoing(local, {})
    assert outgoing is not None
    assert outgoing.topic == remote
    inward = Bridge.model_validate(body("") | {"topics": [topic_line(line.replace("out", "in"))]})
    matched = inward.rules.incoming(str(remote))
    assert matched is not None
    assert matched.local == matched.route == local


def test_a_password_alone_is_of_no_use() -> None:
    assert "passwordFile" not in body("remote_password sesame")["mqtt"]
    assert Bridge.model_validate(body("remote_password sesame")).mqtt.password_file is None


def test_what_a_topic_line_leaves_out() -> None:
    assert topic_line("a") == {"pattern": "a", "direction": "out", "qos": 0}
    assert topic_line("a both") == {"pattern": "a", "direction": "both", "qos": 0}
    assert topic_line("a in 2 l/") == {"pattern": "a", "direction": "in", "qos": 2, "local": "l/"}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a up",
        "a out 3",
        "a out x",
        "a out 0 l/ r/ more",
        "a/#/b",
        "a out 0 +/ r/",
        "# out 0 l r",
        "a/{x}",
        "a out -1",
    ],
)
def test_a_topic_line_that_mosquitto_would_not_take(line: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        topic_line(line)


def test_what_has_no_service_gets_one() -> None:
    found = body("topic # out 1")
    assert found["topics"] == [{"pattern": "#", "direction": "out", "qos": 1, "local": "a/"}]
    spec = Bridge.model_validate(found)
    assert spec.rules.services == ("a",)
    outgoing = spec.rules.outgoing("a/x/y", {})
    assert outgoing is not None
    assert outgoing.topic == "x/y"
    (line,) = [note.text for note in read("connection a\naddress b\ntopic # out 1").notes if note.line == 3]
    assert "requests for a/… go out by it" in line


def test_what_is_not_taken_over_is_said() -> None:
    text = """connection a
address b:1883
remote_clientid x
bridge_protocol_version mqttv50
local_clientid x
local_username x
bridge_capath /x
bridge_alpn mqtt
bridge_tls_version tlsv1.2
bridge_psk 00
start_type lazy
threshold 5
idle_timeout 5
round_robin true
try_private true
bridge_attempt_unsubscribe false
bridge_bind_address 10.0.0.1
notifications_local_only true
restart_timeout 20
bridge_max_packet_size 10
bridge_shiny_new true
include_dir /etc/mosquitto/conf.d
"""
    imported = read(text)
    assert imported.good
    assert [note.line for note in imported.notes] == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]
    assert imported.bodies[0]["presence"] == {"notifications": False}
    quiet = read("connection a\naddress b\nremote_clientid x\nbridge_protocol_version mqttv50\nround_robin false\n")
    assert quiet.notes == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 0),
        ("topic a\n", 1),
        ("connection a\n", 1),
        ("connection a\naddress b\nconnection a\naddress b\n", 1),
        ("connection a\naddress b:0\n", 2),
        ("connection a\naddress b:port\n", 2),
        ("connection a\naddress b\nbridge_protocol_version mqttv6\n", 3),
        ("connection a\naddress b\ncleansession perhaps\n", 3),
        ("connection a\naddress b\nkeepalive_interval 1\n", 3),
        ("connection a\naddress b\nrestart_timeout 1 2 3\n", 3),
        ("connection a\naddress b\nstart_type never\n", 3),
        ("connection a\naddress b\nremote_clientid\n", 3),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int) -> None:
    assert line in [note.line for note in read(text).notes if note.wrong]
    assert not read(text).good


WORDS = st.sampled_from(
    [
        "connection",
        "address",
        "topic",
        "a",
        "#",
        '""',
        "both",
        "in",
        "out",
        "1",
        "2",
        "l/",
        "h:1",
        "\n",
        "\n",
        "password",
    ]
)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=30).map(" ".join))
def test_nothing_makes_it_fail(text: str) -> None:
    imported = read(text.replace("\n ", "\n"))
    if imported.good:
        for each in imported.bodies:
            Bridge.model_validate(each)
