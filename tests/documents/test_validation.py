"""The validator: what it takes, and what it says of the rest, by code and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.documents.findings import CODES
from gateway.documents.model import Site
from gateway.documents.spool import Interaction, Key, Spool
from gateway.documents.units import bytes_of, seconds_of, share_of
from gateway.documents.validation import examine, examine_value, understand
from gateway.spool.rules import WhenFull

TELEMETRY = """
kind: Spool
name: telemetry
match:
  - service: historian
  - {service: "thermo-*", route: "*.set", interaction: [requestResponse]}
whenFull: dropOldest
maxBytes: 64MiB
maxAge: 7d
minFree: 5%
priority: 3
key: device
queueWhileOffline: {ttl: 60s, onlyIdempotent: false}
"""
ROOMY = Site(free=100 << 30, total=200 << 30)


def codes(text: str, site: Site | None = None) -> list[str]:
    return [finding.code for finding in examine(text, (), site).findings]


def spool(more: str, match: str = "{service: historian}") -> str:
    return f"kind: Spool\nname: a\nmatch: [{match}]\n{more}\n"


def test_a_document_means_what_it_says() -> None:
    examined = examine(TELEMETRY, (), ROOMY)
    assert examined.findings == ()
    spec = examined.documents[0].spec
    assert isinstance(spec, Spool)
    assert spec.rules.when_full is WhenFull.DROP_OLDEST
    assert (spec.rules.max_bytes, spec.rules.max_age_s, spec.rules.min_free) == (64 << 20, 604_800.0, 0.05)
    assert (spec.priority, spec.key, spec.acknowledge) == (3, Key.DEVICE, False)
    assert spec.queue_while_offline is not None
    assert (spec.queue_while_offline.ttl, spec.queue_while_offline.only_idempotent) == (60.0, False)


def test_what_is_stored_is_understood_again() -> None:
    (document,) = examine(TELEMETRY).documents
    assert understand(document.body) == document
    with pytest.raises(ValueError, match="GW0102"):
        understand({"kind": "Fridge", "name": "x"})


def test_json_is_yaml() -> None:
    assert examine('{"kind": "Spool", "name": "a", "match": [{"service": "historian"}]}').good


@pytest.mark.parametrize(
    ("name", "route", "interaction", "target"),
    [
        ("", "historian", None, "historian"),
        ("", "historian.write", None, "historian"),
        ("", "historian/write", Interaction.FIRE_AND_FORGET, "historian"),
        ("", "historian.write", Interaction.REQUEST_RESPONSE, None),
        ("", "historians.write", None, None),
        ("historian", "write", None, "historian"),
        ("", "thermo-7.set", None, "thermo-7"),
        ("", "thermo-7.set", Interaction.REQUEST_RESPONSE, "thermo-7"),
        ("", "thermo-7.get", None, None),
        ("thermo-7", "other.set", None, "thermo-7"),
        ("other", "thermo-7.set", None, None),
        ("", "", None, None),
    ],
)
def test_matching(name: str, route: str, interaction: Interaction | None, target: str | None) -> None:
    (document,) = examine(TELEMETRY).documents
    assert document.spec.target(name, route, interaction) == target


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: [", "GW0101", 1),
        ("", "GW0101", 0),
        ("kind: Spool\nkind: Spool", "GW0101", 2),
        ("a: &x [1]\nb: *x", "GW0101", 1),
        ("a: !!python/object:os.system 1", "GW0101", 1),
        ("1: 2", "GW0101", 1),
        ("kind: Fridge\nname: a", "GW0102", 1),
        ("- 1", "GW0102", 1),
        ("kind: Spool\nname: a\nmatch: [{service: b}]\nmaxbytes: 1GiB", "GW0103", 4),
        (spool("maxBytes: 1"), "GW0103", 4),
        (spool("maxAge: 7"), "GW0103", 4),
        (spool("key: colour"), "GW0103", 4),
        ("kind: Spool\nname: A b\nmatch: [{service: b}]", "GW0103", 2),
        ("kind: Spool\nname: a\nmatch: []", "GW0103", 3),
        (spool("", "{service: '{sub}'}"), "GW0103", 3),
        (spool("---\nkind: Spool\nname: a\nmatch: [{service: b}]"), "GW0104", 5),
        (spool("maxAge: 0"), "GW0112", 4),
        (spool("queueWhileOffline: {ttl: 0s}", "{service: a, interaction: [requestResponse]}"), "GW0112", 4),
        (spool("queueWhileOffline: {ttl: 8d}", "{service: a, interaction: [requestResponse]}"), "GW0114", 4),
        (spool("maxBytes: 1KiB"), "GW0115", 0),
        (spool("", "{service: gateway}"), "GW0116", 3),
        (spool("", "{service: '*'}"), "GW0117", 3),
        (spool("key: none\nwhenFull: conflate"), "GW0118", 5),
        (spool("", "{service: a, interaction: [requestResponse]}"), "GW0119", 3),
        (spool("queueWhileOffline: {ttl: 5s}"), "GW0119", 4),
        (spool("", "{service: 'a*'}, {service: ab}"), "GW0113", 3),
    ],
)
def test_what_is_wrong_is_said_with_its_code_and_line(text: str, code: str, line: int) -> None:
    findings = examine(text).findings
    assert code in [finding.code for finding in findings], findings
    assert line in [0, *(finding.line for finding in findings if finding.code == code)]


def test_an_earlier_document_may_take_everything_of_a_later_one() -> None:
    both = spool("") + "---\n" + spool("").replace("name: a", "name: b")
    (finding,) = examine(both).findings
    assert (finding.code, finding.document, finding.pointer) == ("GW0113", "Spool/b", "/match/0")
    first = examine(spool("")).documents
    assert not examine(spool("").replace("name: a", "name: b"), first).good
    assert examine(spool("priority: 1"), first).good


def test_a_spool_is_no_larger_than_the_disk() -> None:
    assert codes(spool("maxBytes: 50GiB"), Site(free=40 << 30, total=100 << 30)) == ["GW0111"]
    assert codes(spool("maxBytes: 30GiB"), Site(free=40 << 30, total=100 << 30)) == []
    assert codes(spool("maxBytes: 30GiB"), Site(free=40 << 30, total=100 << 30, spool_max=1 << 30)) == ["GW0111"]


def test_a_value_that_was_read_already() -> None:
    assert examine_value({"kind": "Spool", "name": "a", "match": [{"service": "b"}]}).good
    assert examine_value([1]).findings[0].code == "GW0102"
    assert examine_value({"kind": ["Spool"]}).findings[0].code == "GW0102"
    odd = examine_value({"kind": "Spool", "name": "a\ud800", "match": [], "\ud800": 1}).findings
    assert {finding.code for finding in odd} == {"GW0103"}
    assert "".join(map(str, odd)).encode()


def test_hostile_texts_are_refused_quickly() -> None:
    assert codes("[" * 100_000) == ["GW0101"]
    assert codes("a: " * 50_000) == ["GW0101"]
    assert codes("x" * 600_000) == ["GW0101"]


def test_units() -> None:
    assert [bytes_of(text) for text in ("1GiB", "1.5 KiB", "2MB", 0)] == [1 << 30, 1536, 2_000_000, 0]
    assert [seconds_of(text) for text in ("250ms", "5s", "2m", "1h", "7d")] == [0.25, 5, 120, 3600, 604_800]
    assert share_of("10%") == pytest.approx(0.1)
    for wrong in ("1", "1 parsec", "-1s", "", None, True, "1e3s"):
        with pytest.raises(ValueError, match="unit"):
            seconds_of(wrong)
    with pytest.raises(ValueError, match="100%"):
        share_of("101%")


def test_every_code_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "documents.md").read_text()
    said = dict(re.findall(r"^\| `(GW\d{4})` \| (.*) \|$", page, re.MULTILINE))
    assert said == dict(CODES)


@pytest.mark.parametrize("page", ["documents.md", "spool.md", "governance.md"])
def test_the_documents_in_the_documentation_are_good(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        assert examine(block, (), ROOMY).findings == ()
