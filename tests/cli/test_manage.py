"""Users, keys, settings, audit, backups and the rest of a running node, through its admin API."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import httpx

from gateway.cli.dashboard import has_screen
from gateway.problems import PROBLEMS
from tests.cli.conftest import RunningNode, Shell
from tests.cli.test_device import document, here

__all__ = ["here"]


async def test_users_and_keys(here: Shell, node: RunningNode) -> None:
    """A key from the command line opens the API elsewhere, for what it may; its text is not shown again."""
    added = await document(here, "user", "add", "carol", "--role", "admin", "--scope", "all")
    assert added["password"]
    assert added["user"]["must_change_password"]
    assert (await here.run("user", "disable", "carol", "--yes")).code == 0
    assert not (await document(here, "user", "show", "carol"))["enabled"]
    assert (await here.run("user", "enable", "carol")).code == 0
    changed = await document(here, "user", "reset-password", "carol", "--yes")
    assert changed["password"] != added["password"]
    none = await here.run("user", "add", "dave", "--role", "viewer")
    assert none.code == 2
    assert "--scope" in none.err
    key = (await here.run("key", "create", "ci", "--scope", "devices,monitoring", "--ttl", "1h")).out.decode().strip()
    assert key.startswith("gk_")
    (listed,) = [entry for entry in await document(here, "key", "ls") if entry["name"] == "ci"]
    assert key not in json.dumps(listed)
    admin = json.loads((node.data / "runtime.json").read_text())["admin"]
    elsewhere = here.with_environment(GATEWAY_ADMIN=admin, GATEWAY_API_KEY=key)
    del elsewhere.environ["GATEWAY_DATA"]
    assert (await document(elsewhere, "context", "validate"))["role"] == "viewer"
    assert (await elsewhere.run("device", "ls")).code == 0
    refused = await elsewhere.run("device", "add", "by-key")
    assert refused.code == 1
    assert "gateway explain forbidden" in refused.err
    rotated = (await here.run("key", "rotate", listed["id"], "--yes")).out.decode().strip()
    assert (await elsewhere.run("device", "ls")).code == 1
    assert (await elsewhere.with_environment(GATEWAY_API_KEY=rotated).run("device", "ls")).code == 0
    assert (await here.run("key", "rm", listed["id"], "--yes")).code == 0
    assert (await elsewhere.with_environment(GATEWAY_API_KEY=rotated).run("device", "ls")).code == 1
    assert (await here.run("user", "rm", "carol", "--yes")).code == 0


async def test_a_link_that_logs_in(here: Shell, node: RunningNode) -> None:
    """It is one of the node's admin API, and its code gets tokens; who has only a key gets the address."""
    await document(here, "user", "add", "linked", "--role", "admin", "--scope", "all")
    printed = (await here.run("dashboard", "--print", "--user", "linked")).out.decode().strip()
    admin = json.loads((node.data / "runtime.json").read_text())["admin"]
    url, _, code = printed.partition("/#/login?code=")
    assert url == admin
    async with httpx.AsyncClient(base_url=url, trust_env=False) as browser:
        answer = await browser.post("/api/v1/auth/login", json={"code": code})
    assert answer.json()["user"]["name"] == "linked"
    elsewhere = here.with_environment(GATEWAY_ADMIN=admin, GATEWAY_API_KEY="gk_none")
    del elsewhere.environ["GATEWAY_DATA"]
    told = await elsewhere.run("dashboard", "--print")
    assert (told.code, told.out.decode()) == (0, f"{admin}/\n")
    assert "log in with a name" in told.err
    assert (await here.run("user", "rm", "linked", "--yes")).code == 0


def test_a_browser_is_opened_where_somebody_sees_it() -> None:
    assert has_screen({"DISPLAY": ":0"}, "linux")
    assert has_screen({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert not has_screen({}, "linux")
    assert has_screen({}, "darwin")
    assert not has_screen({"SSH_CONNECTION": "1"}, "darwin")


async def test_settings(here: Shell) -> None:
    """Values with where they come from; a change, its history, and the way back; the environment's stay."""
    shown = {entry["name"]: entry for entry in await document(here, "config", "show", "--sources")}
    assert shown["listen.websocket"]["source"] == "env"
    assert shown["listen.websocket"]["locked"]
    assert (await here.run("config", "get", "limits.drain_grace_s")).out == b"10.0\n"
    tried = await here.run("config", "set", "limits.drain_grace_s", "3", "--dry-run")
    assert tried.code == 0, tried.err
    assert (await here.run("config", "get", "limits.drain_grace_s")).out == b"10.0\n"
    first = await document(here, "config", "set", "limits.drain_grace_s", "3")
    assert (await here.run("config", "get", "limits.drain_grace_s")).out == b"3.0\n"
    assert (await here.run("config", "set", "limits.drain_grace_s", "4")).code == 0
    assert "drain_grace_s" in (await here.run("config", "diff", str(first["revision"]))).out.decode()
    assert (await here.run("config", "rollback", str(first["revision"]), "--yes")).code == 0
    assert (await here.run("config", "get", "limits.drain_grace_s")).out == b"3.0\n"
    assert len(await document(here, "config", "history")) >= 3
    assert (await here.run("config", "unset", "limits.drain_grace_s")).code == 0
    assert (await here.run("config", "get", "limits.drain_grace_s")).out == b"10.0\n"
    locked = await here.run("config", "set", "listen.websocket", "127.0.0.1:1")
    assert locked.code == 1
    assert "gateway explain" in locked.err
    wrong = await here.run("config", "set", "limits.drain_grace_s", "soon")
    assert wrong.code == 1
    unknown = await here.run("config", "get", "limits.drain_grace")
    assert unknown.err == "gateway: limits.drain_grace is not a setting; did you mean limits.drain_grace_s?\n"
    assert "properties" in json.loads((await here.run("config", "schema")).out)


async def test_validate_a_file(here: Shell, tmp_path: Path) -> None:
    good = await here.run("config", "validate", "-", stdin=b"[limits]\ndrain_grace_s = 3\n")
    assert good.code == 0, good.err
    bad = await here.run("config", "validate", "-", stdin=b"[limits]\ndrain_grace = 3\n")
    assert bad.code == 1
    assert "drain_grace" in bad.err


async def test_status_audit_events(here: Shell) -> None:
    status = await here.run("status")
    assert status.code == 0, status.out
    assert b"state         ready" in status.out
    assert (await document(here, "status"))["state"] == "ready"
    await here.run("device", "add", "audited", "--env")
    (entry,) = await document(here, "audit", "--object", "device:audited", "--action", "device.create")
    assert (entry["actor_type"], entry["outcome"]) == ("cli", "ok")
    assert (await document(here, "audit", "--verify"))["ok"]
    exported = (await here.run("audit", "--export", "jsonl", "--object", "device:audited")).out.splitlines()
    assert json.loads(exported[0])["object"] == "device:audited"
    assert (await here.run("logs", "level", "info")).code == 0
    assert (await here.run("reload")).code == 0
    events = await document(here, "events")
    assert any(event["kind"] == "node.reloaded" for event in events)
    assert any((event["kind"], event["subject"]) == ("device.created", "audited") for event in events)
    top = (await here.run("top", "--count", "1")).out.decode()
    assert top.startswith("up ")
    assert b"gateway" in (await here.run("service", "ls")).out
    assert (await here.run("service", "health", "gateway")).out == b"no document governs gateway\n"
    assert (await here.run("service", "reset", "gateway", "--instance", "0" * 32)).out == b"0 back\n"


async def test_only_the_newest_backups_are_kept(here: Shell, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.tar").write_bytes(b"not of the node")
    made = [await document(here, "backup", "create", "--to", str(elsewhere), "--keep", "2") for _ in range(3)]
    kept = [each["id"] for each in made[1:]]
    assert sorted(entry["id"] for entry in await document(here, "backup", "ls")) == kept
    assert sorted(path.name for path in elsewhere.iterdir()) == [*kept, "mine.tar"]


async def test_backup_and_restore(here: Shell, tmp_path: Path) -> None:
    """A copy elsewhere, for its owner alone; it is verified, and restored into an empty directory."""
    await here.run("device", "add", "kept", "--env")
    made = await document(here, "backup", "create", "--to", str(tmp_path / "elsewhere"))
    (file,) = sorted((tmp_path / "elsewhere").iterdir())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_size == made["bytes"]
    assert made["id"] in {entry["id"] for entry in await document(here, "backup", "ls")}
    checked = await document(here, "backup", "verify", str(file))
    assert checked["ok"]
    data = tmp_path / "restored"
    tried = await here.run("backup", "restore", str(file), "--data", str(data), "--dry-run")
    assert tried.code == 0, tried.err
    assert not data.exists()
    restored = await here.run("backup", "restore", str(file), "--data", str(data), "--yes")
    assert restored.code == 0, restored.err
    whole = await document(here, "db", "check", "--data", str(data))
    assert whole["damage"] is None
    assert (await here.run("db", "migrate", "--data", str(data), "--yes")).code == 0
    assert (await here.run("db", "vacuum", "--data", str(data), "--yes")).code == 0
    reset = await document(here, "user", "reset-password", "admin", "--offline", "--data", str(data), "--yes")
    assert reset["password"]
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(file.read_bytes()[:5000])
    assert (await here.run("backup", "verify", str(damaged))).code == 1
    refused = await here.run("backup", "restore", str(damaged), "--data", str(data), "--yes")
    assert refused.code == 1
    assert "cannot be restored" in refused.err


async def test_offline_is_for_a_node_that_is_stopped(here: Shell, node: RunningNode) -> None:
    """Exit code 1, and who has the directory."""
    for command in (
        ("user", "reset-password", "admin", "--offline", "--yes"),
        ("db", "check"),
        ("db", "vacuum", "--yes"),
    ):
        refused = await here.run(*command, "--data", str(node.data))
        assert refused.code == 1, command
        assert "is in use by another process" in refused.err


async def test_certificates(here: Shell, node: RunningNode) -> None:
    shown = {entry["name"]: entry for entry in await document(here, "cert", "show")}
    assert "localhost" in shown["listener"]["names"]
    assert (await here.run("cert", "renew", "--yes")).code == 0
    renewed = {entry["name"]: entry for entry in await document(here, "cert", "show")}
    assert renewed["listener"]["serial"] != shown["listener"]["serial"]
    pem = (await here.run("ca", "export")).out
    assert pem == (node.data / "identity" / "ca.pem").read_bytes()
    assert (await here.run("ca", "export", "--der")).out == (node.data / "identity" / "ca.der").read_bytes()
    fingerprint = (await here.run("ca", "fingerprint")).out.decode().strip()
    assert fingerprint.replace(":", "").lower() == shown["ca"]["fingerprint_sha256"]


async def test_explain_problems(here: Shell) -> None:
    for slug, kind in PROBLEMS.items():
        explained = (await here.run("explain", slug)).out.decode()
        assert kind.title in explained
        assert kind.remedy in explained


async def test_drain_and_undrain(here: Shell) -> None:
    """A node that drains is not ready, and lets nobody in until it is told to."""
    assert (await here.run("drain", "--stay", "--yes")).code == 0
    draining = await here.run("status")
    assert draining.code == 3
    assert b"draining" in draining.out
    assert (await here.run("undrain")).code == 0
    assert (await here.run("status")).code == 0
