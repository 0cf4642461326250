"""docs/cli.md: its examples run as printed, and every command and option is in it."""

from __future__ import annotations

import asyncio
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.catalogue import COMMANDS, load
from tests.cli.conftest import RunningNode, Shell

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
EXAMPLES = [
    (command, expected)
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for command, expected in re.findall(r"^\$ gateway (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]
COMMON = {"--help", "--install-completion", "--show-completion"}


async def test_examples(node: RunningNode, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`…` in what is printed stands for anything."""
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLES) == 11
    here = shell.with_environment(GATEWAY_URL=node.url, GATEWAY_DATA=str(node.data))
    fleet = await here.start("simulate", "--devices", "1", "--interval", "50ms")
    assert fleet.stdout is not None
    await asyncio.wait_for(fleet.stdout.readline(), 20)
    for command, expected in EXAMPLES:
        result = await here.run(*shlex.split(command))
        pattern = re.escape(expected).replace("…", ".*")
        printed = result.out.decode() + result.err
        assert re.fullmatch(pattern, printed, re.DOTALL), f"gateway {command} printed {printed}"
        assert result.code == (1 if "REJECTED" in expected else 0)


def commands() -> dict[str, Any]:
    """Every command by the words that call it: `token`, `bench rr`."""
    found = {}
    for name in COMMANDS:
        command = load(name)
        if hasattr(command, "commands"):
            found |= {f"{name} {inner}": leaf for inner, leaf in command.commands.items()}
        else:
            found[name] = command
    return found


def options(command: Any) -> set[str]:
    """Those of a command; of a group, those of all that is in it."""
    if hasattr(command, "commands"):
        return set().union(*map(options, command.commands.values()))
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_they_say(name: str) -> None:
    said = inspect.cleandoc(load(name).help).partition("\n\n")[0].replace("\n", " ")
    assert said.startswith(COMMANDS[name][1].rstrip("."))


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_documented(name: str) -> None:
    assert re.search(rf"(gateway |`){name}\b", PAGE)


def test_options_in_the_page_exist() -> None:
    known = set().union(*map(options, commands().values()))
    assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", PAGE)) <= known | COMMON


def test_every_talking_option_is_documented() -> None:
    table = commands()
    for name in ("request", "stream", "fnf", "channel", "routes", "token", "run", "init", "version"):
        missing = {option for option in options(table[name]) if option not in PAGE} - COMMON
        assert missing <= {"--output", "--groups", "--label", "--audience"}, name
