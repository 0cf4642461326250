"""Drafts of `Access` from what was seen: taken by the validator, allow all of it, and nobody else."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.documents.access_draft import MANY, Flow, draft
from gateway.documents.governing import governance
from gateway.documents.validation import examine
from gateway.policy.access import is_name
from gateway.policy.asking import Ask, Caller
from gateway.policy.authorization import Act
from gateway.policy.judgement import Judgement
from gateway.policy.mqtt_filters import is_topic


def judged(flows: list[Flow]) -> Judgement:
    documents = draft(flows)
    examined = examine(yaml.safe_dump_all(documents)) if documents else None
    if examined is None:
        return Judgement()
    assert examined.findings == ()
    return Judgement(governance(examined.documents).access)


def allowed(judgement: Judgement, flow: Flow) -> bool:
    caller = Caller(flow.subject, "device", flow.groups)
    ask = Ask(Act(flow.interaction), flow.service, flow.route, topic=flow.topic)
    return judgement.judge(caller, ask).allowed


_names = st.one_of(
    st.sampled_from(["thermostat", "lamp.kitchen", "a{sub}b", "x/y"]),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
).filter(is_name)
_subjects = st.one_of(st.sampled_from(["d1", "d2", "op"]), _names)
_groups = st.lists(st.sampled_from(["ops", "guests", "g*", ""]), max_size=2).map(tuple)
_requests = st.builds(
    Flow,
    _subjects,
    _groups,
    _names,
    st.one_of(st.just(""), st.sampled_from(["set.a", "set.b", "set.c", "set.d", "set.e", "get", "{x}.y"]), _names),
    st.sampled_from(["requestResponse", "fireAndForget", "requestStream", "requestChannel"]),
    st.just(""),
)
_topics = st.builds(
    Flow,
    _subjects,
    _groups,
    st.just(""),
    st.just(""),
    st.sampled_from(["publish", "subscribe"]),
    st.one_of(
        st.sampled_from(["cmd/1", "cmd/2", "cmd/3", "cmd/4", "cmd/5", "$SYS/x", "a/{sub}/b", "/", "a//b"]),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(is_topic),
    ),
)


@given(st.lists(st.one_of(_requests, _topics), max_size=25))
@settings(max_examples=25, deadline=None)
def test_a_draft_is_taken_and_allows_all_that_it_was_made_from(flows: list[Flow]) -> None:
    judgement = judged(flows)
    for flow in flows:
        assert allowed(judgement, flow), flow


def test_a_draft_lets_in_nobody_else() -> None:
    flows = [Flow("d1", ("ops",), "thermostat", "set.target"), Flow("d2", (), "thermostat", "get")]
    judgement = judged(flows)
    for flow in (
        Flow("d3", (), "thermostat", "get"),
        Flow("d2", (), "thermostat", "set.target"),
        Flow("d2", (), "thermostat", "get", "requestStream"),
        Flow("d1", ("ops",), "thermostat", "get"),
    ):
        assert not allowed(judgement, flow), flow
    assert allowed(judgement, Flow("d9", ("ops",), "thermostat", "set.target"))
    assert allowed(judgement, Flow("d3", (), "other", "get"))


def test_groups_go_before_principals_and_patterns_before_many_routes() -> None:
    flows = [Flow(f"d{n}", ("ops", f"only-{n}"), "t", f"set.{route}") for n in range(3) for route in range(MANY)]
    (document,) = draft(flows)
    assert document["name"] == "allow-t"
    target = {"services": ["t"], "routes": ["t.set.*"], "interactions": ["requestResponse"]}
    assert document["rules"] == [{"from": [{"groups": ["ops"]}], "to": [target]}]


def test_as_many_as_a_document_cannot_tell_apart_are_taken_together() -> None:
    flows = [Flow(f"d{n}", (), "t", f"r{n}.x") for n in range(200)]
    judgement = judged(flows)
    assert all(allowed(judgement, flow) for flow in flows)
    assert not allowed(judgement, Flow("other", (), "t", "r1.x"))


def test_a_record_of_the_flow_log_is_a_flow_unless_it_was_refused() -> None:
    record = {
        "verdict": "FORWARDED",
        "source": {"id": "d1", "kind": "device", "groups": ["ops"]},
        "destination": {"id": "svc-1", "service": "thermostat"},
        "interaction": "requestResponse",
        "route": "thermostat.get",
    }
    assert Flow.of(record) == Flow("d1", ("ops",), "thermostat", "thermostat.get", "requestResponse")
    published = {"source": {"id": "d1"}, "interaction": "publish", "topic": "a/b", "destination": {"service": "mqtt.x"}}
    assert Flow.of(published) == Flow("d1", (), "", "", "publish", "a/b")
    for wrong in ({**record, "verdict": "DROPPED"}, {"verdict": "LOST", "lost": 3}, {**record, "source": None}):
        assert Flow.of(wrong) is None
