"""docs/examples: each is good alone and beside the others, a node acts by them, and stops when they go."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from gateway.documents.governing import governance
from gateway.documents.schema import schema_of_all
from gateway.documents.validation import examine
from gateway.wire import frames
from gateway.wire.header import ErrorCode
from tests.admin.api import Api
from tests.local_node import Servant
from tests.rawclient import RawClient, composite, route_setup

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.yaml"))
#: But for what would look for a collector of spans.
TOGETHER = "\n---\n".join(file.read_text() for file in EXAMPLES if file.stem != "telemetry")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_is_good(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# yaml-language-server: $schema=../schema/documents.json\n")
    examined = examine(text)
    assert examined.documents
    assert examined.findings == ()
    for document in yaml.safe_load_all(text):
        jsonschema_rs.validator_for(schema_of_all()).validate(document)


async def ask(client: RawClient, route: str) -> frames.Frame:
    client.send(frames.RequestResponse(client.next_stream_id(), composite(route), b"21"))
    return await client.recv()


async def test_a_node_acts_by_them_and_stops_when_they_go(tmp_path: Path) -> None:
    api = await Api.start(tmp_path / "data")
    done = await api.send("POST", "/documents:apply", json={"text": TOGETHER})
    assert done["warnings"] == []
    plane = api.node.plane
    assert plane.governance == governance(examine(TOGETHER).documents)
    for version in ("1", "2"):
        instance = await api.local.connect("tcp")
        instance.setup(api.local.token(f"thermostat-{version}"), [route_setup("thermostat", version=version)])
        await instance.ready()
        api.local.servants.append(Servant(instance, version))
    client = await api.local.client()
    assert isinstance(await ask(client, "thermostat.get"), frames.Payload)
    refused = await ask(client, "thermostat.set")
    assert isinstance(refused, frames.Error)
    assert refused.code == ErrorCode.REJECTED
    assert "ops-only-writes" in refused.text
    await api.send("DELETE", "/documents/Access/ops-only-writes", 204, headers={"if-match": "*"})
    assert isinstance(await ask(client, "thermostat.set"), frames.Payload)
    await api.finish()
