"""Home Assistant's discovery, from the labels of a device (home-assistant.io, MQTT, "Discovery messages").

A label `ha.<entity>` is one entity: its component, then what is to be said of it, `sensor;unit=°C;class=temperature`.
The label `ha` says of the device itself: `name=Hall;manufacturer=…;model=…;area=…`. An entity without its availability
stays "unavailable", so the availability goes with the announcement, retained like it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.bridges.mqtt.message import Message, Properties
from gateway.errors import BridgeError
from gateway.policy.mqtt_filters import is_topic
from gateway.topics.patterns import Template

LABEL: Final = "ha"
PREFIX: Final = "ha."
ONLINE, OFFLINE = b"online", b"offline"
#: Of one device.
MAX_ENTITIES: Final = 64
#: Component → whether it has a state, and whether it takes orders.
COMPONENTS: Final[Mapping[str, tuple[bool, bool]]] = {
    "binary_sensor": (True, False),
    "button": (False, True),
    "event": (True, False),
    "light": (True, True),
    "lock": (True, True),
    "number": (True, True),
    "select": (True, True),
    "sensor": (True, False),
    "siren": (True, True),
    "switch": (True, True),
    "text": (True, True),
    "update": (True, False),
}
#: What a label says → Home Assistant's abbreviation.
_ENTITY_KEYS: Final = {
    "name": "name",
    "unit": "unit_of_meas",
    "class": "dev_cla",
    "state_class": "stat_cla",
    "category": "ent_cat",
    "icon": "ic",
    "template": "val_tpl",
    "on": "pl_on",
    "off": "pl_off",
    "press": "pl_prs",
    "min": "min",
    "max": "max",
    "step": "step",
    "options": "ops",
    "expire_after": "exp_aft",
    "precision": "sug_dsp_prc",
}
_NUMBERS: Final = frozenset({"min", "max", "step", "expire_after", "precision"})
_DEVICE_KEYS: Final = {
    "name": "name",
    "manufacturer": "mf",
    "model": "mdl",
    "area": "sa",
    "software": "sw",
    "hardware": "hw",
    "serial": "sn",
}
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Topics:
    """Where things are: templates of `{sub}`, the first two of `{entity}` too. `prefix`: where announcements go.
    `bridge`: where the bridge says `1` while it is there, without which nobody is."""

    prefix: str
    state: Template
    command: Template
    availability: Template
    bridge: str | None = None


def is_announced(labels: Mapping[str, str]) -> bool:
    """Whether a device has labels that Home Assistant is told of."""
    return any(name.startswith(PREFIX) for name in labels)


def announcements(
    subject: str, labels: Mapping[str, str], topics: Topics, *, online: bool, version: str
) -> tuple[Message, ...]:
    """All that Home Assistant is to know of a device, its availability last. `version`: of this program.

    Raises BridgeError for labels that mean nothing.
    """
    if not is_announced(labels):
        return ()
    device = _device(subject, labels)
    origin = {"name": "gateway", "sw": version}
    found = []
    for entity, component, said in _entities(labels):
        config = _config(subject, entity, component, said, topics)
        config |= {"dev": device, "o": origin}
        found.append(_retained(_config_topic(subject, entity, component, topics), _json(config), text=True))
    return (*found, availability(subject, topics, online=online))


def availability(subject: str, topics: Topics, *, online: bool) -> Message:
    """Whether the device is there. Raises BridgeError when its name is no level of a topic."""
    return _retained(_filled(topics.availability, subject), ONLINE if online else OFFLINE, text=True)


def removals(subject: str, labels: Mapping[str, str], topics: Topics) -> tuple[Message, ...]:
    """What makes Home Assistant forget what `announcements` said, for the labels as they were."""
    if not is_announced(labels):
        return ()
    configs = [
        _retained(_config_topic(subject, entity, component, topics), b"") for entity, component, _ in _entities(labels)
    ]
    return (*configs, _retained(_filled(topics.availability, subject), b""))


def changes(
    subject: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
    topics: Topics,
    *,
    online: bool,
    version: str,
) -> tuple[Message, ...]:
    """What is to be published when labels change: what has gone is removed, and the rest said again.

    Raises BridgeError for labels that mean nothing; nothing is said of the device then.
    """
    said = announcements(subject, after, topics, online=online, version=version)
    standing = {message.topic for message in said}
    try:
        gone = removals(subject, before, topics)
    except BridgeError:
        gone = ()
    return (*(message for message in gone if message.topic not in standing), *said)


def _entities(labels: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Entity, component, and what is said of it, by name. Raises BridgeError."""
    names = sorted(name for name in labels if name.startswith(PREFIX))
    if len(names) > MAX_ENTITIES:
        raise BridgeError(f"{len(names)} entities; a device has at most {MAX_ENTITIES}", reason="mqtt_discovery")
    for name in names:
        entity = name.removeprefix(PREFIX)
        component, *rest = labels[name].split(";")
        component = component.strip()
        if not entity or _NOT_IN_ID.search(entity):
            raise BridgeError(f"the label {name!a} names no entity: A-Z a-z 0-9 _ -", reason="mqtt_discovery")
        if component not in COMPONENTS:
            raise BridgeError(
                f"the label {name!a} begins with no component that is known: {', '.join(COMPONENTS)}",
                reason="mqtt_discovery",
            )
        yield entity, component, _said(name, rest, _ENTITY_KEYS)


def _said(label: str, parts: list[str], keys: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for part in filter(str.strip, parts):
        key, equals, value = part.partition("=")
        if not equals or key.strip() not in keys:
            raise BridgeError(
                f"the label {label!a} says {part.strip()!a}; known are {', '.join(keys)}", reason="mqtt_discovery"
            )
        found[key.strip()] = value.strip()
    return found


def _config(subject: str, entity: str, component: str, said: Mapping[str, str], topics: Topics) -> dict[str, Any]:
    has_state, takes_orders = COMPONENTS[component]
    config: dict[str, Any] = {
        "uniq_id": f"gateway_{id_of(subject)}_{entity}",
        "name": said.get("name", entity.replace("_", " ")),
    }
    available = _filled(topics.availability, subject)
    if topics.bridge is None:
        config["avty_t"] = available
    else:
        there = {"t": topics.bridge, "pl_avail": "1", "pl_not_avail": "0"}
        config |= {"avty": [{"t": available}, there], "avty_mode": "all"}
    if has_state:
        config["stat_t"] = _filled(topics.state, subject, entity)
    if takes_orders:
        config["cmd_t"] = _filled(topics.command, subject, entity)
    for key, value in said.items():
        if key in _NUMBERS:
            config[_ENTITY_KEYS[key]] = _number(key, value)
        elif key == "options":
            config[_ENTITY_KEYS[key]] = [option.strip() for option in value.split("|")]
        else:
            config[_ENTITY_KEYS[key]] = value
    return config


def _number(key: str, value: str) -> float | int:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if number != number or number in (float("inf"), float("-inf")):
        raise BridgeError(f"{key} is a number, not {value!a}", reason="mqtt_discovery")
    return int(number) if number.is_integer() else number


def _device(subject: str, labels: Mapping[str, str]) -> dict[str, Any]:
    said = _said(LABEL, labels.get(LABEL, "").split(";"), _DEVICE_KEYS)
    named = {_DEVICE_KEYS[key]: value for key, value in said.items()}
    return {"ids": [f"gateway_{id_of(subject)}"], "name": subject} | named


def id_of(subject: str) -> str:
    """A device's name as Home Assistant takes one; two names never become one."""
    plain = _NOT_IN_ID.sub("_", subject)
    if plain == subject:
        return plain
    return f"{plain}_{hashlib.sha256(subject.encode(errors='replace')).hexdigest()[:8]}"


def _config_topic(subject: str, entity: str, component: str, topics: Topics) -> str:
    return f"{topics.prefix}/{component}/{id_of(subject)}/{entity}/config"


def _filled(template: Template, subject: str, entity: str = "") -> str:
    topic = template.fill({"sub": subject, "entity": entity})
    if "/" in subject or not is_topic(topic):
        raise BridgeError(f"the name {subject!a} is no level of a topic", reason="mqtt_discovery")
    return topic


def _retained(topic: str, payload: bytes, *, text: bool | None = None) -> Message:
    return Message(topic, payload, qos=1, retain=True, properties=Properties(text=text))


def _json(config: dict[str, Any]) -> bytes:
    return json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode()
