"""docs/operating.md, and every other page for operators: the commands that they give are those of the product.

What can be done on a node is done; what Compose has to do with it is in `tests/e2e`.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from gateway.cli.catalogue import COMMANDS, load
from gateway.config import Config
from tests.cli.conftest import GATEWAY, RunningNode, Shell, environment, until_ready
from tests.client.peer import free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text()
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "admin-reference.md"})


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """What stands behind `gateway` in each line of a shell's block, and in each code within a line."""
    lines = [line for language in ("sh", "ini") for block in blocks(text, language) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]*\bgateway [^`\n]*)`", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M))
    found = []
    for line in lines:
        words = re.split(r"\s+", line.partition(" #")[0].strip())
        for place, word in enumerate(words[:-1]):
            if (word == "gateway" or word.endswith("/bin/gateway")) and words[place + 1] in COMMANDS:
                until = next(
                    (n for n, w in enumerate(words) if n > place and w in ("|", "&&", ">", ";", "<")), len(words)
                )
                found.append(words[place + 1 : until])
                break
    return found


def unknown(words: list[str]) -> str | None:
    """What of a command is none of the product's."""
    command: Any = load(words[0])
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        # `device ls|show` and `device …` stand for several.
        name = rest[0].strip(",.;:")
        if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name):
            return None
        if name not in command.commands:
            return f"{words[0]} {name}"
        command, rest = command.commands[name], rest[1:]
    if hasattr(command, "commands"):
        return None
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    given = {word.partition("=")[0].rstrip(",.;:") for word in rest if re.match(r"--[a-z]", word)}
    return f"{' '.join(words)}: {sorted(given - known)}" if given - known else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_pages_exist(page: Path) -> None:
    assert [wrong for words in commands(page.read_text()) if (wrong := unknown(words))] == []


def test_there_are_commands_to_check() -> None:
    assert len(commands(PAGE)) > 30
    assert unknown(["backup", "make"]) == "backup make"
    assert unknown(["backup", "create", "--into", "/x"]) == "backup create --into /x: ['--into']"


def test_services_in_pages_are_those_of_compose() -> None:
    how = re.compile(r"docker compose (?:-\S+ \S+ )?exec (?:--no-TTY )?([a-z][a-z0-9-]*)")
    named = {name for page in PAGES for name in how.findall(page.read_text())}
    assert {"edge", "central-1"} <= named <= SERVICES.keys()


async def test_what_to_look_at(node: RunningNode, shell: Shell) -> None:
    """As printed, on a node that runs. `status` and `doctor` may have something to say."""
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    (block,) = [block for block in blocks(PAGE, "sh") if block.startswith("gateway status\n")]
    for line in block.splitlines():
        ended = await here.run(*shlex.split(line)[1:])
        assert ended.code in ((0, 3) if line in ("gateway status", "gateway doctor") else (0,)), (line, ended.err)
        assert ended.out, line


async def test_rotate_and_revoke(node: RunningNode, shell: Shell) -> None:
    """Each line but the one about another node, of which there is none here."""
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    assert (await here.run("device", "add", "kitchen")).code == 0
    assert (await here.run("user", "add", "anna", "--role", "viewer", "--scope", "all")).code == 0
    assert (await here.run("key", "create", "rotated", "--scope", "monitoring")).code == 0
    listed = yaml.safe_load((await here.run("key", "ls", "-o", "json")).out)
    entries = listed["data"] if isinstance(listed, dict) else listed
    (key,) = [entry["id"] for entry in entries if entry["name"] == "rotated"]
    (block,) = [block for block in blocks(PAGE, "sh") if block.startswith("gateway key rotate")]
    done = []
    for line in block.splitlines():
        words = [key if word == "KEY" else word for word in shlex.split(line, comments=True)[1:]]
        if words[0] != "peer":
            ended = await here.run(*words)
            # A node without TLS, as this one, has no certificate to renew.
            assert ended.code == 0 or words[:2] == ["cert", "renew"], (line, ended.err)
            done.append(words[0])
    assert done == ["key", "device", "user", "device", "device", "cert"]


async def test_devices_go_to_a_node_that_is_made_anew(node: RunningNode, shell: Shell) -> None:
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    assert (await here.run("device", "add", "moves", "--label", "room=2")).code == 0
    exported = (await here.run("device", "export")).out
    assert (await here.run("device", "rm", "moves", "--yes")).code == 0
    only = b"".join(line for line in exported.splitlines(keepends=True) if b'"moves"' in line)
    imported = await here.run("device", "import", "--yes", "-", stdin=only)
    assert imported.code == 0, imported.err
    assert b"room" in (await here.run("device", "show", "moves")).out
    assert (await here.run("device", "rm", "moves", "--yes")).code == 0


def test_the_hook_for_certbot(tmp_path: Path) -> None:
    """As printed, with a `docker` that runs the node's own command: the next connection sees the new certificate."""
    (hook,) = [block for block in blocks(PAGE, "sh") if "RENEWED_LINEAGE" in block]
    secrets, lineage, programs = tmp_path / "secrets", tmp_path / "live", tmp_path / "bin"
    for folder in (secrets, lineage, programs):
        folder.mkdir()
    authority = trustme.CA()
    before, after = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    before.cert_chain_pems[0].write_to_path(secrets / "fullchain.pem")
    before.private_key_pem.write_to_path(secrets / "privkey.pem")
    after.cert_chain_pems[0].write_to_path(lineage / "fullchain.pem")
    after.private_key_pem.write_to_path(lineage / "privkey.pem")
    port, data = free_port(), tmp_path / "data"
    environ = environment(
        tmp_path,
        GATEWAY__LISTEN__WEBSOCKET=f"127.0.0.1:{port}",
        GATEWAY__LISTEN__TCP="",
        GATEWAY__ADMIN__LISTEN="127.0.0.1:0",
        GATEWAY__TELEMETRY__LISTEN="127.0.0.1:0",
        GATEWAY__TLS__CERTIFICATE=str(secrets / "fullchain.pem"),
        GATEWAY__TLS__KEY=str(secrets / "privkey.pem"),
        GATEWAY_DATA=str(data),
    )
    shim = programs / "docker"
    shim.write_text(f'#!/bin/sh\nshift 5\nexec {shlex.join(GATEWAY)} "$@"\n')
    shim.chmod(0o755)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen((*GATEWAY, "run", "--data", data), env=environ, stdout=output, stderr=output)
    try:
        until_ready(process, data, log)
        old = ssl.get_server_certificate(("127.0.0.1", port))
        files = [path.stat().st_ino for path in sorted(secrets.iterdir())]
        subprocess.run(
            ["sh", "-c", hook.replace("/opt/gateway-compose", str(tmp_path))],
            env={**environ, "RENEWED_LINEAGE": str(lineage), "PATH": f"{programs}:{os.environ['PATH']}"},
            check=True,
            timeout=60,
        )
        deadline = time.monotonic() + 20
        while ssl.get_server_certificate(("127.0.0.1", port)) == old:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        assert [path.stat().st_ino for path in sorted(secrets.iterdir())] == files
    finally:
        process.terminate()
        process.wait(20)


def test_the_units_of_the_backup() -> None:
    read = []
    for block in blocks(PAGE, "ini"):
        # A name may stand there several times, as ExecStart does.
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(block)
        read.append(unit)
    service, timer = read
    assert service["Service"]["Type"] == "oneshot"
    assert re.fullmatch(r"\*-\*-\* \d\d:\d\d", timer["Timer"]["OnCalendar"])
    assert timer["Install"]["WantedBy"] == "timers.target"


def test_alerts_and_settings_that_are_named_exist() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    alerts = set(re.findall(r"`(Gateway[A-Z]\w+)`", PAGE))
    assert len(alerts) > 10
    assert {name for name in alerts if f"alert: {name}\n" not in rules} == set()
    sections = "|".join(Config.model_fields)
    settings = set(re.findall(rf"`((?:{sections})\.[a-z_]+)[` ]", PAGE))
    known = (ROOT / "docs" / "settings.md").read_text()
    assert len(settings) > 8
    assert {name for name in settings if f"| `{name}` |" not in known} == set()


def test_a_node_in_containers_is_four_commands() -> None:
    """The same four in README.md and in docs/deploy.md."""
    found = []
    for page in ("README.md", "docs/deploy.md"):
        text = (ROOT / page).read_text()
        (block,) = [block for block in blocks(text, "sh") if block.startswith("cp .env.example .env\n")]
        found.append([shlex.split(line, comments=True) for line in block.splitlines()])
    assert found[0] == found[1]
    assert len(found[0]) == 4
