"""Bundles as operators have them: the commands and the admin API behind them, on a real central node and an edge."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.cli.conftest import Result, Shell, environment
from tests.federation.links.cluster import CENTRAL, Cluster, until
from tests.governance.test_bundles import all_act_by, control, names

PAGE = (Path(__file__).parents[2] / "docs" / "bundles.md").read_text()
ADMIN = {"admin.listen": "127.0.0.1:0"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Commands run in the nodes' process, and what these log would be among what they print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Operator:
    """Somebody at the command line of one node."""

    def __init__(self, cluster: Cluster, node: str, home: Path) -> None:
        address = cluster[node].running.addresses["admin"]
        self._shell = Shell(environment(home, GATEWAY_DATA=str(cluster[node].data), GATEWAY_URL=address))

    async def run(self, *words: str) -> Result:
        return await self._shell.run(*words)

    async def done(self, *words: str) -> str:
        result = await self.run(*words)
        assert result.code == 0, result
        return result.out.decode()

    async def json(self, *words: str) -> Any:
        return json.loads(await self.done(*words, "-o", "json"))


async def test_the_examples_of_the_page_run(cluster: Cluster, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    await cluster.add("central", CENTRAL, more=ADMIN)
    await cluster.add("edge", parents=("central",), more={"node.labels": "site=7,ring=canary"})
    await cluster.linked("edge")
    (fleet,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "fleet.yaml").write_text(fleet)
    operator = Operator(cluster, "central", tmp_path)
    await until(lambda: len(control(cluster, "central").bundles.nodes) == 2)
    commands = re.findall(r"^gateway (bundle .*?)(?:  +#.*)?$", PAGE, re.MULTILINE)
    assert len(commands) == 13
    printed = {}
    for number, command in enumerate(commands):
        printed[number] = await operator.done(*shlex.split(command))
        if command.endswith('"first"'):
            await all_act_by(cluster, 1, "central", "edge")
    assert printed[0].startswith("bundle 1: 3 documents for 100 % of all (dry run")
    assert printed[1] == "bundle 1: 3 documents for 100 % of all\n"
    assert "nodes:" in printed[4]
    assert printed[6] == ""
    assert printed[8] == "bundle 3: 3 documents for 33 % of ring=canary\n"
    assert printed[12] == "bundle 3 aborted; 4 takes its place\n"
    await all_act_by(cluster, 4, "central", "edge")
    assert names(cluster, "edge") == {"telemetry"}
    assert [document.name for document in control(cluster, "edge").documents.standing("Service")] == ["thermostat"]
    assert control(cluster, "central").documents.standing("Service") == ()


async def test_what_operators_see(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.add("central", CENTRAL, more=ADMIN)
    await cluster.add("edge", parents=("central",), more=ADMIN)
    await cluster.linked("edge")
    operator, at_edge = Operator(cluster, "central", tmp_path), Operator(cluster, "edge", tmp_path)
    await until(lambda: len(control(cluster, "central").bundles.nodes) == 2)
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: Spool\nname: a\nmatch: [{service: x}]\nmaxBytes: 1\n---\nkind: Bridge\nname: b\n")
    refused = await operator.run("bundle", "publish", "-f", str(bad))
    assert refused.code == 1
    assert "GW0103" in refused.err
    assert "GW0192" in refused.err
    good, newer = tmp_path / "good.yaml", tmp_path / "newer.yaml"
    good.write_text("kind: Spool\nname: a\nmatch: [{service: x}]\n")
    newer.write_text(good.read_text() + "maxAge: 1h\n---\nkind: Spool\nname: b\nmatch: [{service: y}]\n")
    elsewhere = await at_edge.run("bundle", "publish", "-f", str(good))
    assert elsewhere.code == 1
    assert "central" in elsewhere.err
    await operator.done("bundle", "publish", "-f", str(good), "-m", "first", "--trial", "0s")
    await all_act_by(cluster, 1, "central", "edge")
    await operator.done("bundle", "publish", "-f", str(newer), "--trial", "0s")
    await all_act_by(cluster, 2, "central", "edge")
    wanted = [("central", 2, 2, "active"), ("edge", 2, 2, "active")]

    async def stood() -> list[tuple[Any, ...]]:
        rows = await operator.json("bundle", "status")
        return [(row["name"], row["wanted"], row["active"], row["outcome"]) for row in rows]

    async with asyncio.timeout(30):
        # It is read from the disk, to which what a node says goes after it counts.
        while await stood() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    rows = await operator.json("bundle", "ls")
    assert [(row["version"], row["comment"], row["nodes"]["active"]) for row in rows] == [(2, "", 2), (1, "first", 0)]
    text = await operator.done("bundle", "diff", "1", "2")
    assert '+  "maxAge": "1h"' in text
    assert "Spool/b in 2" in text
    held = await at_edge.json("bundle", "held")
    assert [(row["version"], row["state"]) for row in held] == [(2, "active"), (1, "replaced")]
    (row,) = [row for row in await at_edge.json("get", "spool") if row["name"] == "b"]
    assert (row["origin"], row["version"]) == ("bundle", 2)
    own = await at_edge.run("delete", "spool", "b", "--yes")
    assert "GW0194" in own.err
    assert (await operator.run("bundle", "show", "9")).code == 1
    await operator.done("bundle", "rollback", "1", "--yes")
    await all_act_by(cluster, 3, "central", "edge")
    assert names(cluster, "edge") == {"a"}
    events = {row["kind"] for row in await at_edge.json("events")}
    assert "bundle.activated" in events
    audited = {row["action"] for row in await operator.json("audit")}
    assert {"bundle.publish", "bundle.activate"} <= audited
