"""Prometheus itself, with the configuration and rules of deploy/, on nodes that run."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.conftest import StartNode
from tests.deploy.monitoring import PROMETHEUS, alerts, dashboards, expressions, settled

DEADLINE_S = 30.0


@asynccontextmanager
async def running(program: Path, directory: Path, targets: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    """Prometheus on these targets, with what deploy/prometheus says but for how often it looks."""
    shutil.copytree(PROMETHEUS, directory)
    config = yaml.safe_load((directory / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    (directory / "targets.json").write_text(json.dumps([{"targets": targets}]))
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = f"127.0.0.1:{found.getsockname()[1]}"
    log = (directory / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        stdout=log,
        stderr=log,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}/api/v1", trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        async with asyncio.timeout(DEADLINE_S):
            await process.wait()
        log.close()


async def asked(client: httpx.AsyncClient, path: str, **params: str) -> Any:
    """The answer's data; None until there is one."""
    try:
        answer = await client.get(path, params=params)
    except httpx.TransportError:
        return None
    return answer.json()["data"] if answer.status_code == 200 else None


async def test_it_scrapes_nodes_and_goes_by_the_rules(start_node: StartNode, prometheus: Path, tmp_path: Path) -> None:
    local = await start_node({"telemetry.listen": "127.0.0.1:0"})
    client = await local.client("tcp")
    node = f"127.0.0.1:{local.node.telemetry_port}"
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = f"127.0.0.1:{gone.getsockname()[1]}"
    async with running(prometheus, tmp_path / "prometheus", [node, nobody]) as api, asyncio.timeout(DEADLINE_S):
        targets: dict[str, str] = {}
        while targets != {node: "up", nobody: "down"}:
            found = await asked(api, "/targets") or {"activeTargets": []}
            targets = {each["labels"]["instance"]: each["health"] for each in found["activeTargets"]}
            await asyncio.sleep(0.05)

        # Every rule is worked out without an error; one that records has recorded, and what is amiss is seen.
        recorded: list[Any] = []
        judged: list[dict[str, Any]] = []
        pending: set[str] = set()
        while not (recorded and pending >= {"GatewayNodeDown", "GatewayNoBackup"}):
            found = await asked(api, "/rules") or {"groups": []}
            judged = [rule for group in found["groups"] for rule in group["rules"]]
            pending = {each["name"] for each in judged if each.get("alerts")}
            values = await asked(api, "/query", query="instance:gateway_client_connections:sum") or {"result": []}
            recorded = values["result"]
            assert [each for each in judged if each["health"] == "err"] == []
            await asyncio.sleep(0.05)
        assert [(each["metric"]["instance"], each["value"][1]) for each in recorded] == [(node, "1")]
        assert {each["name"] for each in judged if each["type"] == "alerting"} == set(alerts())

        # Nothing that a dashboard asks makes it fail, matching of labels included; what there is to show is shown.
        # A rate takes a second scrape.
        asking = {each for dashboard in dashboards().values() for each in expressions(dashboard)}
        shown = 0
        while shown <= 30:
            shown = 0
            for expression in asking:
                answer = await api.get("/query", params={"query": settled(expression)})
                assert answer.status_code == 200, (expression, answer.text)
                shown += bool(answer.json()["data"]["result"])
    await client.close()
