"""deploy/otel: a collector's configuration that holds together, and a document by which spans get there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.documents.validation import examine
from gateway.observe import spans
from tests.admin.api import Api
from tests.collector import Collector
from tests.deploy.monitoring import ROOT
from tests.local_node import call

FOLDER = ROOT / "deploy" / "otel"
DOCUMENT = (FOLDER / "telemetry.yaml").read_text()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_the_collector_listens_where_the_document_sends() -> None:
    config = yaml.safe_load((FOLDER / "collector.yaml").read_text())
    for pipeline in config["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(config[part])
        # Whatever is dropped under load is dropped before anything else is done with it.
        assert pipeline["processors"][0] == "memory_limiter"
    listens = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert urlsplit(yaml.safe_load(DOCUMENT)["tracing"]["endpoint"]).netloc == listens


async def test_spans_arrive(collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document is applied as an operator does, with the address of a collector that is there."""
    monkeypatch.setattr(spans, "DELAY_S", 0.05)
    assert examine(DOCUMENT).findings == ()
    api = await Api.start(tmp_path / "data")
    text = DOCUMENT.replace("http://127.0.0.1:4318", collector.url)
    assert text != DOCUMENT
    await api.send("POST", "/documents:apply", json={"text": text})
    await api.local.servant("tcp", "echo")
    await call(await api.local.client("tcp"), "echo.it")
    await asyncio.to_thread(collector.wait, lambda seen: len(seen) >= 1)
    (span,) = collector.spans
    assert (span.name, span.node) == ("echo.it", "edge-1")
    assert span.attributes["deployment"] == "trial"
    assert span.attributes["rpc.service"] == "echo"
    await api.finish()
