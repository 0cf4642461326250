"""The JSON Schema of documents: current, whole, and no stricter than the validator."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from gateway.documents.kinds import KINDS
from gateway.documents.schema import schema_of, schema_of_all
from gateway.documents.units import bytes_of, seconds_of, share_of, share_text, size_text, time_text
from gateway.documents.validation import examine_value

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "schema" / "documents.json"
SCHEMA = jsonschema_rs.validator_for(schema_of_all())
#: A document in a bundle has the nodes that it is for beside it.
WRITTEN = [
    {name: part for name, part in value.items() if name != "nodes"}
    for page in sorted((ROOT / "docs").glob("*.md"))
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    for value in yaml.safe_load_all(block)
    if isinstance(value, dict) and value.get("kind") in KINDS
]


def test_the_file_is_current() -> None:
    assert json.loads(FILE.read_text()) == schema_of_all(), "run tools/schema_doc.py"


@pytest.mark.parametrize("value", WRITTEN, ids=lambda value: f"{value['kind']}/{value['name']}")
def test_it_takes_what_the_validator_takes(value: dict[str, Any]) -> None:
    assert not [each for each in examine_value(value).findings if each.code == "GW0103"]
    SCHEMA.validate(value)
    jsonschema_rs.validator_for(schema_of(value["kind"])).validate(value)


def test_what_may_be_one_or_a_list_is_bounded_as_a_list_alone() -> None:
    long = {"kind": "Bridge", "name": "a", "mqtt": {"address": "mqtt://a-name-of-more-than-sixteen-characters"}}
    SCHEMA.validate(long)
    assert examine_value(long).good
    sources = [{"groups": ["a"]}] * 17
    for value in (
        {"kind": "Bridge", "name": "a", "mqtt": {"address": ["mqtt://a"] * 17}},
        {"kind": "Service", "name": "a", "routes": [{"match": [{"source": sources}]}]},
    ):
        assert not SCHEMA.is_valid(value)
        assert not examine_value(value).good


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "Service", "name": "a", "routes": [{"timeout": 5}]},
        {"kind": "Service", "name": "a", "route": []},
        {"kind": "Service", "name": "A"},
        {"kind": "Access", "name": "a", "rules": []},
        {"kind": "Fridge", "name": "a"},
        {"kind": "Spool", "name": "a", "match": [{"service": "b"}], "maxBytes": 7},
    ],
)
def test_it_refuses_what_has_another_shape(value: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid(value)


def fields(shape: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for owner, each in {"": shape, **shape["$defs"]}.items():
        for name, field in each.get("properties", {}).items():
            yield f"{owner}.{name}", field


@pytest.mark.parametrize("kind", ["Access", "Service", "Telemetry"])
def test_each_field_says_what_it_is(kind: str) -> None:
    silent = [
        name for name, field in fields(schema_of(kind)) if name not in (".kind", ".name") and "description" not in field
    ]
    assert silent == []


def test_defaults_are_written_as_a_document_would() -> None:
    found = dict(fields(schema_of("Service")))
    assert found["CircuitBreaker.sleepWindow"]["default"] == "5s"
    assert found["Retries.backoff"]["default"] == "25ms"
    assert dict(fields(schema_of("Spool")))[".minFree"]["default"] == "10%"
    for size in (1, 1024, 1536, 8 << 20, 1 << 40):
        assert bytes_of(size_text(size)) == size
    for seconds in (0.025, 1.0, 90.0, 3600.0, 604_800.0):
        assert seconds_of(time_text(seconds)) == seconds
    assert share_of(share_text(0.05)) == 0.05
