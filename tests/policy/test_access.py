"""What a principal may register and call, against a brute-force oracle where one exists."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.policy.access import Grant, Pattern, Rights, full_route, is_name, is_pattern, is_reserved
from gateway.policy.limits import profile_for
from gateway.policy.principal import Kind, Principal, anonymous


def grant(subject: str = "t-1", services: Iterable[str] = (), routes: Iterable[str] = ()) -> Grant:
    principal = Principal(subject, Kind.DEVICE, "id", 0, 1, tuple(services), tuple(routes))
    return Grant(principal, profile_for(principal.kind))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("thermo", "thermo", True),
        ("thermo", "thermos", False),
        ("thermo", "thermo.read", False),
        ("thermo.*", "thermo", True),
        ("thermo.*", "thermo.read", True),
        ("thermo.*", "thermo.read.fast", True),
        ("thermo.**", "thermo", True),
        ("thermo.*", "thermos", False),
        ("thermo.*", "thermos.read", False),
        ("thermo.*", "thermo/read", False),
        ("plant/*", "plant", True),
        ("plant/*", "plant/7/thermo", True),
        ("plant/*", "plants", False),
        ("plant/*/thermo.*", "plant/7/thermo", True),
        ("plant/*/thermo.*", "plant/7/thermo.read", True),
        ("plant/*/thermo.*", "plant/7", False),
        ("*", "anything.at/all", True),
        ("**", "anything", True),
        ("*.read", "thermo.read", True),
        ("*.read", "thermo.write", False),
        ("*.read", "read", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "acb", False),
        ("a*b*c", "ac", False),
        ("*b*b*", "xbx", False),
        ("*b*b*", "xbbx", True),
        ("ab*ba", "aba", False),
        ("therm.", "thermo", False),
        ("t.ermo", "thermo", False),
    ],
)
def test_a_pattern_matches_by_its_stars_alone(pattern: str, name: str, expected: bool) -> None:
    assert Pattern(pattern, "t-1").matches(name) is expected


def oracle(pattern: str, name: str) -> bool:
    """Try every way to share the name out among the stars; a run of stars is one star."""
    pattern = re.sub(r"\*+", "*", pattern)

    @cache
    def at(p: int, n: int) -> bool:
        if p == len(pattern):
            return n == len(name)
        if pattern[p] == "*":
            return any(at(p + 1, m) for m in range(n, len(name) + 1))
        return n < len(name) and pattern[p] == name[n] and at(p + 1, n + 1)

    return at(0, 0) or (pattern.endswith((".*", "/*")) and oracle(pattern[:-2], name))


@given(st.text("ab./*", max_size=8), st.text("ab./", max_size=8))
@example("/**", "")
def test_matching_agrees_with_a_search_of_every_possibility(pattern: str, name: str) -> None:
    assert Pattern(pattern, "s").matches(name) == oracle(pattern, name)


def test_a_pattern_shows_its_text() -> None:
    assert repr(Pattern("a.*", "s")) == "Pattern('a.*')"


def test_a_pattern_of_many_stars_takes_no_exponential_time() -> None:
    assert not Pattern("*a" * 100 + "*b", "s").matches("a" * 255)


def test_nothing_is_allowed_by_default() -> None:
    nobody = grant()
    assert not nobody.may_register("thermo")
    assert not nobody.may_call("thermo", "thermo.read")


def test_rights_to_serve_and_to_call_are_apart() -> None:
    device = grant(services=["thermo"], routes=["log.*"])
    assert device.may_register("thermo")
    assert not device.may_register("log")
    assert device.may_call("log", "write")
    assert not device.may_call("thermo", "read")


def test_subject_stands_for_itself_in_patterns() -> None:
    device = grant("t-1", services=["{sub}", "plant.{sub}.*"], routes=["inbox/{sub}/*"])
    assert device.may_register("t-1")
    assert device.may_register("plant.t-1")
    assert device.may_register("plant.t-1.fan")
    assert not device.may_register("t-2")
    assert not device.may_register("plant.t-10")
    assert not device.may_register("{sub}")
    assert device.may_call("inbox/t-1/new")
    assert not device.may_call("inbox/t-2/new")


@pytest.mark.parametrize("subject", ["*", "a*", "*.*", "t-1.*", "{sub}", "#", "+"])
def test_fault_65_a_subject_never_becomes_a_wildcard(subject: str) -> None:
    """Fault 65: the expansion of a pattern holds the subject's letters, whatever they are."""
    device = grant(subject, services=["{sub}", "x.{sub}.y"], routes=["{sub}", "x.{sub}.y"])
    for name in ("a", "ab", "t-1", "t-1.a", "x.a.y", "x.t-1.a.y", "a.b"):
        assert not device.may_register(name)
        assert not device.may_call(name)


BAD_NAMES = [
    "",
    "*",
    "thermo.*",
    "thermo/#",
    "+/thermo",
    "a..b",
    "../admin",
    "thermo/../admin",
    "thermo\0",
    "thermo\n",
    "t\x1bhermo",
    "thermo\u202e",
    "thermo\ud800",
    "$SYS",
    "$SYS/broker",
    "$share/a/b",
    ".thermo",
    "/thermo",
    "thermo.",
    "thermo/",
    "x" * 256,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_fault_65_a_name_that_reads_as_a_pattern_or_a_path_is_refused(name: str) -> None:
    """Fault 65: wildcards, ``..``, NUL and ``$SYS`` in a name are refused even to who may do everything."""
    everything = grant(services=["*"], routes=["*"])
    assert not is_name(name)
    assert not everything.may_register(name)
    assert not everything.may_call(name)
    assert not everything.may_call("", name)


@pytest.mark.parametrize("route", ["../admin", "read\0", "#", "*", "read/../../admin"])
def test_fault_65_a_route_below_an_allowed_service_is_checked_too(route: str) -> None:
    """Fault 65: the service's name is good, the rest of the route is not."""
    assert not grant(routes=["*"]).may_call("thermo", route)


@pytest.mark.parametrize(
    "name", ["thermo", "com.example.Thermo/read", "plant/7/thermo", "a", "x" * 255, "Wärme", "a:b@c-d_e"]
)
def test_an_ordinary_name_is_accepted(name: str) -> None:
    everything = grant(services=["*"], routes=["*"])
    assert everything.may_register(name)
    assert everything.may_call(name)


@pytest.mark.parametrize("name", ["gateway", "gateway.ready", "gateway/ready", "gateway.x.y"])
def test_the_nodes_own_names_are_called_by_all_and_registered_by_none(name: str) -> None:
    assert is_reserved(name)
    assert not grant(services=["*", "gateway", "gateway.*", "gateway/*"]).may_register(name)
    assert grant().may_call(name)
    assert grant().may_call("gateway", name)


def test_a_name_that_only_begins_like_the_nodes_own_is_anybodys() -> None:
    assert not is_reserved("gateways")
    assert grant(services=["*"]).may_register("gateway-2")
    assert not grant().may_call("gateways")
    assert not grant().may_call("", "gateway..ready")


@pytest.mark.parametrize(
    ("service", "route", "expected"),
    [
        ("thermo", "", "thermo"),
        ("thermo", "thermo", "thermo"),
        ("thermo", "thermo.read", "thermo.read"),
        ("thermo", "thermo/read", "thermo/read"),
        ("thermo", "read", "thermo.read"),
        ("thermo", "thermostat.read", "thermo.thermostat.read"),
        ("thermo", "other.read", "thermo.other.read"),
        ("", "thermo.read", "thermo.read"),
        ("", "", ""),
    ],
)
def test_the_full_route_names_the_service_that_is_reached(service: str, route: str, expected: str) -> None:
    assert full_route(service, route) == expected


def test_a_route_cannot_pretend_to_be_another_services() -> None:
    """A caller who may call A addresses B by tag and writes A's route: B is what is checked."""
    caller = grant(routes=["a.*"])
    assert caller.may_call("a", "a.read")
    assert not caller.may_call("b", "a.read")
    assert not caller.may_call("b", "gateway.ready")


def test_anonymous_may_do_everything_but_take_the_nodes_names() -> None:
    nobody = anonymous()
    everything = Grant(nobody, profile_for(nobody.kind))
    assert everything.may_register("thermo")
    assert everything.may_call("thermo", "read")
    assert not everything.may_register("gateway.ready")
    assert nobody.expires_at > 1e300


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", True),
        ("{sub}", True),
        ("{sub}.*", True),
        ("plant/*/x", True),
        ("", False),
        ("a..b", False),
        ("a\0", False),
        ("#", False),
        ("a/+", False),
        ("{kind}", False),
        ("{sub", False),
        ("a}", False),
        ("$SYS/*", False),
        ("x" * 256, False),
        ("{sub}" * 52, False),
    ],
)
def test_what_a_token_may_carry_as_a_pattern(text: str, expected: bool) -> None:
    assert is_pattern(text) is expected


def test_a_grant_is_frozen() -> None:
    device = grant()
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.limits = profile_for(Kind.ADMIN)  # type: ignore[misc]
    assert "_registers" not in repr(device)


def granted(*lists: tuple[str, ...]) -> Grant:
    """A grant whose token allows the first list of calls, within the others."""
    principal = Principal("dev-1", Kind.DEVICE, "t", 0, 1, routes=lists[0])
    return Grant(principal, profile_for(Kind.DEVICE), tuple(Rights(routes=routes) for routes in lists[1:]))


@pytest.mark.parametrize(
    ("before", "now", "wider"),
    [
        ([("a.*",)], [("a.*",)], True),
        ([("a.*", "b")], [("a.*",)], False),
        ([("a.*",)], [("a.*", "b")], True),
        ([("a.*",)], [("*",)], True),
        ([("*",)], [("a.*",)], False),
        ([("a.*",)], [("a.b.*",)], False),
        ([("a.b.*",)], [("a.*",)], True),
        ([("a.*",)], [("*.*",)], True),
        ([("*",), ("a.*",)], [("*",), ("*",)], True),
        ([("*",), ("a.*",)], [("*",), ("b.*",)], False),
        ([("*",)], [("*",), ("a.*",)], False),
        ([("{sub}.x",)], [("{sub}.*",)], True),
    ],
)
def test_whether_a_grant_allows_what_another_did(before: list, now: list, wider: bool) -> None:
    """fault 61: only what was taken away ends anything"""
    assert granted(*now).allows_calls_of(granted(*before)) is wider


@pytest.mark.parametrize("name", ["a", "a.b", "b", "dev-1.x"])
def test_bounds_only_take_away(name: str) -> None:
    wide, bound = granted(("*",)), granted(("*",), ("a.*", "{sub}.*"))
    assert wide.may_call(name)
    assert bound.may_call(name) is (name != "b")
    assert bound.may_call("gateway.ready")


def test_bounds_hold_for_what_is_registered() -> None:
    principal = Principal("dev-1", Kind.DEVICE, "t", 0, 1, services=("*",))
    grant = Grant(principal, profile_for(Kind.DEVICE), (Rights(services=("{sub}.*",)),))
    assert grant.may_register("dev-1.lamp")
    assert not grant.may_register("other")
    assert not grant.may_register("gateway.x")
