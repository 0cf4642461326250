"""Rules: a topic to a route and back, the first one that fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.documents.bridge import Bridge
from gateway.errors import RequestInvalid
from gateway.policy.mqtt_filters import matches
from gateway.topics.rules import KNOWN, KNOWN_CHARACTERS, Matched, Rules


def rules(*topics: dict[str, Any], **more: Any) -> Rules:
    body = {"kind": "Bridge", "name": "plant", "mqtt": {"address": "mqtt://broker"}, "topics": list(topics), **more}
    return Bridge.model_validate(body).rules


def incoming(found: Rules, topic: str) -> Matched:
    matched = found.incoming(topic)
    assert matched is not None
    return matched


SENSORS = {
    "pattern": "sensors/{device}/{metric}",
    "direction": "in",
    "qos": 1,
    "remote": "site/7/",
    "route": "telemetry.ingest",
    "tags": {"device": "{device}", "metric": "{metric}", "sub": "{device}"},
    "exclude": ["sensors/debug/#"],
}
READINGS = {
    "pattern": "readings/{sub}",
    "direction": "out",
    "qos": 1,
    "remote": "site/7/",
    "route": "telemetry.readings",
}


def test_the_example_of_the_documentation_in() -> None:
    found = rules(SENSORS)
    assert found.filters == (("site/7/sensors/+/+", 1),)
    matched = incoming(found, "site/7/sensors/oven/temp")
    assert matched.local == "sensors/oven/temp"
    assert matched.route == "telemetry.ingest"
    assert dict(matched.tags) == {"device": "oven", "metric": "temp", "sub": "oven"}
    assert matched.selecting == (("sub", "oven"),)
    assert found.incoming("site/7/sensors/debug/x") is None
    assert found.incoming("site/8/sensors/oven/temp") is None
    assert found.incoming("site/7/sensors/oven/temp") is matched


def test_the_example_of_the_documentation_out() -> None:
    found = rules(READINGS)
    assert found.services == ("telemetry.readings",)
    outgoing = found.outgoing("telemetry.readings", {"sub": "t-1"})
    assert outgoing is not None
    assert outgoing.topic == "site/7/readings/t-1"
    assert found.outgoing("telemetry.other", {"sub": "t-1"}) is None
    for values in ({}, {"sub": "a/b"}, {"sub": "#"}, {"sub": ""}, {"sub": "a\0"}):
        with pytest.raises(RequestInvalid, match="sub"):
            found.outgoing("telemetry.readings", values)


def test_without_a_route_the_local_topic_is_the_route() -> None:
    found = rules({"pattern": "lights/#", "direction": "both", "qos": 2, "local": "house/", "remote": "home/"})
    assert incoming(found, "home/lights/hall").route == "house/lights/hall"
    assert found.services == ("house/lights",)
    outgoing = found.outgoing("house/lights/hall", {})
    assert outgoing is not None
    assert outgoing.topic == "home/lights/hall"
    assert found.outgoing("house/heating", {}) is None


def test_one_topic_without_a_pattern() -> None:
    found = rules({"local": "here", "remote": "there/of/it", "direction": "both"})
    assert incoming(found, "there/of/it").route == "here"
    outgoing = found.outgoing("here", {})
    assert outgoing is not None
    assert outgoing.topic == "there/of/it"


def test_names_in_a_route_that_goes_out() -> None:
    found = rules({"pattern": "cmd/{device}/{what}", "route": "orders.{what}"})
    assert found.services == ("orders",)
    outgoing = found.outgoing("orders.open", {"device": "door"})
    assert outgoing is not None
    assert outgoing.topic == "cmd/door/open"
    assert found.outgoing("orders", {"device": "door"}) is None


def test_what_the_rest_stands_for() -> None:
    found = rules({"pattern": "logs/{host}/#", "direction": "in", "route": "logs", "tags": {"path": "{rest}"}})
    assert incoming(found, "logs/a/b/c").tags == (("path", "b/c"),)
    assert incoming(found, "logs/a").tags == (("path", ""),)


@pytest.mark.parametrize("level", ["..", "a*", "é" * 200, "\u200b", "gateway", "", "a\nb"])
def test_a_topic_makes_no_route_that_could_be_misread(level: str) -> None:
    """A topic is a stranger's text: no wildcard, no path, no control sequence, none of the node's own services."""
    found = rules({"pattern": "{a}/x", "direction": "in", "route": "{a}"})
    with pytest.raises(RequestInvalid, match="makes no route"):
        found.incoming(f"{level}/x")


def test_topics_that_are_remembered_are_bounded() -> None:
    found = rules({"pattern": "#", "direction": "in", "route": "r"})
    for at in range(KNOWN + 10):
        found.incoming(f"t/{at}")
        found.incoming(f"long/{at}".ljust(KNOWN_CHARACTERS + 1, "x"))
    assert len(found._known) <= KNOWN
    assert max(map(len, found._known)) <= KNOWN_CHARACTERS


def test_rpc_has_rules_of_its_own() -> None:
    call = {"topic": "cmd/{device}/{method}", "route": "thermo.{method}", "tags": {"sub": "{device}"}, "timeout": "3s"}
    found = rules({"pattern": "cmd/#", "direction": "in", "route": "log"}, rpc=[call])
    matched = found.calling("cmd/t-1/read")
    assert matched is not None
    assert (matched.route, matched.selecting, matched.rule.timeout_s) == ("thermo.read", (("sub", "t-1"),), 3.0)
    assert found.calling("cmd/t-1") is None
    assert found.filters == (("cmd/#", 0), ("cmd/+/+", 1))


def test_calls_of_devices_that_know_no_response_topic() -> None:
    found = rules(call=[{"topic": "cmd/{device}/#", "reply": "answer/{device}", "id": "n"}])
    answer = found.call_for("cmd/oven/on")
    assert answer is not None
    assert answer[1] == "answer/oven"
    assert found.call_for("other") is None


def test_what_services_may_use() -> None:
    found = rules(publish=["site/#"], subscribe=["site/+/x"])
    assert found.may_publish("site/7")
    assert not found.may_publish("other")
    assert not found.may_publish("site/+")
    assert found.may_subscribe("site/7/x")
    assert found.may_subscribe("site/+/x")
    assert not found.may_subscribe("site/#")
    assert not rules().may_publish("$SYS/x")
    assert not rules().may_subscribe("$SYS/#")


def test_what_a_broker_says_of_itself_is_no_rule_s() -> None:
    found = rules({"pattern": "#", "direction": "both", "local": "plant/"})
    assert found.incoming("$SYS/broker/version") is None
    for route in ("plant/$SYS/broker/version", "plant/$share/g/a"):
        with pytest.raises(RequestInvalid, match="makes no topic"):
            found.outgoing(route, {})
    named = rules({"pattern": "$SYS/node/{what}", "direction": "out", "route": "sys.{what}"})
    outgoing = named.outgoing("sys.version", {})
    assert outgoing is not None
    assert outgoing.topic == "$SYS/node/version"


def test_why_a_topic_goes_where_it_goes() -> None:
    found = rules(SENSORS, {"pattern": "#", "direction": "in", "remote": "site/"}, READINGS)
    by_rule = {step.rule: step for step in found.explain("site/7/sensors/oven/temp")}
    assert by_rule["sensors/{device}/{metric}"].took
    assert "device=oven" in by_rule["sensors/{device}/{metric}"].why
    assert by_rule["#"].why == "an earlier rule has taken it"
    assert by_rule["readings/{sub}"].why == "no request leads there"
    (first, *_) = found.explain("site/7/sensors/debug/x")
    assert first.why == "excluded by site/7/sensors/debug/#"


LEVEL = st.sampled_from(["a", "b", "+", "{x}"])
PATTERN = st.tuples(st.lists(LEVEL, min_size=1, max_size=3), st.booleans()).map(
    lambda parts: "/".join([*dict.fromkeys(parts[0]), *(["#"] if parts[1] else [])])
)


@settings(deadline=None)
@given(st.lists(st.tuples(PATTERN, st.lists(PATTERN, max_size=1)), min_size=1, max_size=8), st.data())
def test_the_first_rule_that_fits(given_rules: list[tuple[str, list[str]]], data: st.DataObject) -> None:
    """Against trying one after the other."""
    written = [
        {
            "pattern": pattern,
            "direction": "in",
            "route": f"r{at}",
            "exclude": [each.replace("{x}", "+") for each in excludes],
        }
        for at, (pattern, excludes) in enumerate(given_rules)
    ]
    found = rules(*written)
    topic = "/".join(data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=4)))
    expected = next(
        (
            f"r{at}"
            for at, rule in enumerate(found.inbound)
            if matches(rule.filter, topic) and not any(matches(each, topic) for each in rule.excludes)
        ),
        None,
    )
    matched = found.incoming(topic)
    assert (matched and matched.route) == expected
    if matched is not None and "{x}" in matched.rule.pattern.text:
        assert matched.captures["x"] == topic.split("/")[matched.rule.pattern.text.split("/").index("{x}")]
