"""Which rule holds, against an oracle that spells every condition out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.asking import Caller
from gateway.policy.matching import rule_for
from gateway.policy.principal import Kind
from gateway.policy.traffic import Match, RouteRule, ServiceRules, Source
from gateway.wire.frames import FrameType

RESPONSE, FNF, STREAM = (
    int(FrameType.REQUEST_RESPONSE),
    int(FrameType.REQUEST_FNF),
    int(FrameType.REQUEST_STREAM),
)
KINDS = list(Kind)


def caller(
    subject: str = "dev-1",
    kind: Kind = Kind.DEVICE,
    groups: tuple[str, ...] = (),
    labels: tuple[tuple[str, str], ...] = (),
) -> Caller:
    return Caller(subject, str(kind), groups, labels)


def rules(*matches: Match | None) -> ServiceRules:
    return ServiceRules(
        "thermostat",
        routes=tuple(
            RouteRule(f"routes[{index}]", () if match is None else (match,)) for index, match in enumerate(matches)
        ),
    )


def chosen(document: ServiceRules, route: str = "thermostat.set.target", who: Caller | None = None) -> str:
    rule = rule_for(document, RESPONSE, "thermostat", route, who or caller())
    return "" if rule is None else rule.name


@pytest.mark.parametrize(
    ("pattern", "route", "fits"),
    [
        ("", "thermostat.set.target", True),
        ("set.*", "thermostat.set.target", True),
        ("set.*", "thermostat.set", True),
        ("set.*", "thermostat.get", False),
        ("thermostat.set.*", "thermostat.set.target", True),
        ("thermostat", "thermostat", True),
        ("*", "thermostat", True),
        ("set", "thermostat", False),
        ("set.*", "thermostat/set.target", True),
        # A route that does not name the service is one below it, as for access.
        ("set.*", "set.target", True),
        ("other.set", "other.set", True),
    ],
)
def test_a_route_fits_whole_or_by_what_follows_the_service(pattern: str, route: str, fits: bool) -> None:
    assert chosen(rules(Match(route=pattern)), route) == ("routes[0]" if fits else "")


def test_the_first_that_fits_holds() -> None:
    document = rules(Match(route="get"), Match(route="set.*"), None)
    assert chosen(document, "thermostat.set.target") == "routes[1]"
    assert chosen(document, "thermostat.get") == "routes[0]"
    assert chosen(document, "thermostat.other") == "routes[2]"


def test_what_no_rule_fits_is_the_whole_service() -> None:
    assert rule_for(rules(Match(route="get")), RESPONSE, "thermostat", "thermostat.set", caller()) is None


def test_one_of_several_matches_is_enough() -> None:
    rule = RouteRule("r", (Match(route="get"), Match(route="set")))
    document = ServiceRules("thermostat", routes=(rule,))
    assert chosen(document, "thermostat.set") == "r"
    assert chosen(document, "thermostat.drop") == ""


names = st.sampled_from(["a", "ab", "b", "ops", "ops-1"])
patterns = st.sampled_from(["a", "a*", "*", "ops*", "*b"])
label = st.tuples(st.sampled_from(["site", "fw"]), st.sampled_from(["1", "2"]))
sources = st.builds(
    Source,
    principals=st.lists(patterns, max_size=2).map(tuple),
    groups=st.lists(patterns, max_size=2).map(tuple),
    kinds=st.lists(st.sampled_from([str(kind) for kind in KINDS]), max_size=2).map(tuple),
    labels=st.lists(label, max_size=2).map(tuple),
)
matches = st.builds(
    Match,
    interactions=st.frozensets(st.sampled_from([RESPONSE, FNF, STREAM]), max_size=2),
    sources=st.lists(sources, max_size=2).map(tuple),
)
people = st.builds(
    caller,
    names,
    st.sampled_from(KINDS),
    st.lists(names, max_size=2).map(tuple),
    st.lists(label, max_size=2, unique_by=lambda pair: pair[0]).map(tuple),
)


def globbed(pattern: str, name: str) -> bool:
    return re.fullmatch(pattern.replace("*", ".*"), name) is not None


def fits(match: Match, interaction: int, who: Caller) -> bool:
    def one(source: Source) -> bool:
        return (
            (not source.principals or any(globbed(text, who.subject) for text in source.principals))
            and (not source.groups or any(globbed(text, group) for text in source.groups for group in who.groups))
            and (not source.kinds or str(who.kind) in source.kinds)
            and all(dict(who.labels).get(key) == value for key, value in source.labels)
        )

    if match.interactions and interaction not in match.interactions:
        return False
    return not match.sources or any(one(source) for source in match.sources)


@given(st.lists(matches, max_size=4), st.sampled_from([RESPONSE, FNF, STREAM]), people)
def test_against_an_oracle(held: list[Match], interaction: int, who: Caller) -> None:
    found = rule_for(rules(*held), interaction, "thermostat", "thermostat.get", who)
    expected = next((f"routes[{i}]" for i, match in enumerate(held) if fits(match, interaction, who)), "")
    assert ("" if found is None else found.name) == expected
