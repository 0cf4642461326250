"""Bundles as text: canonical JSON, the manifest, for which nodes a document is, what is no part of a bundle."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from gateway.documents.bundles import (
    MAX_BYTES,
    Entry,
    Facts,
    Manifest,
    Nodes,
    contents,
    digest_of,
    key_of,
    parse,
    sources,
    version_of,
)
from gateway.documents.canonical import canonical

MAKER = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
SPOOL = {"kind": "Spool", "name": "telemetry", "match": [{"service": "historian"}]}
EDGE = Facts(OTHER, "edge-1", "edge", {"site": "7", "ring": "canary"})


def entry(document: dict[str, Any], **nodes: Any) -> Entry:
    name = f"{document['kind']}/{document['name']}"
    return Entry(name, digest_of(canonical(document)), Nodes(**nodes) if nodes else None)


def manifest(*entries: Entry, **changes: Any) -> Manifest:
    values = {
        "version": 7,
        "maker": MAKER,
        "made_at": 1_800_000_000_000,
        "made_by": "alice",
        "comment": "",
        "trial_s": 60,
    }
    return Manifest(**(values | changes), entries=entries)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        # RFC 8785, appendix B.
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
    ],
)
def test_numbers_are_written_as_rfc_8785_says(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value) == text


def test_texts_and_maps_are_written_as_rfc_8785_says() -> None:
    # Section 3.2.3: names in the order of their UTF-16 code units, in which a smiley goes before U+FB33.
    names = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(canonical(names))) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert (
        canonical({"b": [True, None, 1.0, '\u000f\n"\\/é'], "a": {}})
        == '{"a":{},"b":[true,null,1,"\\u000f\\n\\"\\\\/é"]}'
    )


@pytest.mark.parametrize("value", [2**53, float("inf"), float("nan"), "\ud800", {1: 2}, {"\ud800": 1}, b"x"])
def test_what_json_cannot_say_to_every_reader_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical(value)


def test_a_manifest_is_read_as_it_was_written() -> None:
    made = manifest(entry(SPOOL), entry(SPOOL | {"name": "b"}, names=["edge-1"], labels={"site": "7"}))
    assert parse(made.text) == made
    assert made.key == key_of(7, MAKER) < key_of(7, OTHER) < key_of(10, MAKER)
    assert version_of(made.key) == 7
    assert version_of("") == 0


def test_a_manifest_has_one_form() -> None:
    text = manifest(entry(SPOOL)).text
    said = json.loads(text)
    wrong = [
        text + " ",
        text.replace('"trial":60', '"trial":60.0'),
        json.dumps(said),
        canonical(said | {"more": 1}),
        canonical(said | {"version": 0}),
        canonical(said | {"version": True}),
        canonical(said | {"version": "7"}),
        canonical(said | {"maker": "central"}),
        canonical(said | {"trial": 601}),
        canonical(said | {"trial": -1}),
        canonical(said | {"comment": None}),
        canonical(said | {"documents": {}}),
        canonical(said | {"documents": said["documents"] * 2}),
        canonical(said | {"documents": [{"id": "Spool/x"}]}),
        canonical(said | {"documents": [said["documents"][0] | {"id": "../x"}]}),
        canonical(said | {"documents": [said["documents"][0] | {"sha256": "00"}]}),
        canonical(said | {"documents": [said["documents"][0] | {"nodes": {"roles": ["hub"]}}]}),
        canonical(said | {"documents": [said["documents"][0] | {"nodes": {}}]}),
        "[]",
        "{",
        "[" * 100_000,
    ]
    for each in wrong:
        with pytest.raises(ValueError, match=r"."):
            parse(each)


@pytest.mark.parametrize(
    ("nodes", "fits"),
    [
        ({"names": ["edge-1"]}, True),
        ({"names": ["edge-2", "edge-1"]}, True),
        ({"names": ["edge-2"]}, False),
        ({"roles": ["edge"]}, True),
        ({"roles": ["central"]}, False),
        ({"labels": {"site": "7"}}, True),
        ({"labels": {"site": "7", "ring": "canary"}}, True),
        ({"labels": {"site": "7", "ring": "stable"}}, False),
        ({"labels": {"floor": "1"}}, False),
        ({"names": ["edge-1"], "roles": ["edge"], "labels": {"site": "8"}}, False),
    ],
)
def test_for_which_nodes_a_document_is(nodes: dict[str, Any], fits: bool) -> None:
    assert entry(SPOOL, **nodes).is_for(EDGE) is fits
    assert entry(SPOOL).is_for(EDGE)


def test_each_document_is_the_one_that_was_signed() -> None:
    text = canonical(SPOOL)
    made = manifest(entry(SPOOL))
    assert contents(made.entries, [text, "more"]) == {"Spool/telemetry": SPOOL}
    for wrong in ([], [text.replace("historian", "historiam")], [canonical(SPOOL | {"name": "b"})]):
        with pytest.raises(ValueError, match="Spool/telemetry is not in it as it was signed"):
            contents(made.entries, wrong)
    with pytest.raises(ValueError, match="another document"):
        contents([Entry("Spool/other", digest_of(text))], [text])


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("kind: Spool\nname: a\nmatch: [{service: x}]\nnodes: {labels: {site: '7'}}", []),
        ("kind: Spool\nname: a\nnodes: {}", ["GW0191"]),
        ("kind: Spool\nname: a\nnodes: [edge-1]", ["GW0191"]),
        ("kind: Spool\nname: a\nnodes: {role: edge}", ["GW0191"]),
        ("kind: Spool\nname: a\nnodes: {roles: [hub]}", ["GW0191"]),
        ("kind: Bridge\nname: a", ["GW0192"]),
        ("kind: Bridge\nname: a\nnodes: {names: [edge-1]}", []),
        ("kind: Spool\nname: a\nx: 9007199254740993", ["GW0103"]),
        ("- a list", ["GW0102"]),
        ("{", ["GW0101"]),
    ],
)
def test_what_is_wrong_with_a_part_of_a_bundle(text: str, codes: list[str]) -> None:
    _, findings = sources([text])
    assert [finding.code for finding in findings] == codes


def test_a_selector_is_no_part_of_the_document() -> None:
    (found,), findings = sources(["kind: Spool\nname: a\nmatch: [{service: x}]\nnodes: {names: [b]}"])
    assert not findings
    assert found.nodes == Nodes(names=("b",))
    assert found.text == '{"kind":"Spool","match":[{"service":"x"}],"name":"a"}'


def test_how_large_a_bundle_may_be() -> None:
    texts = [json.dumps(SPOOL | {"name": f"s{n}", "x": "y" * 60_000}) for n in range(MAX_BYTES // 60_000 + 1)]
    assert [finding.code for finding in sources(texts)[1]] == ["GW0193"]
    assert sources(texts[:-1])[1] == []
