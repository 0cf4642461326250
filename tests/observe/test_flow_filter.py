"""The filter of the flow log: against an oracle that knows no tree, and against whatever is typed."""

from __future__ import annotations

import math
import re
from fnmatch import translate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observe.flow_fields import LOST, VERDICTS, type_of
from gateway.observe.flow_filter import MAX_CHARACTERS, FilterError, FlowFilter

RECORD: dict[str, Any] = {
    "number": 7,
    "verdict": "ERROR",
    "reason": "APPLICATION_ERROR",
    "source": {"id": "dev-1", "kind": "device", "groups": ["ops", "west"], "labels": {"site": "7", "rack-a": "x/y"}},
    "destination": {"id": "", "service": "thermostat", "labels": {}, "subset": "canary", "node": ""},
    "route": "thermostat.set.target",
    "bytes": 120,
    "credits_left": None,
    "latency_ns": 500_000_001,
    "is_reply": True,
    "spool": None,
    "attempt": 1,
}


def fits(text: str, record: dict[str, Any] = RECORD) -> bool:
    found = FlowFilter.parse(text)
    assert found is not None
    return found.fits(record)


@pytest.mark.parametrize(
    "text",
    [
        'verdict != "FORWARDED" || latency_ms > 500',
        "latency_ms > 500 && latency_ms < 501",
        "latency_ns == 500000001",
        "latency_s > 0.5 && latency_s <= 0.500000001",
        "is_reply",
        "is_reply == true && !(is_reply != true)",
        'source.groups == "ops" && source.groups =~ "w*"',
        'source.groups != "east"',
        'source.labels.site == "7"',
        'source.labels.rack-a == "x/y"',
        "destination.service in ['thermostat', 'pump']",
        'route =~ "thermostat.*" && route =~ "*set*" && !(route =~ "set*")',
        'verdict in ["ERROR", "DROPPED"]',
        '!(verdict == "FORWARDED")',
        "credits_left != 3 && !(credits_left == 0) && !(credits_left < 10)",
        'spool.name != "x"',
        "bytes>=120&&bytes<=120",
        'reason =~ "APP**ERROR"',
        'source.id == "dev\\-1"',
    ],
)
def test_what_fits(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("verdict = 3", 8, "not clear"),
        ("verdct == 'ERROR'", 0, "did you mean verdict"),
        ("verdict == 'FORWARDD'", 11, "did you mean FORWARDED"),
        ("verdict == 3", 11, "a text"),
        ("latency_ms > '500'", 13, "a number"),
        ("latency_ms", 10, "expected =="),
        ("is_reply > true", 9, "true or false"),
        ("bytes =~ '1*'", 6, "for texts"),
        ("source == 'x'", 0, "source.id"),
        ("source.labels == 'x'", 0, "source.labels"),
        ("verdict == 'ERROR", 11, "without its end"),
        ("(is_reply", 9, "expected )"),
        ("is_reply is_reply", 9, "expected &&"),
        ("verdict in 'ERROR'", 11, "expected ["),
        ("verdict in ['ERROR'", 19, "expected , or ]"),
        ("is_reply && ", 11, "name of a field"),
        ("(" * 40 + "is_reply" + ")" * 40, 33, "parentheses"),
        ("!" * 40 + "is_reply", 33, "too many !"),
        ("__import__('os')", 0, "no field"),
        ("is_reply" + " " * MAX_CHARACTERS + "x", MAX_CHARACTERS, "characters"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text: str, position: int, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        FlowFilter.parse(text)
    assert caught.value.position == position
    assert says in caught.value.text


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_nothing_is_no_filter(text: str) -> None:
    assert FlowFilter.parse(text) is None


def test_loss_is_for_everybody() -> None:
    assert fits('verdict == "ERROR"', {"verdict": "LOST", "lost": 3})


@given(st.text(alphabet="verdictlanym_s.&|!=<>~()[],'\"\\ 01in*source", max_size=80))
@settings(max_examples=100, deadline=None)
def test_whatever_is_typed_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        found = FlowFilter.parse(text)
    except FilterError as error:
        place = error.position
    else:
        assert found is None or found.fits(RECORD) in (True, False)
        place = 0
    assert 0 <= place <= len(text)


# An expression as nested tuples, its text, and what it means by Python's own words.
TEXTS = ("source.id", "destination.service", "route", "verdict", "source.labels.site")
NUMBERS = ("latency_ms", "latency_ns", "bytes", "attempt", "credits_left")
_values = st.sampled_from(["dev-1", "dev-2", "pump", "a.b", "", "7"])
_verdicts = st.sampled_from(VERDICTS[:LOST])
_numbers = st.sampled_from([0, 1, 2, 499, 500, 500.5, 500_000_000])


def _text_leaf(name: str) -> st.SearchStrategy[tuple[Any, ...]]:
    values = _verdicts if name == "verdict" else _values
    return st.one_of(
        st.tuples(st.just(name), st.sampled_from(["==", "!=", "<", ">="]), values),
        st.tuples(st.just(name), st.just("in"), st.lists(values, min_size=1, max_size=3)),
        st.tuples(st.just(name), st.just("=~"), st.sampled_from(["*", "dev-*", "*1", "d*-*", "FOR*", "", "pump"])),
    )


_leaves = st.one_of(
    st.sampled_from(TEXTS).flatmap(_text_leaf),
    st.tuples(st.sampled_from(NUMBERS), st.sampled_from(["==", "!=", "<", ">", "<=", ">="]), _numbers),
    st.tuples(st.just("is_reply")),
)
EXPRESSIONS: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["&&", "||"]), st.lists(inner, min_size=2, max_size=3)),
        st.tuples(st.just("!"), inner),
    ),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries(
    {
        "verdict": _verdicts,
        "route": _values,
        "is_reply": st.booleans(),
        "bytes": st.integers(0, 3),
        "attempt": st.integers(1, 3),
        "credits_left": st.none() | st.integers(0, 2),
        "latency_ns": st.none()
        | st.sampled_from([0, 1, 2, 499, 500, 501, 499_999_999, 500_000_000, 500_000_001, 500_500_000, 10**12]),
        "source": st.fixed_dictionaries({"id": _values, "labels": st.just({}) | st.just({"site": "7"})}),
        "destination": st.fixed_dictionaries({"service": _values}),
    }
)


def written(expression: Any) -> str:
    match expression:
        case ("&&" | "||" as mark, list(parts)):
            return "(" + f" {mark} ".join(map(written, parts)) + ")"
        case ("!", part):
            return f"!({written(part)})"
        case (name,):
            return str(name)
        case (name, "in", list(values)):
            return f"{name} in [{', '.join(map(_literal, values))}]"
        case (name, operator, value):
            return f"{name} {operator} {_literal(value)}"
    raise AssertionError(expression)


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def meant(expression: Any, record: dict[str, Any]) -> bool:
    match expression:
        case ("&&", list(parts)):
            return all(meant(part, record) for part in parts)
        case ("||", list(parts)):
            return any(meant(part, record) for part in parts)
        case ("!", part):
            return not meant(part, record)
        case (name,):
            return bool(record[name])
        case (name, operator, value):
            said: Any = record
            for part in ("latency_ns",) if name.startswith("latency") else name.split("."):
                said = said.get(part)
            if name == "latency_ms" and said is not None:
                said /= 1_000_000
            if operator == "in":
                return said in value
            if operator == "=~":
                return said is not None and re.match(translate(value), said) is not None
            if operator == "!=":
                return said is None or said != value
            return (
                said is not None
                and {
                    "==": said == value,
                    **({} if operator in ("==",) else {"<": said < value, ">": said > value}),
                    **({} if operator in ("==",) else {"<=": said <= value, ">=": said >= value}),
                }[operator]
            )
    raise AssertionError(expression)


@given(EXPRESSIONS, RECORDS)
@settings(max_examples=100, deadline=None)
def test_a_filter_means_what_it_says(expression: Any, record: dict[str, Any]) -> None:
    found = FlowFilter.parse(written(expression))
    assert found is not None
    assert found.fits(record) is meant(expression, record)


@given(EXPRESSIONS, RECORDS)
@settings(max_examples=100, deadline=None)
def test_what_is_not_even_written_would_not_have_fitted(expression: Any, record: dict[str, Any]) -> None:
    found = FlowFilter.parse(written(expression))
    assert found is not None
    latency = -1 if record["latency_ns"] is None else record["latency_ns"]
    if latency <= found.unwanted_ns()[VERDICTS.index(record["verdict"])]:
        assert not found.fits(record)


@pytest.mark.parametrize(
    ("text", "forwarded", "dropped"),
    [
        ('verdict != "FORWARDED" || latency_ms > 500', 500_000_000, -math.inf),
        ('verdict != "FORWARDED" || latency_ms >= 500', 499_999_999, -math.inf),
        ('verdict == "DROPPED"', math.inf, -math.inf),
        ('source.id == "x"', -math.inf, -math.inf),
        ('latency_ms > 1 && source.id == "x"', 1_000_000, 1_000_000),
        ('verdict in ["FORWARDED"] && latency_s > 1.5', 1_500_000_000, math.inf),
        ("!(latency_ms > 1)", -math.inf, -math.inf),
    ],
)
def test_how_much_verdict_and_latency_tell(text: str, forwarded: float, dropped: float) -> None:
    found = FlowFilter.parse(text)
    assert found is not None
    table = found.unwanted_ns()
    assert (table[0], table[1]) == (forwarded, dropped)
    assert table[LOST] == -math.inf


def test_every_field_that_the_tests_name_is_one() -> None:
    assert all(type_of(name) for name in (*TEXTS, "bytes", "attempt", "credits_left", "is_reply", "latency_ns"))
