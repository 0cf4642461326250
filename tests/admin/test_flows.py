"""Flows over HTTP, RSocket and on disk: who sees what, who is too slow, and that what is hidden is nowhere."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.catalogue import load
from gateway.cli.flow import compact, expression
from gateway.cli.graph import as_dot
from gateway.documents.validation import examine
from gateway.flows import history
from gateway.observe.flow_fields import FIELDS, HIDDEN
from gateway.observe.flow_filter import FlowFilter
from gateway.wire import frames
from tests.admin.api import Api, problem
from tests.admin.test_events import Listening
from tests.local_node import until
from tests.rawclient import RawClient, composite

DOCUMENT = """
kind: Telemetry
name: flows
flowLog:
  capacity: 64
  filter: '{filter}'
  redact: [{redact}]
"""
FILE = "  file: {maxBytes: 1MiB, keep: 2}\n"


async def govern(api: Api, filter: str = "", redact: str = "", *, file: bool = False) -> None:
    text = DOCUMENT.format(filter=filter, redact=redact) + (FILE if file else "")
    await api.send("POST", "/documents:apply", json={"text": text})
    await until(lambda: api.node.plane.flows is not None)


async def heard(client: RawClient, stream_id: int) -> Any:
    """The next frame of a stream."""
    while True:
        frame = await client.recv()
        if getattr(frame, "stream_id", 0) == stream_id:
            return frame


async def ask(client: RawClient, route: str) -> Any:
    stream_id = client.next_stream_id()
    client.send(frames.RequestResponse(stream_id, composite(route), b"?"))
    return await heard(client, stream_id)


async def test_a_list_of_flows_with_filter_and_pages(api: Api) -> None:
    await govern(api)
    await api.local.servant("tcp", "echo")
    client = await api.local.client(subject="asker")
    for _ in range(3):
        await ask(client, "echo.x")
    await ask(client, "nobody.there")
    own = 'source.id == "asker" && !(route =~ "gateway.*")'
    found = (await api.get("/flows", params={"filter": own}))["data"]
    assert [(each["verdict"], each["route"]) for each in found] == [
        ("DROPPED", "nobody.there"),
        ("FORWARDED", "echo.x"),
        ("FORWARDED", "echo.x"),
        ("FORWARDED", "echo.x"),
    ]
    page = await api.get("/flows", params={"filter": 'destination.service == "echo"', "limit": 2, "fields": "route"})
    assert all(set(each) == {"number", "time", "verdict", "route"} for each in page["data"])
    rest = await api.get(
        "/flows", params={"filter": 'destination.service == "echo"', "limit": 2, "cursor": page["meta"]["next"]}
    )
    assert len(rest["data"]) == 1
    behind = await api.get("/flows", params={"after": found[1]["number"]})
    assert [each["verdict"] for each in behind["data"]] == ["DROPPED"]
    problem(await api.http.get("/api/v1/flows", params={"filter": "verdict =="}), 422, "invalid")
    problem(await api.http.get("/api/v1/flows", params={"fields": "nothing"}), 422, "invalid")


async def test_nothing_is_recorded_while_nobody_looks(api: Api) -> None:
    assert api.node.plane.flows is None
    viewing = api.node.flow_log.view()
    assert api.node.plane.flows is not None
    viewing.close()
    assert api.node.plane.flows is None
    assert (await api.get("/flows"))["data"] == []
    assert api.node.plane.flows is not None, "a second look finds what came meanwhile"


async def test_a_stream_of_flows_begins_and_ends_the_recording(api: Api) -> None:
    await api.local.servant("tcp", "echo")
    client = await api.local.client(subject="asker")
    listening = Listening(api.http, "/api/v1/stream/flows?filter=verdict+%3D%3D+%22DROPPED%22")
    await until(lambda: listening.status == 200 and api.node.plane.flows is not None)
    await ask(client, "echo.x")
    await ask(client, "nobody.there")
    await until(lambda: listening.events)
    assert [(each["verdict"], each["route"]) for each in listening.events] == [("DROPPED", "nobody.there")]
    assert api.node.plane.flows is not None
    assert api.node.plane.flows.latest == 1, "what no viewer wants is not even written"
    await listening.stop()
    await until(lambda: api.node.plane.flows is None)


FOLLOWING = 101


async def follow(api: Api, credit: int, **asked: Any) -> RawClient:
    viewer = await api.local.client(subject="root", kind="admin")
    viewer.send(
        frames.RequestStream(FOLLOWING, composite("gateway.flows"), json.dumps(asked).encode(), initial_n=credit)
    )
    return viewer


async def test_a_viewer_over_rsocket_that_is_too_slow_is_told_what_it_missed_and_holds_up_nobody(api: Api) -> None:
    await govern(api)
    await api.local.servant("tcp", "echo")
    client = await api.local.client(subject="asker")
    viewer = await follow(api, 1, filter='destination.service == "echo"', fields=["stream_id"])
    await until(lambda: len(api.node.flow_log._viewings) == 1)
    ring = api.node.plane.flows
    assert ring is not None
    before = ring.latest
    asked = 300
    for number in range(asked):
        client.send(frames.RequestFnf(FOLLOWING + 2 * number, composite("echo.x"), b"?"))
    await until(lambda: ring.latest >= before + asked)
    viewer.send(frames.RequestN(FOLLOWING, 1000))
    seen: list[int] = []
    lost = 0
    while not seen or seen[-1] != FOLLOWING + 2 * (asked - 1):
        item = json.loads((await heard(viewer, FOLLOWING)).data)
        if item["verdict"] == "LOST":
            lost += item["lost"]
        else:
            seen.append(item["stream_id"])
    assert lost >= asked - ring.capacity - 1
    # Each was seen or counted; the viewer's own request is the one that may be among those lost.
    assert asked <= len(seen) + lost <= asked + 2
    viewer.send(frames.Cancel(FOLLOWING))
    await until(lambda: not api.node.flow_log._viewings)


@pytest.mark.parametrize("kind", ["service", "device", "user"])
async def test_flows_are_for_administrators(api: Api, kind: str) -> None:
    client = await api.local.client(subject="nosy", kind=kind)
    client.send(frames.RequestStream(FOLLOWING, composite("gateway.flows"), b"", initial_n=1))
    refused = await heard(client, FOLLOWING)
    assert isinstance(refused, frames.Error)
    assert "administrators" in refused.text


async def test_what_cannot_be_asked_for_is_refused(api: Api) -> None:
    client = await api.local.client(subject="root", kind="admin")
    wrong = (b"{", b"[]", b'{"x": 1}', b'{"filter": "x"}', b'{"fields": ["x"]}', b'{"last": -1}', b'{"everything": 1}')
    for number, data in enumerate(wrong):
        stream_id = FOLLOWING + 2 * number
        client.send(frames.RequestStream(stream_id, composite("gateway.flows"), data, initial_n=1))
        refused = await heard(client, stream_id)
        assert isinstance(refused, frames.Error), data


async def test_what_is_hidden_is_in_no_output(api: Api) -> None:
    """In the list, by number, the stream, over RSocket, on disk and in what is read from there."""
    await govern(api, redact="source.id, route, payload", file=True)
    listening = Listening(api.http, "/api/v1/stream/flows?everything=true")
    viewer = await follow(api, 50, everything=True)
    await until(lambda: listening.status == 200)
    await api.local.servant("tcp", "echo")
    client = await api.local.client(subject="hidden-subject")
    await ask(client, "echo.hidden-route")
    await ask(client, "nobody.hidden-route")
    files = api.node.config.node.data / history.DIRECTORY
    await until(lambda: files.exists() and len([*history.records(files)]) >= 2)
    await until(lambda: len(listening.events) >= 2)
    outputs = [
        (await api.http.get("/api/v1/flows")).text,
        (await api.http.get("/api/v1/flows", params={"after": 0})).text,
        (await api.http.get("/api/v1/flows", params={"filter": 'source.id =~ "hidden*"'})).text,
        (await api.http.get("/api/v1/flows", params={"since": "2020-01-01T00:00:00Z", "stored": "true"})).text,
        json.dumps(listening.events),
        "".join(path.read_text() for path in history.files(files)),
        (await heard(viewer, FOLLOWING)).data.decode(),
        (await heard(viewer, FOLLOWING)).data.decode(),
    ]
    assert sum(HIDDEN in output for output in outputs) == len(outputs) - 1
    assert not any("hidden-" in output for output in outputs)
    await listening.stop()


async def test_the_document_says_what_is_kept_and_observers_see_more(api: Api) -> None:
    await govern(api, filter='verdict == "DROPPED"')
    await api.local.servant("tcp", "echo")
    client = await api.local.client(subject="asker")
    observing = Listening(api.http, "/api/v1/stream/flows?everything=true")
    await until(lambda: len(api.node.flow_log._viewings) == 1)
    await ask(client, "echo.x")
    await ask(client, "nobody.there")
    await until(lambda: len(observing.events) == 2)
    assert [each["verdict"] for each in (await api.get("/flows"))["data"]] == ["DROPPED"]
    await observing.stop()


async def test_who_calls_whom(api: Api) -> None:
    await api.local.servant("tcp", "echo")
    client = await api.local.client(subject="thermo-1", kind="device")
    for _ in range(3):
        await ask(client, "echo.x")
    found = await api.get("/graph")
    (edge,) = [each for each in found["edges"] if each["service"] == "echo"]
    assert (edge["source"], edge["ok"], edge["requests"], edge["error_share"]) == ("device", 3, 3, 0)
    assert edge["p99_s"] >= edge["p50_s"] > 0
    assert {"device", "echo"} <= set(found["nodes"])
    assert "thermo-1" not in json.dumps(found)
    (red,) = [each for each in (await api.get("/red"))["data"] if each["service"] == "echo"]
    assert (red["route"], red["subset"], red["ok"]) == ("", "", 3)
    assert '"device" -> "echo" [label="' in as_dot(found)
    for window in (10, 60, 300):
        assert (await api.get(f"/graph?window={window}"))["window_s"] == window
        assert (await api.get(f"/red?window={window}"))["window_s"] == window


RECORD = {
    "number": 1,
    "time": "2026-11-23T10:00:00.123456Z",
    "verdict": "ERROR",
    "reason": "REJECTED",
    "policy": "Service/thermostat",
    "source": {"id": "dev\x1b-1", "kind": "device"},
    "destination": {"service": "thermostat", "subset": "canary"},
    "route": "thermostat.set",
    "interaction": "requestResponse",
    "latency_ns": 12_300_000,
    "attempt": 2,
}


def test_one_line_says_what_became_of_a_request() -> None:
    assert compact(RECORD).partition(": ")[2] == (
        "dev\\x1b-1 (device) -> thermostat (canary) thermostat.set requestResponse ERROR REJECTED "
        "[Service/thermostat] (12.3 ms) try 2"
    )
    lost = {"verdict": "LOST", "lost": 7, "time": RECORD["time"], "reason": "ring"}
    assert compact(lost).endswith("7 records LOST (ring)")
    assert compact({"verdict": "DROPPED", "time": RECORD["time"]}).endswith(": - -> - DROPPED")


def test_options_make_one_filter() -> None:
    text = expression(["ERROR", "DROPPED"], 'dev"*', "thermo*", "thermostat.*", "is_reply || attempt > 1")
    found = FlowFilter.parse(text)
    assert found is not None
    assert not found.fits(RECORD)
    assert found.fits(RECORD | {"source": {"id": 'dev"-1'}})
    assert expression(None, "", "", "", " ") == ""


class TestFiles:
    def test_files_are_bounded_in_size_and_number(self, tmp_path: Path) -> None:
        files = history.Files(tmp_path, 1000, 3)
        for number in range(100):
            files.write(json.dumps({"number": number, "pad": "x" * 60}).encode() + b"\n")
        files.close()
        assert len(history.files(tmp_path)) == 3
        assert all(path.stat().st_size <= 1000 for path in history.files(tmp_path))
        numbers = [record["number"] for record in history.records(tmp_path)]
        assert numbers == list(range(numbers[0], 100))
        again = history.Files(tmp_path, 1000, 1)
        again.write(b'{"number": 100}\n')
        again.close()
        assert len(history.files(tmp_path)) == 1

    def test_damaged_lines_are_passed_over_and_time_is_looked_at(self, tmp_path: Path) -> None:
        (tmp_path / "flows.1.jsonl").write_bytes(
            b'{"time": "2026-01-01T00:00:00.000000Z", "n": 1}\n{"time"\n\xff\n[]\n'
        )
        (tmp_path / "flows.jsonl").write_bytes(b'{"time": "2026-01-03T00:00:00.000000Z", "n": 2}\n')
        assert [record["n"] for record in history.records(tmp_path)] == [1, 2]
        assert [record["n"] for record in history.records(tmp_path, 1_767_312_000.0)] == [2]
        assert [record["n"] for record in history.latest(tmp_path, 0.0, None, 1)] == [2]


async def test_a_disk_that_cannot_be_written_costs_records_and_nothing_else(api: Api) -> None:
    place = api.node.config.node.data / history.DIRECTORY
    place.write_text("no directory")
    await govern(api, file=True)
    await api.local.servant("tcp", "echo")
    client = await api.local.client(subject="asker")
    await ask(client, "echo.x")
    await until(lambda: api.node.flows.errors)
    lost = api.node.flows.lost
    assert lost >= 1
    place.unlink()
    await ask(client, "echo.x")
    await until(place.is_dir)
    await until(lambda: len([*history.records(place)]) >= 2)
    first, *rest = history.records(place)
    assert (first["verdict"], first["lost"]) == ("LOST", api.node.flows.lost)
    assert rest


PAGE = (Path(__file__).parents[2] / "docs/flows.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_documents_of_the_page_are_right() -> None:
    (text,) = [text for kind, text in BLOCKS if kind == "yaml"]
    assert examine(text).findings == ()


def test_the_filters_of_the_page_can_be_read() -> None:
    lines = [line for kind, text in BLOCKS if not kind and " || " in text for line in text.splitlines()]
    assert len(lines) == 3
    assert all(FlowFilter.parse(line) for line in lines)


def test_the_commands_of_the_page_are_right() -> None:
    lines = [line for _, text in BLOCKS for line in text.splitlines() if line.startswith("gateway ")]
    assert len(lines) >= 10
    for line in lines:
        _, name, *words = shlex.split(line.partition("|")[0], comments=True)
        command = load(name)
        if hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(name, words)


def test_the_page_has_every_field() -> None:
    for name in FIELDS:
        assert re.search(rf"`(\w+)?\.?{name.rpartition('.')[2]}[`.]", PAGE), name
