"""`gateway doctor` finds what is wrong, and its message says what to do. Each fault is a real one, provoked."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.cli.diagnosis import CHECKS
from gateway.control.certificates import issue_authority, issue_listener, new_key
from gateway.control.identity import Identity
from gateway.control.runtime import Runtime
from tests.cli.conftest import Result, RunningNode, Shell
from tests.client.peer import free_port

DAY_S = 86_400


async def examined(shell: Shell, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and findings by slug, of `gateway doctor --json`."""
    result = await shell.run("doctor", "--json", *arguments)
    assert result.err == ""
    return result.code, {entry["slug"]: entry for entry in json.loads(result.out)["checks"]}


def found(findings: dict[str, dict[str, Any]], slug: str, level: str) -> dict[str, Any]:
    assert findings[slug]["level"] == level, findings[slug]
    if level in ("warning", "error"):
        assert findings[slug]["fix"]
    return findings[slug]


@contextmanager
def answering(date: float) -> Iterator[str]:
    """An HTTP server whose clock stands at `date`."""

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(date)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


async def test_a_good_place(shell: Shell, node: RunningNode) -> None:
    """A running node has nothing broken; people see √ ‼ ×, and exit code 0."""
    here = shell.with_environment(**node.environ)
    result = await here.run("doctor", "--dev", "--data", str(node.data))
    assert result.code == 0, result.out.decode()
    text = result.out.decode()
    assert "  √ the node takes connections" in text
    assert "0 broken" in text
    assert "  ‼ loopback only" in text
    code, findings = await examined(here, "--dev", "--data", str(node.data))
    assert code == 0
    found(findings, "node-ready", "ok")
    found(findings, "advertised-url", "ok")
    found(findings, "ports", "ok")
    assert set(findings) <= set(CHECKS)


async def test_wrong_clock(shell: Shell, tmp_path: Path) -> None:
    """Against another clock, and against the last time that the node is known to have run."""
    data = tmp_path / "data"
    with answering(time.time() + 7200) as url:
        code, findings = await examined(shell, "--data", str(data), "--against", url)
    assert code == 3
    assert "behind" in found(findings, "clock", "error")["text"]
    assert "timedatectl" in findings["clock"]["fix"]
    with answering(time.time()) as url:
        _, findings = await examined(shell, "--data", str(data), "--against", url)
    found(findings, "clock", "ok")
    _, findings = await examined(shell, "--data", str(data), "--against", f"http://127.0.0.1:{free_port()}/")
    found(findings, "clock", "warning")
    data.mkdir()
    Runtime(1, time.time() + 40 * DAY_S).write(data)
    code, findings = await examined(shell, "--data", str(data))
    assert code == 3
    assert "before the node's last start" in found(findings, "clock", "error")["text"]


async def test_unreachable_advertised_url(shell: Shell, node: RunningNode) -> None:
    """A port where nobody is, a name that is none, and something else than a gateway."""
    for url, why in (
        (f"ws://127.0.0.1:{free_port()}/rsocket", "nobody answers"),
        ("ws://gateway.invalid:7878/rsocket", "is not known here"),
    ):
        here = shell.with_environment(**node.environ, GATEWAY__NODE__ADVERTISED_URL=url)
        code, findings = await examined(here, "--dev", "--data", str(node.data))
        assert code == 3
        assert why in found(findings, "advertised-url", "error")["text"]
        assert "node.advertised_url" in findings["advertised-url"]["fix"]
    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    here = shell.with_environment(**node.environ, GATEWAY__NODE__ADVERTISED_URL=f"ws://127.0.0.1:{port}/rsocket")
    _, findings = await examined(here, "--dev", "--data", str(node.data))
    assert "no gateway is there" in found(findings, "advertised-url", "error")["text"]
    server.close()
    await server.wait_closed()


async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("data", ["/proc/gateway", "file/data"])
async def test_unwritable_data_directory(shell: Shell, tmp_path: Path, data: str) -> None:
    """The path and the user are in the message, also where the directory does not exist yet."""
    (tmp_path / "file").touch()
    where = tmp_path / data
    code, findings = await examined(shell, "--data", str(where))
    assert code == 3
    assert f"uid {os.geteuid()}" in found(findings, "data-directory", "error")["text"]
    assert "chown" in findings["data-directory"]["fix"]


async def test_a_data_directory_open_to_all(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    _, findings = await examined(shell, "--data", str(data))
    assert found(findings, "data-directory", "error")["fix"] == f"chmod 700 {data}"


async def test_secrets_that_others_can_read(shell: Shell, tmp_path: Path) -> None:
    """Doctor says so and leaves them as they are."""
    data = tmp_path / "data"
    key = Identity.open(data).directory / "signing-key.pem"
    key.chmod(0o644)
    code, findings = await examined(shell, "--data", str(data))
    assert code == 3
    assert found(findings, "secrets-private", "error")["fix"] == f"chmod 600 {key}"
    assert key.stat().st_mode & 0o777 == 0o644


async def test_secrets_that_are_not_there(shell: Shell, tmp_path: Path) -> None:
    """The setting, the file, and for whom it must be."""
    file = tmp_path / "nkey"
    here = shell.with_environment(GATEWAY__FEDERATION__NATS_NKEY_FILE=str(file))
    for make, what in ((lambda: None, "does not exist"), (file.touch, "is empty"), (unusable(file), "cannot be read")):
        make()
        code, findings = await examined(here, "--data", str(tmp_path / "data"))
        finding = found(findings, "secrets-readable", "error")
        assert (code, f"federation.nats_nkey_file: {file} {what}" in finding["text"]) == (3, True), finding
        assert finding["fix"] == f"put it there, for uid {os.geteuid()} alone"
    file.rmdir()
    file.write_text("SU…")
    file.chmod(0o600)
    _, findings = await examined(here, "--data", str(tmp_path / "data"))
    found(findings, "secrets-readable", "ok")


def unusable(file: Path) -> Callable[[], None]:
    """What nobody can read, root neither."""

    def make() -> None:
        file.unlink()
        file.mkdir()

    return make


@pytest.mark.parametrize(
    ("age_days", "level", "says"), [(390, "warning", "expires on"), (400, "error", "expired on"), (100, "ok", "until")]
)
async def test_expiring_certificate(shell: Shell, tmp_path: Path, age_days: int, level: str, says: str) -> None:
    """The node's own one lives 397 days."""
    data = tmp_path / "data"
    Identity.open(data, now=time.time() - age_days * DAY_S)
    code, findings = await examined(shell, "--data", str(data))
    assert says in found(findings, "certificate-valid", level)["text"]
    assert code == (3 if level == "error" else 0)
    if level != "ok":
        assert "gateway cert renew" in findings["certificate-valid"]["fix"]


async def test_certificate_for_another_host(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    Identity.open(data, names=["right.example.org"])
    told = shell.with_environment(GATEWAY__NODE__ADVERTISED_URL="wss://wrong.example.org:7878/rsocket")
    code, findings = await examined(told, "--data", str(data))
    assert code == 3
    finding = found(findings, "certificate-names", "error")
    assert "wrong.example.org" in finding["text"]
    assert "right.example.org" in finding["text"]
    told = shell.with_environment(GATEWAY__NODE__ADVERTISED_URL="wss://right.example.org:7878/rsocket")
    _, findings = await examined(told, "--data", str(data))
    found(findings, "certificate-names", "ok")


async def test_certificate_from_elsewhere(shell: Shell, tmp_path: Path) -> None:
    """Expired, or not there: the file that has to be replaced is named."""
    authority_key, key = new_key(), new_key()
    authority = issue_authority(authority_key, "elsewhere")
    certificate = issue_listener(key, ["gw.example.org"], authority, authority_key, time.time() - 500 * DAY_S)
    path, key_path = tmp_path / "cert.pem", tmp_path / "key.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key_path.chmod(0o640)
    here = shell.with_environment(GATEWAY__TLS__CERTIFICATE=str(path), GATEWAY__TLS__KEY=str(key_path))
    _, findings = await examined(here, "--data", str(tmp_path / "data"))
    assert str(path) in found(findings, "certificate-valid", "error")["fix"]
    assert str(key_path) in found(findings, "secrets-private", "error")["text"]
    path.unlink()
    _, findings = await examined(here, "--data", str(tmp_path / "data"))
    assert "does not exist" in found(findings, "certificate-valid", "error")["text"]


async def test_loopback_only(shell: Shell, tmp_path: Path) -> None:
    """Complaint 4: the line to change is in the message."""
    code, findings = await examined(shell, "--dev", "--data", str(tmp_path / "data"))
    assert code == 0
    finding = found(findings, "reachable", "warning")
    assert "loopback only" in finding["text"]
    assert 'listen.websocket = "0.0.0.0:7878"' in finding["fix"]
    _, findings = await examined(shell, "--data", str(tmp_path / "data"))
    found(findings, "reachable", "ok")


@pytest.mark.parametrize(("limit", "level", "code"), [(1024, "warning", 0), (200, "error", 3)])
async def test_low_file_limit(shell: Shell, tmp_path: Path, limit: int, level: str, code: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        status, findings = await examined(shell, "--data", str(tmp_path / "data"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert status == code
    finding = found(findings, "file-limit", level)
    assert "LimitNOFILE=5128" in finding["fix"]


async def test_a_port_that_is_taken(shell: Shell, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        here = shell.with_environment(GATEWAY__LISTEN__WEBSOCKET=f"127.0.0.1:{port}")
        code, findings = await examined(here, "--dev", "--data", str(tmp_path / "data"))
    assert code == 3
    finding = found(findings, "ports", "error")
    assert f"listen.websocket = 127.0.0.1:{port}" in finding["text"]
    assert f":{port}" in finding["fix"]


async def test_settings_that_are_wrong(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[listen]\nwebsoket = 'x'\n")
    code, findings = await examined(shell, "--config", str(file), "--data", str(tmp_path / "data"))
    assert code == 3
    assert "did you mean listen.websocket" in found(findings, "config-valid", "error")["text"]
    off = shell.with_environment(GATEWAY__AUTH__MODE="off")
    _, findings = await examined(off, "--data", str(tmp_path / "data"))
    found(findings, "config-safe", "error")


async def test_backups_that_are_old(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "backups").mkdir(parents=True)
    (data / "gateway.db").touch(0o600)
    _, findings = await examined(shell, "--data", str(data))
    assert "gateway backup create" in found(findings, "backup-age", "warning")["fix"]
    backup = data / "backups" / "one"
    backup.touch()
    _, findings = await examined(shell, "--data", str(data))
    found(findings, "backup-age", "ok")
    os.utime(backup, (time.time() - 9 * DAY_S,) * 2)
    _, findings = await examined(shell, "--data", str(data))
    assert "9 days old" in found(findings, "backup-age", "warning")["text"]


async def test_explain(shell: Shell) -> None:
    """Every check and every problem of the API has a page; a slip of the pen is met with the nearest name."""

    async def explained(*arguments: str) -> Result:
        return await shell.run("explain", *arguments)

    for slug, check in CHECKS.items():
        assert check.explanation in (await explained(slug)).out.decode()
    listed = (await explained()).out.decode()
    assert set(CHECKS) <= {line.split()[0] for line in listed.splitlines()}
    wrong = await explained("file-limt")
    assert (wrong.code, wrong.err) == (1, "gateway: nothing is called 'file-limt'; did you mean file-limit?\n")
