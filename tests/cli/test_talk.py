"""The talking commands against a running node: what they print, on which stream, with which exit code."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.client import Request, RequestFailed, Service
from tests.cli.conftest import GATEWAY, RunningNode, Shell
from tests.client.peer import free_port


async def minted(shell: Shell, node: RunningNode, *arguments: str) -> str:
    result = await shell.run("token", "--data", str(node.data), *arguments)
    assert result.code == 0, result.err
    return result.out.decode().strip()


@pytest.fixture
async def bench(node: RunningNode, shell: Shell) -> AsyncIterator[asyncio.Queue[bytes]]:
    """A service named `bench` on the node; the queue holds what was sent to be forgotten."""
    token = await minted(shell, node, "--subject", "svc", "--services", "bench")
    service = Service(node.url, token, name="bench", tags={"zone": "eu"})
    notes: asyncio.Queue[bytes] = asyncio.Queue()

    @service.request_response("echo")
    async def echo(data: bytes) -> bytes:
        return data

    @service.request_response("who")
    async def who(data: bytes, request: Request) -> str:
        assert request.caller is not None
        return f"{request.caller.subject} {request.caller.kind}"

    @service.request_response("fail")
    async def fail(data: bytes) -> bytes:
        raise RequestFailed(int(data, 16), "as you like it")

    @service.request_response("wait")
    async def wait(data: bytes) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    @service.stream("count")
    async def count(data: bytes) -> AsyncIterator[str]:
        number = 0
        while not data or number < int(data):
            number += 1
            yield str(number)

    @service.fire_and_forget("note")
    async def note(data: bytes) -> None:
        notes.put_nowait(data)

    @service.channel("upper")
    async def upper(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item.upper()

    async with service:
        yield notes


async def test_contract_token_and_request(node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes]) -> None:
    """`gateway token …` prints the token and nothing else; `gateway request …` prints the response data."""
    token = await minted(
        shell, node, "--subject", "bench", "--kind", "service", "--services", "bench", "--routes", "*", "--ttl", "1h"
    )
    assert token.count(".") == 2
    assert "\n" not in token
    result = await shell.spawn("request", "--url", node.url, "--token", token, "bench.echo", "hello")
    assert (result.code, result.out, result.err) == (0, b"hello\n", "")
    result = await shell.run("request", "--url", node.url, "--token", token, "bench.nothing")
    assert (result.code, result.out) == (1, b"")
    assert result.err == "gateway: REJECTED (0x202): no request_response handler for 'bench.nothing'\n"
    result = await shell.run("request", "--url", node.url, "--token", token, "bench.fail", "301")
    assert (result.code, result.err) == (1, "gateway: APPLICATION_CODE (0x301): as you like it\n")
    result = await shell.run("request", "--url", node.url, "--token", token, "nobody.home", "x")
    assert (result.code, result.err) == (1, "gateway: REJECTED (0x202): no route to nobody.home\n")


async def test_credentials(node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes], tmp_path: Path) -> None:
    """--token, --data, GATEWAY_TOKEN, GATEWAY_DATA and the default data directory, in that order."""
    token = await minted(shell, node, "--subject", "carol", "--kind", "user", "--routes", "bench.*")
    who = ("request", "--url", node.url, "bench.who")
    nothing = await shell.run(*who)
    assert nothing.code == 2
    assert "no token" in nothing.err
    by_data = await shell.run(*who, "--data", str(node.data))
    assert by_data.out == b"operator admin\n"
    with_token = shell.with_environment(GATEWAY_TOKEN=token, GATEWAY_URL=node.url)
    assert (await with_token.run("request", "bench.who")).out == b"carol user\n"
    assert (await with_token.run(*who, "--data", str(node.data))).out == b"operator admin\n"
    named = shell.with_environment(GATEWAY_DATA=str(node.data))
    assert (await named.run(*who)).out == b"operator admin\n"
    share = tmp_path / "home" / ".local" / "share"
    share.mkdir(parents=True)
    (share / "gateway").symlink_to(node.data)
    assert (await shell.run(*who)).out == b"operator admin\n"
    refused = await shell.run(*who, "--token", "not.a.token")
    assert refused.code == 1
    assert refused.err.startswith("gateway: REJECTED_SETUP (0x003): ")


async def test_data_from_arguments_input_and_files(
    node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes], tmp_path: Path
) -> None:
    echo = ("request", "--url", node.url, "--data", str(node.data), "bench.echo")
    binary = bytes(range(256))
    assert (await shell.run(*echo, "-", stdin=b"from input")).out == b"from input\n"
    file = tmp_path / "payload.bin"
    file.write_bytes(binary)
    assert (await shell.run(*echo, f"@{file}")).out == binary
    assert (await shell.run(*echo, f"@{file}", "-o", "raw")).out == binary
    assert (await shell.run(*echo, "text", "-o", "raw")).out == b"text"
    document = json.loads((await shell.run(*echo, "hé", "-o", "json")).out)
    assert document["data"] == "hé"
    assert document["ms"] > 0
    assert "base64" in json.loads((await shell.run(*echo, f"@{file}", "-o", "json")).out)
    missing = await shell.run(*echo, "@/no/such/file")
    assert missing.code == 2
    large = tmp_path / "large"
    large.write_bytes(b"x" * 300_000)
    assert (await shell.run(*echo, f"@{large}", "-o", "raw")).out == b"x" * 300_000


async def test_tags_and_timeouts(node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes]) -> None:
    call = ("request", "--url", node.url, "--data", str(node.data))
    assert (await shell.run(*call, "bench.echo", "eu", "--tag", "zone=eu")).out == b"eu\n"
    assert (await shell.run(*call, "bench.echo", "us", "--tag", "zone=us")).code == 1
    assert (await shell.run(*call, "bench.echo", "x", "--tag", "zone")).code == 2
    late = await shell.run(*call, "bench.wait", "--timeout", "50ms")
    assert (late.code, late.err) == (1, "gateway: no answer from bench.wait within 0.05 s\n")
    assert (await shell.run(*call, "bench.wait", "--timeout", "soon")).code == 2


async def test_unreachable(shell: Shell) -> None:
    result = await shell.run("request", "--url", f"ws://127.0.0.1:{free_port()}/rsocket", "--token", "t", "a.b")
    assert result.code == 4
    assert "connection refused" in result.err
    assert (await shell.run("request", "--url", "http://x/", "--token", "t", "a.b")).code == 2


async def test_stream(node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes]) -> None:
    call = ("stream", "--url", node.url, "--data", str(node.data), "bench.count")
    assert (await shell.run(*call, "3")).out == b"1\n2\n3\n"
    assert (await shell.run(*call, "--count", "4", "--credit", "2")).out == b"1\n2\n3\n4\n"
    lines = (await shell.run(*call, "2", "-o", "json")).out.splitlines()
    assert [json.loads(line) for line in lines] == [{"data": "1"}, {"data": "2"}]


async def test_stream_ends_quietly(node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes]) -> None:
    """Ctrl-C, and a reader that has seen enough, leave no traceback."""
    call = ("stream", "--url", node.url, "--data", str(node.data), "bench.count")
    process = await shell.start(*call)
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (130, b"")
    reader = await asyncio.create_subprocess_shell(
        "{} | head -n 2".format(" ".join(("python", "-m", "gateway.cli", *call))),
        env={**shell.environ, "PATH": f"{Path(GATEWAY[0]).parent}:/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(reader.communicate(), 20)
    assert (out, err) == (b"1\n2\n", b"")


async def test_fnf(node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes]) -> None:
    result = await shell.run("fnf", "--url", node.url, "--data", str(node.data), "bench.note", "remember")
    assert (result.code, result.out, result.err) == (0, b"", "")
    assert await asyncio.wait_for(bench.get(), 30) == b"remember"


async def test_channel_sends_lines(
    node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes], tmp_path: Path
) -> None:
    call = ("channel", "--url", node.url, "--data", str(node.data), "bench.upper")
    result = await shell.spawn(*call, stdin=b"one\ntwo\nthree")
    assert (result.code, result.out, result.err) == (0, b"ONE\nTWO\nTHREE\n", "")
    many = b"".join(b"line %d\n" % number for number in range(2000))
    assert (await shell.spawn(*call, "--credit", "7", stdin=many)).out == many.upper()
    # The answers do not wait for the end of input.
    process = await shell.start(*call, stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for word in (b"a", b"b"):
        process.stdin.write(word + b"\n")
        assert await asyncio.wait_for(process.stdout.readline(), 30) == word.upper() + b"\n"
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (130, b"")


async def test_routes(node: RunningNode, shell: Shell, bench: asyncio.Queue[bytes]) -> None:
    call = ("routes", "--url", node.url, "--data", str(node.data))
    listing = (await shell.run(*call)).out.decode().splitlines()
    assert listing[0].split() == ["SERVICE", "SUBJECT", "TAGS", "ROUTE", "ID"]
    assert any(line.split()[:3] == ["bench", "svc", "zone=eu"] for line in listing)
    found = {entry["service"]: entry for entry in json.loads((await shell.run(*call, "-o", "json")).out)}
    assert found["bench"]["subject"] == "svc"
    assert found["bench"]["tags"] == {"zone": "eu"}
    lines = [json.loads(line) for line in (await shell.run(*call, "-o", "jsonl")).out.splitlines()]
    assert {"bench", "gateway"} <= {line["service"] for line in lines}

    following = await shell.start(*call, "--follow", "-o", "jsonl")
    assert following.stdout is not None

    async def event(service: str, kind: str) -> dict[str, object]:
        assert following.stdout is not None
        async with asyncio.timeout(30):
            while True:
                entry: dict[str, object] = json.loads(await following.stdout.readline())
                if (entry["service"], entry["event"]) == (service, kind):
                    return entry

    await event("bench", "join")
    token = await minted(shell, node, "--subject", "late", "--services", "late")
    async with Service(node.url, token, name="late"):
        joined = await event("late", "join")
    assert (await event("late", "leave"))["route_id"] == joined["route_id"]
    following.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(following.wait(), 20) == 130
