"""What goes wrong at a command line, as a new user meets it: one line that says what to do, a stable exit code, and no
traceback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.control.identity import Identity
from gateway.control.runtime import Runtime
from tests.cli.conftest import GATEWAY, Result, RunningNode, Shell
from tests.client.peer import free_port
from tests.volumes import small_volume

OK, ERROR, USAGE, UNHEALTHY, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130


def one_line(result: Result, code: int, *texts: str) -> None:
    """The exit code, and one line on standard error that begins with the program and has the texts in it."""
    assert "Traceback" not in result.err, result.err
    assert result.code == code, result.err
    assert result.err.startswith("gateway: "), result.err
    assert result.err.count("\n") == 1, result.err
    for text in texts:
        assert text in result.err


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("nonsense", ("No such command 'nonsense'", "see gateway --help")),
        ("device ad", ("Did you mean 'add'?", "see gateway device --help")),
        ("device add", ("Missing argument 'name'",)),
        ("token", ("Missing option '--subject'", "see gateway token --help")),
        ("run --nope", ("No such option: --nope",)),
        ("device ls --limit x --data data", ("'--limit'",)),
        ("enroll create --ttl soon --data data", ("'soon' is no duration", "15m")),
        ("cert show -o yaml --data data", ("'yaml' is not one of",)),
        ("device ls --data nowhere", ("nowhere is no data directory of a node",)),
        ("device ls", ("which node?", "--data", "gateway context add")),
        ("device ls --context nope", ("there is no context 'nope'",)),
        ("request a.b", ("no token", "--data")),
        ("request a.b --url http://x --token t", ("no address of a gateway", "wss://")),
        ("simulate --devices 0", ("'--devices'",)),
        ("device rm kitchen --data data", ("Say --yes", "--dry-run")),
    ],
)
async def test_wrong_use(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, texts: str) -> None:
    monkeypatch.chdir(tmp_path)
    Identity.open(tmp_path / "data")
    one_line(await shell.run(*line.split()), USAGE, *texts)


@pytest.mark.parametrize("line", ["", "device", "backup"])
async def test_half_a_command(shell: Shell, line: str) -> None:
    """What there is to choose from."""
    result = await shell.run(*line.split())
    assert (result.code, result.out) == (USAGE, b"")
    assert "Commands:\n" in result.err


@pytest.mark.parametrize(
    "line", ["status", "device ls", "top", "events --follow", "drain --yes", "stop", "healthcheck"]
)
async def test_a_node_that_does_not_run(shell: Shell, tmp_path: Path, line: str) -> None:
    data = tmp_path / "data"
    Identity.open(data)
    one_line(await shell.run(*line.split(), "--data", str(data)), UNREACHABLE, "no node runs")


async def test_a_device_of_a_node_that_does_not_run(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    Identity.open(data)
    one_line(await shell.spawn("simulate", "--as", "x", "--data", str(data)), UNREACHABLE, "no node runs")


@pytest.mark.parametrize("line", ["device ls", "drain --yes", "request a.b", "bench rr -d 100ms"])
async def test_a_node_that_was_killed(shell: Shell, tmp_path: Path, line: str) -> None:
    """It has left its addresses, and nobody is there."""
    data = tmp_path / "data"
    Identity.open(data)
    port = free_port()
    Runtime(os.getpid(), 1.0, f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/rsocket", birth=1).write(data)
    here = shell.with_environment(GATEWAY_URL=f"ws://127.0.0.1:{port}/rsocket")
    result = await here.run(*line.split(), "--data", str(data))
    assert result.code == UNREACHABLE
    assert str(port) in result.err
    assert "connection refused" in result.err.lower()
    assert "Errno" not in result.err


async def test_a_second_node_on_the_same_data(shell: Shell, node: RunningNode) -> None:
    """Fault 75: also where its ports would be others; and nobody repairs under a node that runs."""
    elsewhere = shell.with_environment(**dict.fromkeys(node.environ, "127.0.0.1:0"))
    for line in ("run --dev", "db check"):
        result = await elsewhere.spawn(*line.split(), "--data", str(node.data))
        one_line(result, ERROR, "in use by another process", "one node for a data directory")


async def test_a_port_that_somebody_has(shell: Shell, node: RunningNode, tmp_path: Path) -> None:
    result = await shell.with_environment(**node.environ).spawn("run", "--dev", "--data", str(tmp_path / "data"))
    one_line(result, ERROR, "listen.", "Address already in use")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    with small_volume(tmp_path / "volume", "8m") as volume:
        data = volume / "data"
        Identity.open(data)
        subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
        yield data


async def test_a_directory_that_cannot_be_written(shell: Shell, read_only: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.tar"
    for line in (
        "run --dev --data {}",
        "init --data {}",
        "token --subject a --data {}",
        "db check --data {}",
        "user reset-password admin --offline --yes --data {}",
        "run --dev --data {}/more",
    ):
        # Not in this process, whose log `run` would take over.
        call = shell.spawn if line.startswith("run") else shell.run
        one_line(await call(*line.format(read_only).split()), ERROR, str(read_only))
    one_line(await shell.run("backup", "restore", str(backup), "--yes", "--data", str(read_only)), ERROR, str(backup))
    doctor = await shell.run("doctor", "--json", "--data", str(read_only))
    (finding,) = [each for each in json.loads(doctor.out)["checks"] if each["slug"] == "data-directory"]
    assert (doctor.code, finding["level"]) == (UNHEALTHY, "error")
    assert "Read-only file system" in finding["text"]
    here = shell.with_environment(XDG_CONFIG_HOME=str(read_only))
    result = await here.run("context", "add", "far", "http://127.0.0.1:1", "--key", "x")
    one_line(result, ERROR, "Read-only file system")


async def test_where_a_backup_cannot_be_put(shell: Shell, node: RunningNode) -> None:
    result = await shell.run("backup", "create", "--to", "/proc/backups", "--data", str(node.data))
    one_line(result, ERROR, "/proc/backups")


async def test_settings_that_are_wrong(shell: Shell, tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    wrong = shell.with_environment(GATEWAY__LISTEN__TPC="127.0.0.1:0")
    one_line(await wrong.spawn("run", *data), ERROR, "did you mean GATEWAY__LISTEN__TCP")
    one_line(await shell.spawn("run", "--config", "nofile.toml", *data), ERROR, "nofile.toml does not exist")
    one_line(await shell.run("init", "--bootstrap", "nofile", *data), ERROR, "nofile cannot be read: No such file")


async def test_keys_that_do_not_open(shell: Shell, node: RunningNode) -> None:
    """Expired, wrong, none: one answer. Another port, another protocol, no such host: unreachable, and why."""
    key = await shell.run("key", "create", "brief", "--scope", "devices", "--ttl", "1s", "--data", str(node.data))
    admin = json.loads((node.data / "runtime.json").read_text())["admin"]
    await asyncio.sleep(1.1)
    for text in (key.out.decode().strip(), "gk_nobody_has_it", "nonsense"):
        here = shell.with_environment(GATEWAY_ADMIN=admin, GATEWAY_API_KEY=text)
        one_line(await here.run("device", "ls"), ERROR, "No valid credential", "gateway explain unauthenticated")
    port = urlsplit(admin).port
    for url, why in (
        (f"http://127.0.0.1:{free_port()}", "Connection refused"),
        (f"https://127.0.0.1:{port}", "no TLS is spoken there"),
        (f"http://127.0.0.1:{node.tcp_port}", "no admin API"),
        ("http://gateway.invalid", "gateway.invalid: "),
    ):
        here = shell.with_environment(GATEWAY_ADMIN=url, GATEWAY_API_KEY="x")
        result = await here.run("device", "ls")
        one_line(result, UNREACHABLE, why)
        assert "Errno" not in result.err


async def test_what_the_api_does_not_take(shell: Shell, node: RunningNode) -> None:
    """One line where one thing is wrong."""
    data = ("--data", str(node.data))
    for line, what in (
        ("device show nobody", "there is no device 'nobody'"),
        ("user add b --role king --scope all", "/role"),
        ("key create ci --scope nope", "scopes are among"),
        ("config set limits.drain_grace_s abc", "limits.drain_grace_s"),
        ("device add a/b", "1 to 64 of A-Z a-z 0-9 _ -"),
        ("conn kick 99 --yes", "there is no open connection 99"),
    ):
        one_line(await shell.run(*line.split(), *data), ERROR, what, "gateway explain")


async def piped(command: str, shell: Shell, cwd: Path) -> tuple[int, str]:
    """Exit code and standard error of the first process of a pipe into `head -1`."""
    line = f"set -o pipefail; {' '.join(GATEWAY)} {command} | head -1"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, env=shell.environ, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.mark.parametrize("command", ["config schema --data {}", "audit -o jsonl --limit 0 --data {}"])
async def test_output_that_nobody_reads(shell: Shell, node: RunningNode, tmp_path: Path, command: str) -> None:
    """`| head` ends a command without a word."""
    code, err = await piped(command.format(node.data), shell, tmp_path)
    assert (code in (OK, ERROR), err) == (True, "")


async def test_output_that_has_no_room(shell: Shell) -> None:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", f"{' '.join(GATEWAY)} version > /dev/full", env=shell.environ, stderr=subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (ERROR, b"gateway: No space left on device\n")


@pytest.mark.parametrize(
    ("line", "code"),
    [("events --follow", INTERRUPTED), ("top", INTERRUPTED), ("stream gateway.routes", INTERRUPTED), ("simulate", OK)],
)
async def test_ctrl_c(shell: Shell, node: RunningNode, line: str, code: int) -> None:
    """In the middle: 130, or 0 where that is how it ends; nothing else is said."""
    here = shell.with_environment(GATEWAY_URL=node.url)
    process = await here.start(*line.split(), "--data", str(node.data))
    assert process.stdout is not None
    started = asyncio.create_task(process.stdout.read(1))
    while not started.done():
        # What happens is what one of them has to print.
        await shell.run("reload", "--data", str(node.data))
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == code
    assert b"Traceback" not in err
