"""MQTT's properties as composite metadata, and back.

What comes in has, in this order: the routing entry (route, then the tags that choose a responder); the type of its
data, where the content type is one; a Zipkin entry, where the user property `traceparent` is one of the W3C's; and an
entry of the type `message/x.gateway.mqtt.v0`, JSON with what has no place elsewhere:

    {"topic", "qos", "retain", "tags": {…}, "expiry_s", "text", "user": [[name, value], …], "duplicate"}

What goes out reads the same entries: an application that passes metadata on loses nothing. Tags of the routing entry
(`topic`, `qos`, `retain`, `expiry`, `contentType`) say more than the JSON entry where both are there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from gateway.bridges.mqtt.message import NO_PROPERTIES, Message, Properties
from gateway.errors import FrameError, RequestError, RequestInvalid
from gateway.topics.rules import Matched
from gateway.wire.metadata import (
    Sampling,
    Zipkin,
    decode_mime_type,
    decode_routing,
    decode_zipkin,
    encode_composite,
    encode_mime_type,
    encode_routing,
    encode_zipkin,
    iter_composite,
)
from gateway.wire.mimetypes import MAX_NAME_BYTES, MIME_TYPE, MQTT, ROUTING, ZIPKIN

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
ERROR, ERROR_TEXT, END = "gateway-error", "gateway-error-text", "gateway-end"
MAX_USER = 64
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What the metadata of a request say to a bridge. `tags`: of the routing entry, behind the route; of a name that is
    there twice the last. `qos`, `retain`: None where nothing is said."""

    route: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    topic: str | None = None
    qos: int | None = None
    retain: bool | None = None
    properties: Properties = NO_PROPERTIES


def metadata_of(message: Message, matched: Matched, *, user: tuple[tuple[str, str], ...] | None = None) -> bytes:
    """Of the request that a message becomes. `user`: in place of its user properties."""
    routing = encode_routing([matched.route, *(f"{name}={value}" for name, value in matched.selecting)])
    return encode_composite([(ROUTING, routing)]) + payload_metadata(message, tags=matched.tags, user=user)


def payload_metadata(
    message: Message,
    *,
    tags: tuple[tuple[str, str], ...] = (),
    user: tuple[tuple[str, str], ...] | None = None,
) -> bytes:
    """Of a payload that is a message: an item of `subscribe`, the answer of `last`."""
    properties = message.properties
    kept = properties.user if user is None else user
    entries = []
    content_type = properties.content_type
    if content_type is not None and content_type.isascii() and 0 < len(content_type) <= MAX_NAME_BYTES:
        entries.append((MIME_TYPE, encode_mime_type(content_type)))
    trace = zipkin_of(properties.of_user(TRACEPARENT))
    if trace is not None:
        entries.append((ZIPKIN, encode_zipkin(trace)))
    told: dict[str, Any] = {"topic": message.topic, "qos": message.qos, "retain": message.retain}
    if tags:
        told["tags"] = dict(tags)
    if properties.expiry_s is not None:
        told["expiry_s"] = properties.expiry_s
    if properties.text is not None:
        told["text"] = properties.text
    if kept:
        told["user"] = kept
    if message.duplicate:
        told["duplicate"] = True
    entries.append((MQTT, json.dumps(told, separators=(",", ":")).encode()))
    return encode_composite(entries)


def asked_of(metadata: bytes) -> Asked:
    """Raises RequestInvalid for what cannot be published, FrameError for metadata that is none."""
    route, tags = "", {}
    told: dict[str, Any] = {}
    content_type = None
    trace = None
    for entry in iter_composite(metadata, 0, len(metadata)):
        content = metadata[entry.content_start : entry.end]
        if entry.mime == ROUTING and not route:
            first, *rest = decode_routing(content) or ("",)
            route = first
            tags = {name: value for name, separator, value in (tag.partition("=") for tag in rest) if separator}
        elif entry.mime == MIME_TYPE:
            content_type = decode_mime_type(content)
        elif entry.mime == ZIPKIN:
            trace = trace or traceparent_of(decode_zipkin(content))
        elif entry.mime == TRACEPARENT:
            header = content.decode("ascii", "replace")
            trace = header if zipkin_of(header) is not None else trace
        elif entry.mime == MQTT:
            told = _told(content)
    return _asked(route, tags, told, content_type, trace)


def _told(content: bytes) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise RequestInvalid(f"the entry {MQTT} is no JSON object", reason="mqtt_metadata")
    return told


def _asked(
    route: str, tags: dict[str, str], told: dict[str, Any], content_type: str | None, trace: str | None
) -> Asked:
    user = _user(told.get("user", ()))
    if trace is not None:
        # The trace as it is now, not as it was when the message came in.
        user = (*(pair for pair in user if pair[0] != TRACEPARENT), (TRACEPARENT, trace))
    expiry = _whole(tags.get("expiry", told.get("expiry_s")), "expiry", 0, 0xFFFFFFFF)
    text = told.get("text")
    topic = tags.get("topic", told.get("topic"))
    if topic is not None and not isinstance(topic, str):
        raise RequestInvalid("topic is no text", reason="mqtt_metadata")
    return Asked(
        route=route,
        tags=tags,
        topic=topic,
        qos=_whole(tags.get("qos", told.get("qos")), "qos", 0, 2),
        retain=_truth(tags.get("retain", told.get("retain"))),
        properties=Properties(
            content_type=tags.get("contentType", content_type),
            text=text if isinstance(text, bool) else None,
            expiry_s=expiry,
            user=user,
        ),
    )


def _user(given: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, list | tuple) or len(given) > MAX_USER:
        raise RequestInvalid(f"user properties are a list of at most {MAX_USER} pairs", reason="mqtt_metadata")
    found = []
    for pair in given:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise RequestInvalid("a user property is a pair of texts", reason="mqtt_metadata")
        found.append((pair[0], pair[1]))
    return tuple(found)


def _whole(value: Any, name: str, least: int, most: int) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        number = -1
    if isinstance(value, bool | float) or not least <= number <= most:
        raise RequestInvalid(f"{name} is a number from {least} to {most}", reason="mqtt_metadata")
    return number


def _truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if value in ("1", "true"):
        return True
    if value in ("0", "false"):
        return False
    raise RequestInvalid("retain is 1 or 0", reason="mqtt_metadata")


# Tracing. MQTT carries the W3C's header by its name, RSocket Zipkin's entry: the same ids in two spellings.


def zipkin_of(traceparent: str | None) -> Zipkin | None:
    """None for what is no `traceparent`."""
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = bytes.fromhex(found[2]), bytes.fromhex(found[3])
    if not any(trace_id) or not any(span_id):
        return None
    sampled = Sampling.SAMPLED if int(found[4], 16) & _SAMPLED else Sampling.NOT_SAMPLED
    return Zipkin(sampled, trace_id, span_id)


def traceparent_of(trace: Zipkin) -> str | None:
    """None for a trace without ids."""
    if trace.trace_id is None or trace.span_id is None:
        return None
    flags = _SAMPLED if trace.sampling in (Sampling.SAMPLED, Sampling.DEBUG) else 0
    return f"00-{trace.trace_id.rjust(16, bytes(1)).hex()}-{trace.span_id.hex()}-{flags:02x}"


# Answers to RPC from MQTT.


def answer_properties(metadata: bytes | None, correlation: bytes | None, *, end: bool) -> Properties:
    """Of one answer; `end`: no other follows."""
    asked = Asked()
    if metadata:
        try:
            asked = asked_of(metadata)
        except (FrameError, RequestError):
            pass  # an answer is worth more than what it says of itself
    user = tuple(pair for pair in asked.properties.user if pair[0] not in (ERROR, ERROR_TEXT, END))
    return asked.properties._replace(
        correlation=correlation, response_topic=None, user=(*user, (END, "1")) if end else user
    )


def error_properties(reason: str, text: str, correlation: bytes | None) -> Properties:
    """Of the answer that says why there is none."""
    return Properties(text=True, correlation=correlation, user=((ERROR, reason), (ERROR_TEXT, text), (END, "1")))
