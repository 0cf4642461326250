"""`gateway apply`, `get` and `delete` on a running node."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import RunningNode, Shell

ONE = "kind: Spool\nname: waiting\nmatch: [{service: historian}]\nmaxBytes: 1MiB\n"


async def test_apply_get_delete(node: RunningNode, shell: Shell, tmp_path: Path) -> None:
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    file = tmp_path / "spools.yaml"
    file.write_text(ONE)
    dry = await here.run("apply", "-f", str(file), "--dry-run")
    assert dry.out == b"Spool/waiting created (dry run: nothing was changed)\n", dry.err
    assert (await here.run("apply", "-f", str(file))).out == b"Spool/waiting created\n"
    assert (await here.run("apply", "-f", "-", stdin=ONE.encode())).out == b"Spool/waiting unchanged\n"
    listed = (await here.run("get", "spool")).out.decode().splitlines()
    assert listed[1].split()[:3] == ["Spool", "waiting", "1"]
    one = await here.run("get", "spool", "waiting")
    assert one.out.decode() == "kind: Spool\nname: waiting\nmatch:\n- service: historian\nmaxBytes: 1MiB\n"
    assert (await here.run("delete", "spool", "waiting", "--yes")).out == b"Spool/waiting deleted\n"
    gone = await here.run("get", "spool", "waiting")
    assert gone.code == 1
    assert "there is no document" in gone.err


async def test_what_is_wrong_is_said_with_file_and_line(shell: Shell, tmp_path: Path) -> None:
    """Without a node."""
    file = tmp_path / "spools.yaml"
    file.write_text(ONE + "maxAge: 0\n")
    result = await shell.run("apply", "-f", str(file))
    assert result.code == 1
    assert f"{file}:5:Spool/waiting:/maxAge: GW0112 maxAge is 0 (fix: maxAge: 7d)" in result.err
    assert (await shell.run("get", "fridge")).code == 2
