"""`gateway support-bundle`: what is in it, with the node up and down, and that no secret ever is."""

from __future__ import annotations

import io
import json
import re
import signal
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import support_bundle as command
from gateway.observe import support_bundle
from gateway.observe.redaction import Redaction
from gateway.observe.support_bundle import ASKED, SupportBundle
from tests.cli.conftest import GATEWAY, Shell, environment, until_ready

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJsb2cifQ.c2lnbmF0dXJl"


def opened(data: bytes) -> dict[str, Any]:
    """By name: documents as they are, texts as texts."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found: dict[str, Any] = {}
        for entry in tar:
            assert entry.mode == 0o600
            assert entry.name.startswith("gateway-support/")
            file = tar.extractfile(entry)
            assert file is not None
            text = file.read().decode()
            name = entry.name.partition("/")[2]
            found[name] = json.loads(text) if name.endswith(".json") else text
    return found


def raw(data: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return "\n".join(file.read().decode() for entry in tar if (file := tar.extractfile(entry)) is not None)


async def made(shell: Shell, *words: str) -> str:
    done = await shell.run(*words)
    assert done.code == 0, (words, done.err)
    return done.out.decode()


async def test_a_bundle_of_a_node_that_has_secrets_everywhere(shell: Shell, tmp_path: Path) -> None:
    """With the node up, then down; of its keys, tokens, passwords, those of others, and what a log holds of them."""
    data = tmp_path / "data"
    environ = environment(
        tmp_path,
        GATEWAY__LISTEN__WEBSOCKET="127.0.0.1:0",
        GATEWAY__LISTEN__TCP="127.0.0.1:0",
        GATEWAY__ADMIN__LISTEN="127.0.0.1:0",
        GATEWAY__TELEMETRY__LISTEN="127.0.0.1:0",
    )
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220  (it is waited for as that of the other tests)
            (*GATEWAY, "run", "--dev", "--data", data), env=environ, stdout=output, stderr=output
        )
    try:
        until_ready(process, data, log)
        here = shell.with_environment(GATEWAY_DATA=str(data))
        secrets = {
            "the first password": "hunter2-of-the-first-run",
            "an API key": (await made(here, "key", "create", "for-ci", "--scope", "devices")).strip(),
            "a password": json.loads(await made(here, "user", "add", "alice", "--scope", "devices", "-o", "json"))[
                "password"
            ],
            "an enrolment": (await made(here, "enroll", "create")).strip(),
            "a token": (await made(here, "token", "--subject", "svc-1")).strip(),
            "that of the broker": "hunter2-of-the-broker",
            "that of a device's network": "hunter2-of-the-lan",
            "a tag of traces": "hunter2-of-the-collector",
        }
        (data / "first-run.txt").write_text(secrets["the first password"])
        line = await made(here, "device", "add", "kitchen-7")
        secrets["a credential"] = re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", line)[0]
        for name in ("signing-key.pem", "ca-key.pem"):
            body = (data / "identity" / name).read_text().splitlines()
            secrets[name] = body[1]
        (tmp_path / "broker-password").write_text(secrets["that of the broker"])
        (tmp_path / "documents.yaml").write_text(
            f"""kind: Bridge
name: plant
mqtt:
  address: [mqtt://127.0.0.1:1]
  clientId: edge-7
  username: bob
  passwordFile: {tmp_path / "broker-password"}
topics:
  - {{pattern: "#", direction: in, route: telemetry.ingest}}
---
kind: Spool
name: jobs
match: [{{service: jobs}}]
---
kind: Telemetry
name: traces
tracing:
  endpoint: http://127.0.0.1:1
  customTags: {{api_key: "{secrets["a tag of traces"]}"}}
"""
        )
        await made(here, "apply", "-f", str(tmp_path / "documents.yaml"))
        (tmp_path / "config.json").write_text(json.dumps({"wifi": {"key": secrets["that of a device's network"]}}))
        await made(here, "device", "config", "set", "kitchen-7", "-f", str(tmp_path / "config.json"))
        said = tmp_path / "node.log"
        said.write_text(
            f"token {JWT} of kitchen-7 from 192.0.2.7\npassword={secrets['a password']}\n"
            f"{(data / 'identity' / 'signing-key.pem').read_text()}\n{secrets['an API key']} ok\n"
        )

        out = tmp_path / "up.tar.gz"
        words = ("support-bundle", "--dev", "--log", str(said), "-o", "json")
        answer = json.loads(await made(here, *words, "--out", str(out)))
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert answer["file"] == str(out)
        assert answer["bytes"] == out.stat().st_size < 1 << 20
        assert answer["hidden"] > 5
        up = opened(out.read_bytes())
        assert {f"{ask.name}.json" for ask in ASKED} <= set(up)
        assert up["MANIFEST.json"]["missing"] == {}
        assert {part["name"] for part in up["MANIFEST.json"]["parts"]} == set(up) - {"MANIFEST.json", "README.txt"}
        assert up["doctor.json"]["checks"]
        assert "gateway_ready" in up["metrics.txt"]
        assert up["versions.json"]["packages"]["PyJWT"][0].isdigit()
        assert {each["name"]: each["source"] for each in up["settings.json"]}["node.data"] == "cli"
        assert {each["name"] for each in up["documents.json"]["data"]} == {"plant", "jobs", "traces"}
        assert up["documents.json"]["data"][0]["body"]["mqtt"]["passwordFile"]
        assert up["mqtt-bridges.json"]["data"][0]["name"] == "plant"
        for name in ("kitchen-7", "alice", "192.0.2.7", "svc-1"):
            assert name not in raw(out.read_bytes()), name

        open_out = tmp_path / "shown.tar.gz"
        await made(here, *words, "--no-redact", "--out", str(open_out))
        shown = raw(open_out.read_bytes())
        for name in ("kitchen-7", "alice", "192.0.2.7"):
            assert name in shown, name
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)

    down_out = tmp_path / "down.tar.gz"
    await made(here, "support-bundle", "--dev", "--out", str(down_out))
    down = opened(down_out.read_bytes())
    assert "no node runs" in down["MANIFEST.json"]["missing"]["node"]
    assert {each["name"] for each in down["documents.json"]["data"]} == {"plant", "jobs", "traces"}
    assert down["database.json"]["damage"] == ""
    assert down["database.json"]["rows"]["devices"] == 1
    assert down["audit.json"]["data"]
    assert {each["path"] for each in down["files.json"]} >= {"gateway.db", "identity/signing-key.pem"}
    for name in ("kitchen-7", "alice"):
        assert name not in raw(down_out.read_bytes()), name

    for path in (out, open_out, down_out):
        text = raw(path.read_bytes())
        for what, secret in {**secrets, "one in a log": JWT}.items():
            assert secret not in text, f"{path.name} has {what}"


async def test_of_a_directory_in_which_nothing_was(shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "none.tar.gz"
    await made(shell, "support-bundle", "--data", str(tmp_path / "data"), "--out", str(out))
    found = opened(out.read_bytes())
    assert found["doctor.json"]["checks"]
    assert found["versions.json"]["gateway"]
    assert "database" in found["MANIFEST.json"]["missing"]


async def test_a_place_that_cannot_be_written_is_one_clear_line(shell: Shell, tmp_path: Path) -> None:
    done = await shell.run("support-bundle", "--data", str(tmp_path), "--out", str(tmp_path / "no" / "x.tar.gz"))
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "No such file or directory" in done.err


def test_a_bundle_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 20_000
    monkeypatch.setattr(support_bundle, "MAX_PART_BYTES", most)
    monkeypatch.setattr(support_bundle, "MAX_BYTES", 10 * most)
    bundle = SupportBundle(Redaction(personal=True), {}, 1.0)
    bundle.add("many", {"data": [{"text": "x" * 100}] * 800, "meta": {}})
    bundle.add("one", {"text": "x" * (most + 1)})
    bundle.add_text("log", "first\n" + "x" * most + "last")
    for number in range(20):
        bundle.add_text(f"text-{number}", "y" * most)
    found = opened(bundle.archive())
    parts = {part["name"]: part for part in found["MANIFEST.json"]["parts"]}
    assert parts["many.json"]["cut"] == "the first 100 of 800"
    assert len(found["many.json"]["data"]) == 100
    assert parts["one.json"]["cut"] == "left out"
    assert found["log.txt"].endswith("last")
    assert len(found["log.txt"]) == most
    assert found["MANIFEST.json"]["missing"]["text-19"] == f"the archive may have {10 * most} bytes"
    assert sum(part["bytes"] for part in parts.values()) <= 10 * most


def test_of_a_log_the_end_is_taken_and_no_half_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    key = "-----BEGIN PRIVATE KEY-----\n" + "MHcCAQEE\n" * 20 + "-----END PRIVATE KEY-----\n"
    log.write_text(f"first\n{key}second\nthird\n")
    assert command._end_of(log).startswith("first")
    monkeypatch.setattr(command, "MAX_PART_BYTES", 80)
    assert command._end_of(log).split() == ["second", "third"]
    monkeypatch.setattr(command, "MAX_PART_BYTES", 10)
    assert command._end_of(log).split() == ["third"]
