"""`mosquitto.conf`: its bridge sections as `Bridge` documents, and what of them was not taken over.

Section "Configuring bridges" of mosquitto.conf(5). What has no meaning without a broker on this side (`local_username`,
`start_type lazy`, …) is said, and so is whatever means something else here. A password is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.policy.mqtt_filters import ONE, REST, SEPARATOR, is_filter

_VERSIONS = {"mqttv50": 5, "mqttv311": 4, "mqttv31": 4}
_NAME = re.compile(r"[^a-z0-9.-]+")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_TLS = ("bridge_cafile", "bridge_capath", "bridge_certfile", "bridge_keyfile", "bridge_insecure", "bridge_tls_version")


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be known of a line, from 1. `wrong`: Mosquitto would not take it either, or we cannot."""

    line: int
    text: str
    wrong: bool = False

    def __str__(self) -> str:
        return f"{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Imported:
    """`bodies`: documents, as they are written."""

    bodies: tuple[dict[str, Any], ...]
    notes: tuple[Note, ...]

    @property
    def good(self) -> bool:
        return bool(self.bodies) and not any(note.wrong for note in self.notes)


@dataclass(slots=True)
class _Section:
    """One bridge while it is read: the document's parts, as far as they are known."""

    name: str
    line: int
    notes: list[Note]
    is_addressed: bool = False
    addresses: list[tuple[str, int | None]] = field(default_factory=list)
    mqtt: dict[str, Any] = field(default_factory=dict)
    tls: dict[str, Any] = field(default_factory=dict)
    uses_tls: bool = False
    topics: list[dict[str, Any]] = field(default_factory=list)
    presence: dict[str, Any] = field(default_factory=dict)
    backoff: dict[str, Any] = field(default_factory=dict)
    retains: bool = True
    has_password: bool = False

    def note(self, line: int, text: str, *, wrong: bool = False) -> None:
        self.notes.append(Note(line, text, wrong))


def read(text: str) -> Imported:
    """All bridges of a configuration. It never raises: what cannot be read is a note."""
    notes: list[Note] = []
    sections: list[_Section] = []
    for line, raw in enumerate(text.splitlines(), 1):
        key, *rest = raw.split(None, 1) or ("#",)
        value = rest[0].strip() if rest else ""
        if key.startswith("#"):
            continue
        if key == "connection":
            sections.append(_Section(value, line, notes))
        elif key in ("include_dir", "include_file"):
            notes.append(Note(line, f"{key} is not followed; import those files, too"))
        elif key in _OPTIONS and sections:
            _read_option(sections[-1], line, key, value)
        elif key in _OPTIONS and (key.startswith("bridge_") or key in ("topic", "address", "addresses")):
            notes.append(Note(line, f"{key} before any connection", wrong=True))
        elif key.startswith("bridge_"):
            notes.append(Note(line, f"{key} is not known here and was left out"))
    if not sections:
        notes.append(Note(0, "there is no bridge in it: no line begins with connection", wrong=True))
    bodies = [_body(section) for section in sections]
    names = [body["name"] for body in bodies]
    for section, name in zip(sections, names, strict=True):
        if names.count(name) > 1:
            notes.append(Note(section.line, f"two connections would both be Bridge/{name}", wrong=True))
    return Imported(tuple(bodies), tuple(sorted(notes, key=lambda note: note.line)))


def _read_option(section: _Section, line: int, key: str, value: str) -> None:
    if key in _TLS:
        section.uses_tls = True
    try:
        _OPTIONS[key](section, line, value)
    except ValueError as error:
        section.note(line, f"{key}: {error}", wrong=True)


def _body(section: _Section) -> dict[str, Any]:
    name = _NAME.sub("-", section.name.lower()).strip("-.")[:63] or "bridge"
    if name != section.name:
        section.note(section.line, f"the name {section.name!r} became {name!r}")
    if not section.is_addressed:
        section.note(section.line, "no address", wrong=True)
    scheme, usual = ("mqtts", 8883) if section.uses_tls else ("mqtt", 1883)
    mqtt: dict[str, Any] = {
        "address": [f"{scheme}://{host}:{port or usual}" for host, port in section.addresses],
        # Mosquitto's own default, which is not the gateway's.
        "version": 4,
    }
    mqtt |= section.mqtt
    if "clientId" not in mqtt:
        text = f"no remote_clientid: the broker knows the bridge as gateway-{name}, not as {section.name}.<host>"
        section.note(section.line, text)
    if mqtt["version"] == 4:
        section.note(section.line, "version 4, as in Mosquitto; version: 5 keeps out loops and tells reasons")
    if section.has_password and "username" not in mqtt:
        section.note(section.line, "a password without remote_username is of no use: left out")
    elif section.has_password:
        mqtt["passwordFile"] = f"/run/secrets/mqtt-{name}"
    if section.tls:
        mqtt["tls"] = section.tls
    body: dict[str, Any] = {"kind": "Bridge", "name": name, "mqtt": mqtt}
    for part in ("presence", "backoff"):
        if getattr(section, part):
            body[part] = getattr(section, part)
    body["topics"] = [_rooted(section, name, rule) for rule in section.topics]
    return body


def _rooted(section: _Section, name: str, rule: dict[str, Any]) -> dict[str, Any]:
    line = rule.pop("line")
    if rule["direction"] != "in":
        if not section.retains:
            rule["retain"] = "never"
        first = (rule.get("local", "") + rule["pattern"]).split(SEPARATOR)[0]
        if first in (ONE, REST):
            rule["local"] = f"{name}/" + rule.get("local", "")
            section.note(line, f"requests for {name}/… go out by it: a service has a name, and {first} is none")
    return rule


# Options. Each gets the section, the line, and what stands behind the option's name.


def _connection_option(part: str, name: str) -> Callable[[_Section, int, str], None]:
    def take(section: _Section, line: int, value: str) -> None:
        getattr(section, part)[name] = _given(value)

    return take


def _truth_option(part: str, name: str) -> Callable[[_Section, int, str], None]:
    def take(section: _Section, line: int, value: str) -> None:
        getattr(section, part)[name] = _truth(value)

    return take


def _dropped(why: str) -> Callable[[_Section, int, str], None]:
    def take(section: _Section, line: int, value: str) -> None:
        section.note(line, why)

    return take


def _given(value: str) -> str:
    if not value:
        raise ValueError("has no value")
    return value


def _truth(value: str) -> bool:
    if value not in _TRUTHS:
        raise ValueError("is true or false")
    return _TRUTHS[value]


def _number(value: str, least: int, most: int) -> int:
    if not value.isascii() or not value.isdecimal() or len(value) > 10 or not least <= int(value) <= most:
        raise ValueError(f"is a number from {least} to {most}")
    return int(value)


def _addresses(section: _Section, line: int, value: str) -> None:
    section.is_addressed = True
    for each in _given(value).split():
        host, colon, port = each.rpartition(":")
        if not colon:
            section.addresses.append((each, None))
            continue
        host = host.strip("[]")
        section.addresses.append((f"[{host}]" if ":" in host else host, _number(port, 1, 65_535)))


def _version(section: _Section, line: int, value: str) -> None:
    if value not in _VERSIONS:
        raise ValueError(f"is one of {', '.join(_VERSIONS)}")
    section.mqtt["version"] = _VERSIONS[value]
    if value == "mqttv31":
        section.note(line, "mqttv31 became version 4, MQTT 3.1.1")


def _keepalive(section: _Section, line: int, value: str) -> None:
    section.mqtt["keepalive"] = f"{_number(value, 5, 65_535)}s"


def _packet(section: _Section, line: int, value: str) -> None:
    size = _number(value, 0, 268_435_460)
    if size >= 1024:
        section.mqtt["maxPacket"] = f"{size}B"
    elif size:
        section.note(line, "a packet of less than 1 KiB at most: left out")


def _password(section: _Section, line: int, value: str) -> None:
    section.has_password = True
    section.note(line, "write the password into the file that passwordFile names; it was not taken over")


def _restart(section: _Section, line: int, value: str) -> None:
    given = [_number(each, 1, 86_400) for each in _given(value).split()]
    if len(given) > 2:
        raise ValueError("has one or two numbers")
    section.backoff |= {"base": f"{given[0]}s", "cap": f"{given[-1]}s"}
    if len(given) == 1:
        section.note(line, f"tries come at random within {given[0]} s, not each {given[0]} s")


def _outgoing_retain(section: _Section, line: int, value: str) -> None:
    section.retains = _truth(value)


def _local_only(section: _Section, line: int, value: str) -> None:
    if _truth(value):
        section.presence["notifications"] = False
        section.note(line, "no notifications: there is no local broker; see gateway mqtt bridge ls")


def _start_type(section: _Section, line: int, value: str) -> None:
    if value not in ("automatic", "lazy", "once"):
        raise ValueError("is automatic, lazy or once")
    if value != "automatic":
        section.note(line, f"start_type {value} is not known here: the bridge stays connected")


def _unless(usual: bool, why: str) -> Callable[[_Section, int, str], None]:
    """A note where it is not what the gateway does anyway."""

    def take(section: _Section, line: int, value: str) -> None:
        if _truth(value) is not usual:
            section.note(line, why)

    return take


def _topic(section: _Section, line: int, value: str) -> None:
    section.topics.append({**topic_line(value), "line": line})


def topic_line(value: str) -> dict[str, Any]:
    """What stands behind `topic`, as a rule of a document. Raises ValueError."""
    words = ["" if word == '""' else word for word in value.split()]
    if not 1 <= len(words) <= 5:
        raise ValueError('is: topic pattern [[out|in|both] qos local-prefix remote-prefix], "" for nothing')
    pattern, direction, qos, local, remote = words + ["", "out", "0", "", ""][len(words) :]
    if direction not in ("in", "out", "both"):
        raise ValueError(f"{direction!r} is not in, out or both")
    if not pattern and not (local and remote):
        raise ValueError("without a pattern both prefixes are needed, which are the topics then")
    for prefix in (local, remote):
        if any(wildcard in prefix for wildcard in (ONE, REST)):
            raise ValueError("a prefix has no wildcards")
        if not is_filter(prefix + pattern):
            raise ValueError(f"{prefix + pattern!r} is no topic filter")
    if any(brace in f"{pattern}{local}{remote}" for brace in "{}"):
        raise ValueError("braces have a meaning of their own here, and cannot be part of a topic")
    rule: dict[str, Any] = {"pattern": pattern, "direction": direction, "qos": _number(qos, 0, 2)}
    return rule | {name: prefix for name, prefix in (("local", local), ("remote", remote)) if prefix}


_NO_LOCAL_BROKER = "of the local broker, which is not needed here: it was left out"
_OPTIONS: dict[str, Callable[[_Section, int, str], None]] = {
    "address": _addresses,
    "addresses": _addresses,
    "topic": _topic,
    "bridge_protocol_version": _version,
    "cleansession": _truth_option("mqtt", "cleanStart"),
    "keepalive_interval": _keepalive,
    "remote_clientid": _connection_option("mqtt", "clientId"),
    "clientid": _connection_option("mqtt", "clientId"),
    "remote_username": _connection_option("mqtt", "username"),
    "username": _connection_option("mqtt", "username"),
    "remote_password": _password,
    "password": _password,
    "notifications": _truth_option("presence", "notifications"),
    "notification_topic": _connection_option("presence", "topic"),
    "notifications_local_only": _local_only,
    "restart_timeout": _restart,
    "round_robin": _unless(False, "addresses are tried in their order, and the one that answers is kept"),
    "start_type": _start_type,
    "threshold": _dropped("threshold goes with start_type lazy, which is not known here"),
    "idle_timeout": _dropped("idle_timeout goes with start_type lazy, which is not known here"),
    "try_private": _unless(False, "try_private is a word between Mosquittos; version: 5 has No Local for it"),
    "local_clientid": _dropped(f"local_clientid is {_NO_LOCAL_BROKER}"),
    "local_username": _dropped(f"local_username is {_NO_LOCAL_BROKER}"),
    "local_password": _dropped(f"local_password is {_NO_LOCAL_BROKER}"),
    "local_cleansession": _dropped(f"local_cleansession is {_NO_LOCAL_BROKER}"),
    "bridge_attempt_unsubscribe": _unless(True, "what is not in the rules any more is always unsubscribed from"),
    "bridge_bind_address": _dropped("bridge_bind_address was left out: the system chooses the interface"),
    "bridge_max_packet_size": _packet,
    "bridge_outgoing_retain": _outgoing_retain,
    "bridge_cafile": _connection_option("tls", "ca"),
    "bridge_capath": _dropped("bridge_capath was left out: put the certificates into one file, tls: {ca: FILE}"),
    "bridge_certfile": _connection_option("tls", "certificate"),
    "bridge_keyfile": _connection_option("tls", "key"),
    "bridge_insecure": _truth_option("tls", "insecure"),
    "bridge_tls_version": _dropped("bridge_tls_version was left out: TLS 1.2 or newer, whichever both have"),
    "bridge_alpn": _dropped("bridge_alpn was left out"),
    "bridge_require_ocsp": _dropped("bridge_require_ocsp was left out: OCSP is not asked"),
    "bridge_identity": _dropped("pre-shared keys are not taken: use certificates"),
    "bridge_psk": _dropped("pre-shared keys are not taken: use certificates"),
}
