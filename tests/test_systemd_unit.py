"""`deploy/gateway.service`: systemd takes it, its commands are the product's, and it may do no more than it needs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "deploy" / "gateway.service"
PROGRAM, SETTINGS = "/opt/gateway/bin/gateway", "/etc/gateway/gateway.toml"
#: In tenths of what `systemd-analyze security` says: 0 is confined, 100 is not. A unit without confinement has 92.
MOST_EXPOSED = 20

installed = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def values() -> dict[str, list[str]]:
    """Every assignment of [Service]; systemd lets a name occur more than once."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert name.isalpha(), line
            if section == "[Service]":
                found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def unit(tmp_path: Path) -> str:
    """The unit with a program that this machine has."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    return str(path)


@pytest.mark.parametrize(("name", "option"), [("ExecStart", "--check"), ("ExecReload", "--help")])
def test_its_commands_are_those_of_the_product(name: str, option: str, tmp_path: Path) -> None:
    (line,) = values()[name]
    program, *arguments = shlex.split(line)
    assert program == PROGRAM
    settings = str(ROOT / "deploy" / "gateway.toml")
    command = [settings if argument == SETTINGS else argument for argument in arguments]
    environ = {"GATEWAY__NODE__DATA": str(tmp_path), "HOME": str(tmp_path), "PATH": ""}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *command, option],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_it_has_what_confines_the_container_too() -> None:
    """A user of its own, no capability, no new privilege, a file system that is read-only but for the data."""
    found = values()
    assert found["User"] == ["gateway"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["ProtectSystem"] == ["strict"]
    assert found["StateDirectory"] == ["gateway"]
    assert found["StateDirectoryMode"] == ["0700"]
    assert found["LimitCORE"] == ["0"]


@installed
def test_systemd_takes_it(unit: str) -> None:
    """What it says of other units of this machine is not ours."""
    verified = analyze("verify", "--man=no", unit)
    assert [line for line in verified.stderr.splitlines() if UNIT.name in line] == []


@installed
def test_systemd_calls_it_confined(unit: str) -> None:
    if "--offline" not in analyze("--help").stdout:
        pytest.skip("systemd-analyze older than 250")
    judged = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit)
    assert judged.returncode == 0, judged.stdout
