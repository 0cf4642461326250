"""The benchmarks run: for a moment each, counted, not timed."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.echo import Score
from bench.processes import NotStarted, floor, free_port
from bench.proxying import HttpCaller, requests
from bench.rows import ROWS
from gateway.load.run import measure
from gateway.load.shape import Model, Shape

REPOSITORY = Path(__file__).parents[2]


async def program(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", *arguments, cwd=REPOSITORY, stdout=-1, stderr=-1
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 100)
    except BaseException:
        process.terminate()
        await process.communicate()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("mask", [bytes(4), b"\x01\x80\xff\x7f"])
@pytest.mark.parametrize("model", Model)
async def test_the_floor_forwards_everything(tmp_path: Path, model: Model, mask: bytes) -> None:
    """Where there is a C compiler; elsewhere there is no floor, which is said."""
    shape = Shape(model, requesters=3, in_flight=5, responders=2, items=100, payload=300, seconds=0.1, warm_up=0.0)
    if shutil.which("cc") is None:
        with pytest.raises(NotStarted, match="compiler"), floor(tmp_path / "floor"):
            pass
        return
    with floor(tmp_path / "floor") as access:
        result = await measure(replace(access, mask=mask), shape)
    assert result.good, result


async def test_the_routing_table_at_a_small_size() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.routing_table", "--routes", "500", "--sample", "500", cwd=REPOSITORY, stdout=-1
    )
    out, _ = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0
    assert b"shard of 1000" in out


def test_no_floor_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(NotStarted, match="false"), floor(tmp_path / "floor"):
        pass


async def test_requests_through_a_proxy() -> None:
    """A backend that is asked directly answers as one behind a proxy."""
    port = free_port()
    result = await requests("http", port, port, Shape(in_flight=3, seconds=0.1, warm_up=0.0))
    assert result.good, result
    assert result.operations == pytest.approx(result.rate * result.seconds)


async def test_an_error_of_a_proxy_is_one() -> None:
    score = Score()
    caller = HttpCaller(score, b"xx")
    caller.data_received(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n")
    caller.data_received(b"\r\nx")
    assert score.operations == 0
    caller.data_received(b"x")
    assert score.texts == ["HTTP/1.1 502 Bad Gateway"]


async def test_what_is_printed_and_written(tmp_path: Path) -> None:
    file = tmp_path / "results" / "latest.json"
    code, out, err = await program(
        "--only", "rr 1×64", "--only", "neighbour", "--only", "connect", "--seconds", "0.2", "--rounds", "1",
        "--json", str(file),
    )  # fmt: skip
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("rr", "neighbour", "connect"))][-2:] == [
        "neighbour",
        "connect",
    ]
    assert lines[-1] == f"written to {file}"
    document = json.loads(file.read_text())
    assert [row["name"] for row in document["rows"]] == ["rr 1×64", "neighbour", "connect"]
    (only,) = document["rows"][0]["rounds"]
    assert only["node"]["operations"] > 0
    assert ("floor" in only) == (shutil.which("cc") is not None) == ("floor" not in document["left_out"])
    assert not any("failed" in row for row in document["rows"])


async def test_choosing(tmp_path: Path) -> None:
    code, out, _ = await program("--list")
    assert code == 0
    assert out.splitlines()[: len(ROWS)] == [row.name for row in ROWS]
    code, _, err = await program("--only", "rr 1×65")
    assert code == 2
    assert "rr 1×65" in err
