"""`gateway apply`, `get` and `delete` on a running node."""

from __future__ import annotations

import json
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
    everything = (await here.run("document", "ls")).out.decode().splitlines()
    assert [line.split()[:2] for line in everything[1:]] == [["Spool", "waiting"]]
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


async def test_files_are_checked_together_without_a_node(shell: Shell, tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("kind: Service\nname: a\nroutes:\n  - to: [{subset: canary}]\n")
    two.write_text("kind: Service\nname: b\nhosts: [a]\n")
    result = await shell.run("document", "check", str(one), str(two))
    assert result.code == 1
    assert f"{one}:4:Service/a:/routes/0/to/0/subset: GW0131 there is no subset 'canary'" in result.err
    assert f"{two}:3:Service/b:/hosts/0: GW0134 Service/a holds for a" in result.err
    rows = json.loads((await shell.run("document", "check", str(one), "-o", "json")).out)
    assert [(row["file"], row["line"], row["code"], row["warning"]) for row in rows] == [(str(one), 4, "GW0131", False)]
    fine = await shell.run("document", "check", "-", stdin=b"{kind: Service, name: a, subsets: {all: {}}}")
    assert (fine.code, fine.out) == (0, b"1 document, nothing wrong\n")
    assert "warning: -:1:Service/a:/subsets/all: GW0146" in fine.err
    assert (await shell.run("document", "check", str(tmp_path / "none.yaml"))).code == 2


async def test_what_documents_can_say(shell: Shell) -> None:
    kinds = (await shell.run("document", "kinds")).out.decode()
    assert [line.split()[0] for line in kinds.splitlines()[1:]] == ["Access", "Bridge", "Service", "Spool", "Telemetry"]
    retries = (await shell.run("document", "explain", "service.routes.retries")).out.decode().splitlines()
    assert retries[0].startswith("service.routes.retries: What is tried again.")
    assert "backoff        time or 0" in "\n".join(retries)
    one = json.loads((await shell.run("document", "explain", "spools.maxBytes", "-o", "json")).out or "[]")
    assert one == []
    assert (await shell.run("document", "explain", "spools.maxBytes")).out == b"spools.maxBytes: For each service.\n"
    wrong = await shell.run("document", "explain", "service.routs")
    assert (wrong.code, "there is no 'routs'" in wrong.err) == (2, True)
    assert (await shell.run("document", "explain", "fridge")).code == 2
    assert json.loads((await shell.run("document", "schema")).out)["properties"]["kind"]["enum"][0] == "Access"
    assert (
        "Service" in json.loads((await shell.run("document", "schema", "service")).out)["properties"]["kind"]["const"]
    )
    assert (await shell.run("document", "schema", "fridge")).code == 2
    assert b"does not have" in (await shell.run("explain", "gw0131")).out
