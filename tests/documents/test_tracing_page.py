"""docs/tracing.md: its document is one that acts, its program runs, and it names every attribute."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from gateway.documents.validation import examine
from gateway.wire.tracing import trace_id_in

PAGES = Path(__file__).parents[2] / "docs"
PAGE = (PAGES / "tracing.md").read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_document() -> None:
    (document,) = snippets("yaml")
    collector = (PAGES.parent / "deploy" / "otel" / "collector.yaml").read_text()
    examined = examine(document)
    assert examined.findings == ()
    tracing = examined.documents[0].spec.rules.tracing
    received = yaml.safe_load(collector)["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert tracing.endpoint == f"http://{received}/v1/traces"
    assert (tracing.sampling, tracing.share("lab.x")) == (0.01, 1.0)


def test_the_program() -> None:
    (program,) = snippets("python")
    names: dict[str, object] = {}
    exec(program, names)
    payload = names["payload"]
    assert trace_id_in(payload.metadata) == "4bf92f3577b34da6a3ce929d0e0e4736"  # type: ignore[attr-defined]


def test_every_attribute_is_there() -> None:
    source = Path(__file__).parents[2] / "gateway" / "forwarding"
    said = (source / "tracing.py").read_text() + (source / "traced.py").read_text()
    for name in set(re.findall(r'"((?:rpc|rsocket|gateway)\.[a-z_]+)"', said)):
        assert f"`{name}`" in PAGE, name
