"""`gateway mqtt`: bridges, what becomes of a topic, and a Mosquitto's bridges taken over. No broker is there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.cli.conftest import RunningNode, Shell

CONF = """\
connection plant
address 127.0.0.1:9
remote_clientid edge-7
remote_username somebody
remote_password sesame
bridge_protocol_version mqttv50
topic sensors/# in 1 "" site/7/
topic orders/# out 1 "" site/7/
start_type lazy
"""
RULES = """\
kind: Bridge
name: plant
mqtt: {address: mqtt://broker}
topics:
  - {pattern: "s/{device}/#", direction: in, route: in.take, tags: {sub: "{device}", path: "{rest}"}, spool: telemetry}
  - {pattern: "s/#", direction: in}
---
kind: Spool
name: telemetry
match: [{service: in}]
"""


async def test_a_bridge_on_a_running_node(node: RunningNode, shell: Shell, tmp_path: Path) -> None:
    here = shell.with_environment(GATEWAY_DATA=str(node.data))
    added = await here.run(
        "mqtt",
        "bridge",
        "add",
        "plant",
        "mqtt://127.0.0.1:9",
        "--topic",
        'sensors/# in 1 "" site/7/',
        "--client-id",
        "x",
    )
    assert (added.code, added.out) == (0, b"Bridge/plant added\n"), added.err
    twice = await here.run("mqtt", "bridge", "add", "plant", "mqtt://127.0.0.1:9")
    assert (twice.code, "there is a bridge plant already" in twice.err) == (1, True)
    listed = (await here.run("mqtt", "bridge", "ls", "-o", "wide")).out.decode().splitlines()
    assert listed[0].split()[:3] == ["NAME", "STATE", "BROKER"]
    assert listed[1].split()[0] == "plant"
    assert "mqtt://127.0.0.1:9" in listed[1]
    mapped = await here.run("mqtt", "map", "ls", "--bridge", "plant")
    assert mapped.out.decode().splitlines()[1].split()[:4] == ["plant:topics:0", "in", "site/7/sensors/#", "sensors/#"]
    found = await here.run("mqtt", "map", "test", "site/7/sensors/oven")
    assert (found.code, found.out.decode().splitlines()[0]) == (0, "plant: sensors/# → sensors/oven")
    assert (await here.run("mqtt", "map", "test", "other")).code == 1
    stopped = await here.run("mqtt", "bridge", "stop", "plant", "--yes")
    assert (stopped.code, stopped.out) == (0, b"plant stopped\n"), stopped.err
    async with asyncio.timeout(30):
        while True:
            shown = json.loads((await here.run("mqtt", "bridge", "show", "plant", "-o", "json")).out)
            if shown["state"] == "stopped":
                break
    assert (await here.run("mqtt", "bridge", "start", "plant")).out == b"plant started\n"
    assert (await here.run("mqtt", "bridge", "restart", "plant")).out == b"plant restarted\n"
    tried = await here.run("mqtt", "bridge", "test", "plant", "-o", "json")
    assert tried.code == 3
    assert json.loads(tried.out)["reachable"] is False
    assert (await here.run("mqtt", "bridge", "start", "nobody")).code == 1
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(CONF)
    taken = await here.run("mqtt", "import", str(conf))
    assert (taken.code, taken.out) == (0, b"Bridge/plant changed\n"), taken.err
    assert f"{conf}:9: start_type lazy is not known here" in taken.err
    assert "sesame" not in taken.err
    assert (await here.run("get", "bridge", "plant")).out.startswith(b"kind: Bridge\nname: plant\n")
    assert (await here.run("delete", "bridge", "plant", "--yes")).code == 0


async def test_documents_of_a_mosquitto_without_a_node(shell: Shell, tmp_path: Path) -> None:
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(CONF)
    printed = await shell.run("mqtt", "import", str(conf), "--print")
    assert printed.code == 0, printed.err
    assert b"passwordFile: /run/secrets/mqtt-plant\n" in printed.out
    assert b"sesame" not in printed.out
    rules = tmp_path / "bridges.yaml"
    rules.write_bytes(printed.out)
    found = await shell.run("mqtt", "map", "test", "site/7/sensors/x", "-f", str(rules))
    assert found.out.decode().splitlines()[0] == "plant: sensors/# → sensors/x"
    conf.write_text(CONF + 'topic "" out 0 local ""\n')
    refused = await shell.run("mqtt", "import", str(conf), "--print")
    assert (refused.code, refused.out) == (1, b"")
    assert f"{conf}:10: topic: without a pattern both prefixes are needed" in refused.err
    assert (await shell.run("mqtt", "import", str(tmp_path / "none"))).code == 2


async def test_what_becomes_of_a_topic_without_a_node(shell: Shell, tmp_path: Path) -> None:
    rules = tmp_path / "bridges.yaml"
    rules.write_text(RULES)
    found = await shell.run("mqtt", "map", "test", "s/oven/a/b", "-f", str(rules))
    assert found.code == 0
    assert found.out.decode() == (
        "plant: s/{device}/# → in.take, by the spool telemetry\n"
        "  sub = oven  (chooses who gets it)\n"
        "  path = a/b\n"
        "  ✓ in  s/{device}/#: route in.take sub=oven path=a/b\n"
        "  – in  s/#: an earlier rule has taken it\n"
    )
    as_json = await shell.run("mqtt", "map", "test", "s/oven/a/b", "-f", str(rules), "-o", "json")
    assert json.loads(as_json.out)["data"][0]["route"] == "in.take"
    none = await shell.run("mqtt", "map", "test", "other", "-f", str(rules))
    assert none.code == 1
    assert none.out.decode().splitlines() == [
        "plant: no rule takes it in",
        "  – in  s/{device}/#: s/+/# does not match",
        "  – in  s/#: s/# does not match",
    ]
    rules.write_text("kind: Bridge\nname: plant\n")
    wrong = await shell.run("mqtt", "map", "test", "a", "-f", str(rules))
    assert wrong.code == 1
    assert "GW0103" in wrong.err


async def test_a_topic_line_that_is_none(shell: Shell) -> None:
    result = await shell.run("mqtt", "bridge", "add", "plant", "mqtt://b", "--topic", "a up")
    assert result.code == 2
    assert "'up' is not in, out or both" in result.err
    named = await shell.run("mqtt", "bridge", "add", "Plant A", "mqtt://b")
    assert (named.code, "'Plant A' is no name" in named.err) == (2, True)
    nothing = await shell.run("mqtt", "import", "/nonexistent/mosquitto.conf")
    assert "/nonexistent/mosquitto.conf: No such file or directory" in nothing.err
