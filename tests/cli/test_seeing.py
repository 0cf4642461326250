"""Commands that show what governance does, each with its defaults on a node on which nothing has happened yet."""

from __future__ import annotations

import pytest

from tests.cli.conftest import RunningNode, Shell


@pytest.mark.parametrize(
    "command",
    [
        ("graph",),
        ("graph", "--routes", "--window", "10"),
        ("graph", "--dot"),
        ("flow", "list"),
        ("flow", "list", "--verdict", "DROPPED", "--since", "1h"),
        ("bundle", "ls"),
        ("bundle", "status"),
        ("document", "ls"),
        ("document", "kinds"),
        ("get", "access"),
        ("get", "services"),
        ("policy", "check", "--as", "sensor-1", "thermostat.set"),
        ("policy", "draft"),
    ],
    ids=" ".join,
)
async def test_it_answers(node: RunningNode, shell: Shell, command: tuple[str, ...]) -> None:
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    result = await here.run(*command)
    assert result.code == 0, result.err
