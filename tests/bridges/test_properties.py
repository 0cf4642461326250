"""MQTT's properties as metadata and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bridges.mqtt.message import Message, Properties
from gateway.bridges.mqtt.properties import (
    answer_properties,
    asked_of,
    error_properties,
    metadata_of,
    payload_metadata,
    traceparent_of,
    zipkin_of,
)
from gateway.documents.bridge import Bridge
from gateway.errors import RequestInvalid
from gateway.topics.rules import Matched
from gateway.wire.metadata import decode_composite, decode_mime_type, decode_routing, encode_composite, encode_routing
from gateway.wire.mimetypes import MIME_TYPE, MQTT, ROUTING, ZIPKIN

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def matched(topic: str = "s/oven") -> Matched:
    rule = {
        "pattern": "s/{device}",
        "direction": "in",
        "route": "in.take",
        "tags": {"sub": "{device}", "room": "{device}"},
    }
    body = {"kind": "Bridge", "name": "a", "mqtt": {"address": "mqtt://b"}, "topics": [rule]}
    found = Bridge.model_validate(body).rules.incoming(topic)
    assert found is not None
    return found


def test_what_comes_in() -> None:
    properties = Properties("application/json", True, 30, user=(("traceparent", TRACE), ("k", "1"), ("k", "2")))
    message = Message("s/oven", b"{}", 1, True, True, properties)
    entries = decode_composite(metadata_of(message, matched()))
    assert [mime for mime, _ in entries] == [ROUTING, MIME_TYPE, ZIPKIN, MQTT]
    assert decode_routing(entries[0][1]) == ("in.take", "sub=oven")
    assert decode_mime_type(entries[1][1]) == "application/json"
    assert json.loads(entries[3][1]) == {
        "topic": "s/oven",
        "qos": 1,
        "retain": True,
        "tags": {"sub": "oven", "room": "oven"},
        "expiry_s": 30,
        "text": True,
        "user": [["traceparent", TRACE], ["k", "1"], ["k", "2"]],
        "duplicate": True,
    }


def test_what_comes_in_goes_out_as_it_was() -> None:
    properties = Properties("application/json", True, 30, user=(("k", "1"), ("k", "2"), ("traceparent", TRACE)))
    asked = asked_of(metadata_of(Message("s/oven", b"", 1, True, properties=properties), matched()))
    assert (asked.route, asked.tags, asked.topic, asked.qos, asked.retain) == (
        "in.take",
        {"sub": "oven"},
        "s/oven",
        1,
        True,
    )
    assert asked.properties == properties


def test_a_content_type_that_is_none_is_left_out() -> None:
    for text in ("", "é", "x" * 200):
        entries = decode_composite(payload_metadata(Message("t", b"", properties=Properties(content_type=text))))
        assert [mime for mime, _ in entries] == [MQTT]


def test_tags_say_more_than_the_entry() -> None:
    told = json.dumps({"topic": "a", "qos": 0, "retain": False, "expiry_s": 9}).encode()
    routing = encode_routing(["mqtt.a.publish", "topic=b", "qos=2", "retain=1", "expiry=5", "contentType=text/plain"])
    asked = asked_of(encode_composite([(ROUTING, routing), (MQTT, told)]))
    assert (asked.topic, asked.qos, asked.retain) == ("b", 2, True)
    assert (asked.properties.expiry_s, asked.properties.content_type) == (5, "text/plain")


@pytest.mark.parametrize(
    "told",
    [
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"qos": 3}',
        b'{"qos": true}',
        b'{"qos": 1.5}',
        b'{"qos": 1e400}',
        b'{"retain": "perhaps"}',
        b'{"expiry_s": -1}',
        b'{"expiry_s": 4294967296}',
        b'{"topic": 7}',
        b'{"user": {"a": "b"}}',
        b'{"user": [["a"]]}',
        b'{"user": [["a", 1]]}',
        b'{"user": ' + json.dumps([["a", "b"]] * 65).encode() + b"}",
    ],
)
def test_an_entry_that_makes_no_sense(told: bytes) -> None:
    with pytest.raises(RequestInvalid):
        asked_of(encode_composite([(MQTT, told)]))


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        TRACE.upper(),
        TRACE[:-1],
        TRACE + "-more",
        "ff" + TRACE[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    ],
)
def test_no_trace(text: str | None) -> None:
    assert zipkin_of(text) is None


def test_a_newer_version_of_a_trace_may_say_more() -> None:
    assert zipkin_of("01" + TRACE[2:] + "-more") is not None


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.sampled_from(["00", "01"]))
def test_traces_there_and_back(trace_id: bytes, span_id: bytes, flags: str) -> None:
    text = f"00-{trace_id.hex()}-{span_id.hex()}-{flags}"
    trace = zipkin_of(text)
    if any(trace_id) and any(span_id):
        assert trace is not None
        assert traceparent_of(trace) == text
    else:
        assert trace is None


def test_the_trace_that_goes_out_is_the_newest() -> None:
    """EMQX sends on the one that came in (emqx#12752)."""
    newer = zipkin_of(TRACE.replace("00f067aa0ba902b7", "1111111111111111"))
    assert newer is not None
    from gateway.wire.metadata import encode_zipkin

    came = payload_metadata(Message("t", b"", properties=Properties(user=(("traceparent", TRACE), ("a", "b")))))
    kept = b"".join(
        encode_composite([(mime, encode_zipkin(newer) if mime == ZIPKIN else content)])
        for mime, content in decode_composite(came)
    )
    assert asked_of(kept).properties.user == (("a", "b"), ("traceparent", TRACE.replace("00f067aa0ba902b7", "1" * 16)))


def test_answers() -> None:
    metadata = payload_metadata(
        Message("t", b"", properties=Properties("text/plain", user=(("gateway-end", "0"), ("a", "b"))))
    )
    properties = answer_properties(metadata, b"7", end=True)
    assert (properties.content_type, properties.correlation) == ("text/plain", b"7")
    assert properties.user == (("a", "b"), ("gateway-end", "1"))
    assert answer_properties(None, None, end=False) == Properties()
    assert answer_properties(b"\x00", None, end=False) == Properties()
    error = error_properties("no_route", "no route to x", b"7")
    assert error.of_user("gateway-error") == "no_route"
    assert error.of_user("gateway-end") == "1"


def test_a_trace_in_the_form_of_the_w3c_goes_out() -> None:
    for entries in ([("traceparent", TRACE.encode())], [("traceparent", TRACE.encode()), ("traceparent", b"broken")]):
        assert asked_of(encode_composite(entries)).properties.of_user("traceparent") == TRACE
    assert asked_of(encode_composite([("traceparent", b"broken")])).properties.user == ()
