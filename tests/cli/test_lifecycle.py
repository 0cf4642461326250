"""`gateway init`, `run`, `version`."""

from __future__ import annotations

import json
from pathlib import Path

from gateway import __version__
from gateway.cli.data_directory import data_directory, default_directory
from gateway.control.identity import Identity
from tests.cli.conftest import Shell


async def test_init_makes_an_identity_once(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = await shell.run("init", "--data", str(data), "-o", "json")
    assert first.code == 0, first.err
    made = json.loads(first.out)
    assert made["node"] == Identity.open(data).node_id
    assert Path(made["authority"]) == Identity.open(data).ca_path
    again = await shell.run("init", "--data", str(data))
    assert made["node"] in again.out.decode()


async def test_run_checks_settings(shell: Shell, tmp_path: Path) -> None:
    good = await shell.run("run", "--check", "--dev", "--data", str(tmp_path / "data"))
    assert (good.code, good.out) == (0, b"settings are good\n")
    wrong = shell.with_environment(GATEWAY__LISTEN__WEBSOKET="x")
    bad = await wrong.run("run", "--check", "--dev", "--data", str(tmp_path / "data"))
    assert bad.code == 1
    assert "did you mean GATEWAY__LISTEN__WEBSOCKET" in bad.err
    missing = await shell.run("run", "--config", str(tmp_path / "none.toml"))
    assert missing.code == 1
    assert "does not exist" in missing.err


async def test_data_directory_of_the_settings_file_stands(shell: Shell, tmp_path: Path) -> None:
    """--data, then the environment, then the file, then the default directory."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"[node]\ndata = '{tmp_path / 'of-file'}'\n")
    for environ, arguments, expected in (
        ({}, ("--config", str(file)), tmp_path / "of-file"),
        (
            {"GATEWAY__NODE__DATA": str(tmp_path / "of-environment")},
            ("--config", str(file)),
            tmp_path / "of-environment",
        ),
        ({}, ("--config", str(file), "--data", str(tmp_path / "of-option")), tmp_path / "of-option"),
        ({"GATEWAY_DATA": str(tmp_path / "of-variable")}, (), tmp_path / "of-variable"),
    ):
        made = await shell.with_environment(**environ).run("init", "-o", "json", *arguments)
        assert json.loads(made.out)["data"] == str(expected), made.err


async def test_run_says_what_is_in_the_way(shell: Shell, tmp_path: Path) -> None:
    """A directory that others can write is refused with what to do, and no traceback."""
    data = tmp_path / "open"
    data.mkdir()
    data.chmod(0o777)
    result = await shell.spawn("run", "--dev", "--data", str(data))
    assert result.code == 1
    assert "chmod 700" in result.err
    assert "Traceback" not in result.err


async def test_version(shell: Shell) -> None:
    text = (await shell.run("version")).out.decode()
    assert f"gateway   {__version__}" in text
    facts = json.loads((await shell.run("version", "-o", "json")).out)
    assert facts["version"] == __version__
    assert facts["python"].startswith("CPython 3.")
    assert facts["hot_path"] in ("compiled", "pure Python")
    assert facts["loop"] in ("uvloop", "asyncio")


async def test_help_and_usage(shell: Shell) -> None:
    result = await shell.spawn("--help")
    assert result.code == 0
    commands = (
        "init", "run", "version", "token", "request", "stream", "fnf", "channel", "routes", "simulate", "demo"
    )  # fmt: skip
    for command in commands:
        assert f"\n  {command} " in result.out.decode()
    assert (await shell.run("nonsense")).code == 2
    assert (await shell.run("request")).code == 2


def test_data_directory(tmp_path: Path) -> None:
    """--data, GATEWAY_DATA, the node's own setting, /var/lib/gateway where usable, then the user's."""
    home = {"XDG_DATA_HOME": str(tmp_path / "share")}
    named = {"GATEWAY_DATA": "/a", "GATEWAY__NODE__DATA": "/b"}
    assert data_directory(Path("x"), named) == Path("x")
    assert data_directory(None, named) == Path("/a")
    assert data_directory(None, {"GATEWAY__NODE__DATA": "/b"}) == Path("/b")
    assert default_directory(home, tmp_path / "absent") == tmp_path / "share" / "gateway"
    assert default_directory({}, tmp_path / "absent") == Path.home() / ".local" / "share" / "gateway"
    assert default_directory(home, tmp_path) == tmp_path
