"""`gateway policy`, with a node and without."""

from __future__ import annotations

import json
from pathlib import Path

from tests.admin.test_policy import DOCUMENTS
from tests.cli.conftest import RunningNode, Shell

RECORD = {
    "verdict": "FORWARDED",
    "source": {"id": "d1", "groups": []},
    "destination": {"service": "thermostat"},
    "interaction": "requestStream",
    "route": "thermostat.get",
}


async def test_a_running_node_is_asked(node: RunningNode, shell: Shell, tmp_path: Path) -> None:
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    file = tmp_path / "access.yaml"
    file.write_text(DOCUMENTS)
    assert (await here.run("apply", "-f", str(file))).code == 0
    refused = await here.run("policy", "check", "thermostat/set.target", "--as", "d1")
    assert refused.code == 1
    assert refused.out.decode().splitlines()[0] == "refused by Access/ops-only: rule 0 of it fits"
    allowed = await here.run("policy", "check", "thermostat/get", "--as", "d1", "--groups", "staff", "-o", "json")
    assert json.loads(allowed.out)["policy"] == "readers"


async def test_a_file_is_asked_without_a_node(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "access.yaml"
    file.write_text(DOCUMENTS)
    refused = await shell.run("policy", "check", "thermostat/set.target", "--as", "d1", "-f", str(file))
    assert refused.code == 1
    assert refused.out.decode().splitlines()[:2] == [
        "refused by Access/ops-only: rule 0 of it fits",
        "  DENY ops-only rule 0: fits",
    ]
    asked = ("policy", "check", "cmd/1", "--as", "d1", "--groups", "ops", "--interaction", "publish", "-f", str(file))
    assert (await shell.run(*asked)).code == 0
    file.write_text("kind: Access\nname: a\naction: DENY\n")
    wrong = await shell.run("policy", "check", "x", "--as", "d1", "-f", str(file))
    assert wrong.code == 1
    assert "GW0163" in wrong.err


async def test_a_draft_of_a_file_of_records(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "flows.jsonl"
    file.write_text(f'{json.dumps(RECORD)}\n{{"verdict": "LOST", "lost": 3}}\n')
    drafted = await shell.run("policy", "draft", str(file))
    assert drafted.code == 0, drafted.err
    begins = "# from 1 of 2 records\nkind: Access\nname: allow-thermostat\naction: ALLOW\n"
    assert drafted.out.decode().startswith(begins)
    file.write_text("{")
    assert (await shell.run("policy", "draft", str(file))).code == 2
