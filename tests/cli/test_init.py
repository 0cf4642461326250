"""`gateway init --bootstrap FILE`: a node set up by a file, wholly or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.control.plane import ControlPlane
from tests.cli.conftest import Shell

GOOD = """\
[[users]]
name = "alice"
role = "admin"
scopes = ["users", "devices"]

[[devices]]
id = "kitchen"
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "bootstrap.toml", GOOD)


async def test_sets_up_a_node_and_may_be_applied_again(shell: Shell, file: Path, tmp_path: Path) -> None:
    """The generated password logs in, and is not there a second time."""
    data = tmp_path / "data"
    arguments = ("init", "--data", str(data), "--bootstrap", str(file), "--non-interactive", "-o", "json")
    first = await shell.run(*arguments)
    assert first.code == 0, first.err
    document = json.loads(first.out)
    alice, kitchen = document["bootstrap"]
    assert (alice["name"], alice["result"], kitchen["result"]) == ("alice", "created", "created")
    async with await ControlPlane.offline(data) as control:
        assert await control.users.verify("alice", alice["secret"]) is not None
        assert (await control.devices.get("kitchen")).id == "kitchen"
        assert control.identity.node_id == document["node"]
    again = json.loads((await shell.run(*arguments)).out)
    assert [(each["result"], each["secret"]) for each in again["bootstrap"]] == [("unchanged", "")] * 2
    text = await shell.run(*arguments[:-2])
    assert "alice    unchanged" in text.out.decode()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("[[devices]]\nid = 'a'\nlabel = {}\n", "3: devices: label is not a field; did you mean labels?"),
        ("[[devices]]\nid = 'not one'\n", "2: devices.not one.id: "),
    ],
)
async def test_a_mistake_leaves_nothing(shell: Shell, file: Path, tmp_path: Path, wrong: str, says: str) -> None:
    rewritten = written(tmp_path / "wrong.toml", wrong)
    result = await shell.run("init", "--data", str(tmp_path / "data"), "--bootstrap", str(rewritten))
    assert result.code == 1
    assert result.err.startswith(f"gateway: {rewritten}:{says}")
    assert not (tmp_path / "data").exists()
