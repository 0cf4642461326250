"""`gateway context`, and which node a command means."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from gateway.cli.contexts import Context, Contexts, contexts_path, settled
from gateway.control.identity import Identity
from gateway.errors import ConfigError
from tests.cli.conftest import Shell


async def test_add_select_forget(shell: Shell, tmp_path: Path) -> None:
    """Keys come from standard input, a file or the environment; a listing shows where a key begins and no more."""
    added = await shell.run(
        "context", "add", "plant", "https://gw.example.org:9878/", "--key", "-", stdin=b"gk_1_secret\n"
    )
    assert (added.code, added.err) == (0, "")
    (tmp_path / "key").write_text("gk_2_secret")
    await shell.run("context", "add", "lab", "http://127.0.0.1:9878", "--key", f"@{tmp_path / 'key'}")
    listed = json.loads((await shell.run("context", "ls", "-o", "json")).out)
    assert [(entry["name"], entry["selected"], entry["admin"]) for entry in listed] == [
        ("lab", False, "http://127.0.0.1:9878"),
        ("plant", True, "https://gw.example.org:9878"),
    ]
    assert "secret" not in (await shell.run("context", "ls", "-o", "wide")).out.decode()
    assert (await shell.run("context", "select", "lab")).code == 0
    file = contexts_path({"XDG_CONFIG_HOME": str(tmp_path / "home" / ".config")})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Contexts(file).selected == "lab"
    assert (await shell.run("context", "rm", "lab")).code == 0
    assert Contexts(file).selected is None
    unknown = await shell.run("context", "select", "lab")
    assert (unknown.code, unknown.err) == (1, "gateway: there is no context 'lab'; there are: plant\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("x", "gw.example.org:9878", "--key", "k"),
        ("x", "ftp://gw.example.org", "--key", "k"),
        ("no blanks", "https://gw.example.org", "--key", "k"),
        ("x", "https://gw.example.org"),
        ("x",),
        ("x", "https://gw.example.org", "--key", "k", "--data", "."),
    ],
)
async def test_what_is_no_context(shell: Shell, arguments: tuple[str, ...]) -> None:
    result = await shell.run("context", "add", *arguments)
    assert result.code in (1, 2)
    assert "Traceback" not in result.err


def test_which_node_is_meant(tmp_path: Path) -> None:
    """--context, --data, GATEWAY_CONTEXT, GATEWAY_ADMIN, GATEWAY_DATA, the selected one, the default directory."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "share")}
    here, there = tmp_path / "here", tmp_path / "share" / "gateway"
    Identity.open(here)
    with pytest.raises(ConfigError, match="gateway context add"):
        settled(None, None, environ)
    Identity.open(there)
    assert settled(None, None, environ).data == there
    contexts = Contexts(contexts_path(environ))
    contexts.add(Context("a", "https://a.example.org", "ka"))
    contexts.add(Context("b", "https://b.example.org", "kb"))
    contexts.save()
    assert settled(None, None, environ).name == "a"
    environ["GATEWAY_DATA"] = str(here)
    assert settled(None, None, environ).data == here
    environ |= {"GATEWAY_ADMIN": "https://c.example.org", "GATEWAY_API_KEY": "kc"}
    assert settled(None, None, environ) == Context("environment", "https://c.example.org", "kc")
    environ["GATEWAY_CONTEXT"] = "b"
    assert settled(None, None, environ).key == "kb"
    assert settled(None, here, environ).data == here
    assert settled("a", here, environ).key == "ka"
    with pytest.raises(ConfigError, match="no data directory of a node"):
        settled(None, tmp_path, environ)


@pytest.mark.parametrize("content", ["", "[]", '{"selected": null}', '{"selected": 1, "contexts": {"a": 2}}'])
def test_a_file_that_is_damaged(tmp_path: Path, content: str) -> None:
    file = tmp_path / "contexts.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match="move it away"):
        Contexts(file)


def test_keys_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "contexts.json"
    contexts = Contexts(file)
    contexts.add(Context("a", "https://a.example.org", "ka"))
    contexts.save()
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Contexts(file)


async def test_a_node_that_does_not_run(shell: Shell, tmp_path: Path) -> None:
    """Exit code 4, and how to start it."""
    Identity.open(tmp_path / "data")
    added = await shell.run("context", "add", "here", "--data", str(tmp_path / "data"))
    assert added.code == 0
    result = await shell.run("context", "validate")
    assert result.code == 4
    assert result.err == (
        f"gateway: no node runs on {tmp_path / 'data'}; start one with: gateway run --data {tmp_path / 'data'}\n"
    )
    await shell.run("context", "add", "gone", "http://127.0.0.1:9", "--key", "k")
    result = await shell.run("context", "validate", "--context", "gone")
    assert result.code == 4
    assert result.err.startswith("gateway: http://127.0.0.1:9: ")


async def test_completion(shell: Shell) -> None:
    """The script, and what it asks for: commands, those of a group, options."""
    script = (await shell.run("completion", "bash")).out.decode()
    assert "_GATEWAY_COMPLETE=complete_bash" in script
    for line, expected in (
        ("gateway doct", "doctor"),
        ("gateway context sel", "select"),
        ("gateway request --tok", "--token"),
    ):
        asked = shell.with_environment(
            _GATEWAY_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1)
        )
        assert (await asked.run()).out.decode().split() == [expected]
    assert os.environ.get("_GATEWAY_COMPLETE") is None
