"""docs/cli.md: its examples run as printed, and every command and option is in it."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

from gateway.cli import program
from tests.cli.conftest import RunningNode, Shell

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
EXAMPLES = [
    (command, expected)
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for command, expected in re.findall(r"^\$ gateway (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]
COMMON = {"--help", "--install-completion", "--show-completion"}


async def test_examples(node: RunningNode, shell: Shell, tmp_path: Path) -> None:
    """`…` in what is printed stands for anything."""
    assert len(EXAMPLES) == 9
    here = shell.with_environment(GATEWAY_URL=node.url, GATEWAY_DATA=str(node.data))
    fleet = await here.start("simulate", "--devices", "1", "--interval", "50ms")
    assert fleet.stdout is not None
    await asyncio.wait_for(fleet.stdout.readline(), 20)
    for command, expected in EXAMPLES:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.cli",
            *shlex.split(command),
            env=here.environ,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        pattern = re.escape(expected).replace("…", ".*")
        assert re.fullmatch(pattern, out.decode(), re.DOTALL), f"gateway {command} printed {out.decode()}"
        assert process.returncode == (1 if "REJECTED" in expected else 0)


def commands(within: str | None = None) -> dict[str, set[str]]:
    group = typer.main.get_command(program())
    if within is not None:
        group = group.commands[within]  # type: ignore[attr-defined]
    return {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_documented(name: str) -> None:
    assert f"gateway {name}" in PAGE or f"`{name}`" in PAGE


def test_options_in_the_page_exist() -> None:
    known = set().union(*commands().values(), *commands("bench").values())
    assert set(re.findall(r"--[a-z]+", PAGE)) <= known | COMMON


def test_every_talking_option_is_documented() -> None:
    table = commands()
    for name in ("request", "stream", "fnf", "channel", "routes", "token", "run", "init", "version"):
        missing = {option for option in table[name] if option not in PAGE} - COMMON
        assert missing <= {"--output", "--groups", "--label", "--audience"}, name
