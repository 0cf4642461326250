"""`gateway token`: what is printed, what is in it, what is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.control.identity import Identity
from gateway.policy.principal import Kind, Principal
from gateway.policy.tokens import AUDIENCE, TokenVerifier
from tests.cli.conftest import RunningNode, Shell


def verified(data: Path, token: str, audience: str = AUDIENCE) -> Principal:
    return TokenVerifier(Identity.open(data).verification_keys(), audience=audience).verify(token, time.time())


async def test_prints_the_token_and_nothing_else(shell: Shell, tmp_path: Path) -> None:
    """The first use makes the identity that a node started later in the same directory has."""
    data = tmp_path / "data"
    result = await shell.run(
        "token", "--data", str(data), "--subject", "bench", "--kind", "service", "--services", "bench", "--routes", "*",
        "--ttl", "1h",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    assert result.out.count(b"\n") == 1
    principal = verified(data, result.out.decode().strip())
    assert (principal.subject, principal.kind) == ("bench", Kind.SERVICE)
    assert (principal.services, principal.routes) == (("bench",), ("*",))
    assert principal.expires_at - principal.issued_at == 3600


async def test_lists_groups_labels_and_audience(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = await shell.run(
        "token", "--data", str(data), "--subject", "t-1", "--kind", "device", "--services", "{sub},{sub}.ota",
        "--services", "extra", "--routes", "telemetry.*", "--ttl", "90", "--groups", "lab,roof", "--label", "floor=3",
        "--audience", "plant",
    )  # fmt: skip
    assert result.code == 0, result.err
    principal = verified(data, result.out.decode().strip(), "plant")
    assert principal.kind is Kind.DEVICE
    assert principal.services == ("{sub}", "{sub}.ota", "extra")
    assert (principal.groups, principal.labels) == (("lab", "roof"), (("floor", "3"),))
    assert principal.expires_at - principal.issued_at == 90


async def test_works_with_the_node_up(node: RunningNode, shell: Shell) -> None:
    result = await shell.run("token", "--data", str(node.data), "--subject", "x", "--routes", "*")
    assert verified(node.data, result.out.decode().strip()).subject == "x"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--subject", "no spaces"), 1),
        (("--subject", "x", "--kind", "king"), 1),
        (("--subject", "x", "--ttl", "2d"), 1),
        (("--subject", "x", "--ttl", "soon"), 2),
        (("--subject", "x", "--label", "floor"), 2),
        ((), 2),
    ],
)
async def test_what_cannot_be_minted(shell: Shell, tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    result = await shell.run("token", "--data", str(tmp_path / "data"), *arguments)
    assert (result.code, result.out) == (code, b"")
    assert result.err
    assert "Traceback" not in result.err
