"""Home Assistant's discovery from labels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.bridges.mqtt.discovery import Topics, announcements, changes, id_of, removals
from gateway.bridges.mqtt.message import Message
from gateway.errors import BridgeError
from gateway.topics.patterns import Template

TOPICS = Topics(
    "homeassistant",
    Template("gateway/{sub}/{entity}"),
    Template("gateway/{sub}/{entity}/set"),
    Template("gateway/{sub}/availability"),
)
LABELS = {
    "room": "hall",
    "ha": "name=Hall thermostat;manufacturer=Acme;area=Hall",
    "ha.temperature": "sensor;unit=°C;class=temperature;state_class=measurement;precision=1",
    "ha.target": "number;min=5;max=30;step=0.5",
    "ha.mode": "select;options=off|heat|auto",
    "ha.reset": "button",
}


def announced(subject: str = "t-1", labels: dict[str, str] = LABELS, *, online: bool = True) -> tuple[Message, ...]:
    return announcements(subject, labels, TOPICS, online=online, version="1.2.3")


def configs(messages: tuple[Message, ...]) -> dict[str, dict[str, Any]]:
    return {each.topic: json.loads(each.payload) for each in messages if each.topic.endswith("/config")}


def test_a_thermostat() -> None:
    messages = announced()
    assert all((each.qos, each.retain) == (1, True) for each in messages)
    assert messages[-1][:2] == ("gateway/t-1/availability", b"online")
    found = configs(messages)
    device = {"ids": ["gateway_t-1"], "name": "Hall thermostat", "mf": "Acme", "sa": "Hall"}
    origin = {"name": "gateway", "sw": "1.2.3"}
    assert found["homeassistant/sensor/t-1/temperature/config"] == {
        "uniq_id": "gateway_t-1_temperature",
        "name": "temperature",
        "avty_t": "gateway/t-1/availability",
        "stat_t": "gateway/t-1/temperature",
        "unit_of_meas": "°C",
        "dev_cla": "temperature",
        "stat_cla": "measurement",
        "sug_dsp_prc": 1,
        "dev": device,
        "o": origin,
    }
    assert found["homeassistant/number/t-1/target/config"] | {"dev": 0, "o": 0} == {
        "uniq_id": "gateway_t-1_target",
        "name": "target",
        "avty_t": "gateway/t-1/availability",
        "stat_t": "gateway/t-1/target",
        "cmd_t": "gateway/t-1/target/set",
        "min": 5,
        "max": 30,
        "step": 0.5,
        "dev": 0,
        "o": 0,
    }
    assert found["homeassistant/select/t-1/mode/config"]["ops"] == ["off", "heat", "auto"]
    assert "stat_t" not in found["homeassistant/button/t-1/reset/config"]
    assert len(found) == 4


def test_who_has_no_labels_for_it_is_not_announced() -> None:
    assert announced(labels={"room": "hall", "ha": "name=x"}) == ()
    assert removals("t-1", {"room": "hall"}, TOPICS) == ()


def test_away() -> None:
    assert announced(online=False)[-1].payload == b"offline"


def test_what_was_announced_can_be_taken_back() -> None:
    gone = removals("t-1", LABELS, TOPICS)
    assert {each.topic for each in gone} == {each.topic for each in announced()}
    assert all(each.payload == b"" and each.retain for each in gone)


def test_what_changes_is_said_and_what_has_gone_taken_back() -> None:
    after = {name: text for name, text in LABELS.items() if name != "ha.mode"} | {"ha.target": "sensor"}
    messages = changes("t-1", LABELS, after, TOPICS, online=True, version="1")
    gone = [each.topic for each in messages if not each.payload]
    assert gone == ["homeassistant/select/t-1/mode/config", "homeassistant/number/t-1/target/config"]
    assert set(configs(tuple(each for each in messages if each.payload))) == {
        "homeassistant/sensor/t-1/temperature/config",
        "homeassistant/sensor/t-1/target/config",
        "homeassistant/button/t-1/reset/config",
    }
    assert [each.payload for each in changes("t-1", LABELS, {}, TOPICS, online=True, version="1")] == [b""] * 5
    assert changes("t-1", {"ha.x": "nonsense"}, {}, TOPICS, online=True, version="1") == ()


@pytest.mark.parametrize(
    "labels",
    [
        {"ha.x": ""},
        {"ha.x": "toaster"},
        {"ha.": "sensor"},
        {"ha.a/b": "sensor"},
        {"ha.x": "sensor;colour=red"},
        {"ha.x": "sensor;unit"},
        {"ha.x": "number;min=low"},
        {"ha.x": "number;min=inf"},
        {"ha.x": "sensor", "ha": "colour=red"},
        {f"ha.e{at}": "sensor" for at in range(65)},
    ],
)
def test_labels_that_mean_nothing(labels: dict[str, str]) -> None:
    with pytest.raises(BridgeError):
        announced(labels=labels)


@pytest.mark.parametrize("subject", ["a/b", "a+", "#", "a\0b"])
def test_a_name_that_is_no_level_of_a_topic(subject: str) -> None:
    with pytest.raises(BridgeError):
        announced(subject)


def test_two_names_never_become_one() -> None:
    names = ["t-1", "t.1", "t 1", "t:1", "té1", "t_1"]
    assert len({id_of(name) for name in names}) == len(names)
    assert id_of("t-1") == "t-1"


def test_whoever_is_behind_a_bridge_is_there_while_it_is() -> None:
    behind = Topics("homeassistant", TOPICS.state, TOPICS.command, TOPICS.availability, "gateways/plant")
    said = announcements("t-1", LABELS, behind, online=True, version="1")
    for config in configs(said).values():
        assert config["avty_mode"] == "all"
        assert config["avty"] == [
            {"t": "gateway/t-1/availability"},
            {"t": "gateways/plant", "pl_avail": "1", "pl_not_avail": "0"},
        ]
        assert "avty_t" not in config
