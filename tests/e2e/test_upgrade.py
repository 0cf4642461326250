"""From the commit before to this one, with data: the commands of docs/upgrade.md, a restored backup, mixed versions.

The tests of `node` go through the life of one deployment, in order.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.wire import frames
from tests.e2e.conftest import FIGURES
from tests.e2e.deployment import IMAGE, ROOT, Deployment, Ended, eventually, ran, said
from tests.e2e.earlier import Earlier, earlier_image
from tests.e2e.rolling import Caller, Rolling
from tests.local_node import Servant, until
from tests.rawclient import RawClient
from tests.spooling.test_kills import History
from tests.spooling.traffic import CENTRAL, EDGE, Traffic
from tests.upgrade.recordings import names, unpacked

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]

UNPRIVILEGED = 10001
DEVICE = "thermostat-1"
MESSAGES = 3
SPOOL = "kind: Spool\nname: telemetry\nmatch: [{service: historian}]\nminFree: 0%\n"
NEWER = "import sqlite3; sqlite3.connect('gateway.db').execute('PRAGMA user_version = 99')"


@dataclass
class Life:
    """What was made by the earlier version."""

    node_id: str = ""
    token: str = ""
    backup: str = ""


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest) -> list[str]:
    return request.config.stash.setdefault(FIGURES, [])


@pytest.fixture(scope="module")
def earlier(image: str, tmp_path_factory: pytest.TempPathFactory, figures: list[str]) -> Iterator[Earlier]:
    options = shlex.split(os.environ.get("DOCKER_BUILD_OPTIONS", ""))
    made = earlier_image(tmp_path_factory.mktemp("earlier"), options)
    figures.append(f"upgrade from: {made.what}")
    yield made
    if made.image != IMAGE:
        ran("docker", "image", "rm", "--force", made.image)


@pytest.fixture(scope="module")
def node(earlier: Earlier) -> Iterator[Deployment]:
    """A project that begins with the earlier version."""
    deployment = Deployment(f"gateway-e2e-{os.getpid()}-upgrade", {"GATEWAY_IMAGE": earlier.image}, tree=earlier.tree)
    yield deployment
    deployment.remove()


@pytest.fixture(scope="module")
def life() -> Life:
    return Life()


@pytest.fixture(scope="module")
def authority(node: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("device") / "ca.pem"
    path.write_text(node.inside("cat", "/var/lib/gateway/identity/ca.pem"))
    return path


def commands(page: str, *, after: str) -> list[str]:
    """The lines of the first block of commands below a heading."""
    text = (ROOT / "docs" / page).read_text().partition(f"\n## {after}\n")[2]
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[:1]
    return [line.partition(" #")[0].strip() for line in block.splitlines() if line.strip()]


def done(deployment: Deployment, line: str) -> Ended:
    """Run a documented `docker compose …` line."""
    words = shlex.split(line)
    assert words[:2] == ["docker", "compose"], line
    ended = deployment.compose(*words[2:])
    assert ended.code == 0, f"{line}: {ended.err}"
    return ended


def answers(deployment: Deployment) -> bool | None:
    return ran("docker", "exec", deployment.edge, "gateway", "request", f"{DEVICE}.set_target", "20").code == 0 or None


def records_into(volume: str, image: str, place: Path) -> None:
    """Put the newest recorded data directory into a volume."""
    recorded = unpacked(names()[-1], place)
    mounts = ("--volume", f"{volume}:/to", "--volume", f"{recorded.data}:/from:ro")
    copy = "cp -a /from/. /to && chown -R 10001:10001 /to && chmod 700 /to"
    said("docker", "run", "--rm", "--user", "0", *mounts, "--entrypoint", "sh", image, "-c", copy)


def test_a_node_of_the_earlier_version(node: Deployment, earlier: Earlier, life: Life, tmp_path: Path) -> None:
    """A device with its credential, a document, messages that wait for a service that is not there, a backup."""
    if not earlier.commit:
        assert node.compose("create", "--no-build", "edge").code == 0
        records_into(node.volume, earlier.image, tmp_path)
    node.up()
    life.node_id = node.inside("cat", "identity/node-id")
    may = f"--profile thermostat --service {DEVICE} --route 'telemetry.*' --ttl 1h --force"
    fill = (
        f"gateway device rm {DEVICE} --yes >/tmp/removed 2>&1; set -e\n"
        f"gateway device add {DEVICE} {may} --json\n"
        f"printf %s {shlex.quote(SPOOL)} >/tmp/spool.yaml; gateway apply -f /tmp/spool.yaml --yes >&2\n"
        f"for n in {' '.join(map(str, range(MESSAGES)))}; do gateway fnf historian.write $n; done\n"
        "gateway backup create >&2\n"
    )
    life.token = json.loads(node.inside("sh", "-c", fill))["credential"]["token"]
    (life.backup,) = node.inside("sh", "-c", "ls backups | tail -n 1").split()


def test_the_documented_commands(
    node: Deployment, life: Life, authority: Path, figures: list[str], tmp_path: Path
) -> None:
    """Healthy at once; the same node, the same devices with the credentials that they had."""
    device = node.beside("device", "simulate", "--devices", "1", token=life.token, authority=authority, detached=True)
    assert device.code == 0, device.err
    eventually(lambda: answers(node), "the device answers")
    lines = commands("upgrade.md", after="With Compose")
    assert [line for line in lines if not line.startswith("docker")] == ["git pull"]
    node.environ["GATEWAY_IMAGE"], node.tree = IMAGE, ROOT
    for line in lines[1:]:
        if line != "docker compose build":
            done(node, line.replace("backups .", f"backups {tmp_path}"))
    assert (tmp_path / "backups" / life.backup).is_file()
    assert node.healthy()
    assert node.inside("cat", "identity/node-id") == life.node_id
    eventually(lambda: answers(node), "the device is back")


def test_what_waited_is_delivered_once(node: Deployment, authority: Path) -> None:
    token = node.inside("gateway", "token", "--subject", "historian", "--kind", "service", "--services", "historian")
    context = ssl.create_default_context(cafile=str(authority))
    context.check_hostname = False

    def emptied() -> bool | None:
        listed = json.loads(node.inside("gateway", "spool", "ls", "--output", "json"))
        return not any(spool["messages"] for spool in listed) or None

    async def receive() -> list[bytes]:
        client = await RawClient.connect_ws(int(node.environ["GATEWAY_WEBSOCKET_PORT"]), ssl=context)
        client.setup(token, ("historian",))
        await client.ready()
        servant = Servant(client, "historian")
        try:
            await until(lambda: len(servant.got(frames.RequestFnf)) >= MESSAGES)
            # The node takes them out of the spool when the service has answered what it sent behind them.
            await asyncio.to_thread(eventually, emptied, "the spool is empty")
            return [frame.data for frame in servant.got(frames.RequestFnf)]
        finally:
            await servant.stop()
            await client.close()

    received = asyncio.run(receive())
    # A recorded directory has waiting messages of its own.
    assert received[-MESSAGES:] == [str(number).encode() for number in range(MESSAGES)]
    assert len(received) in (MESSAGES, MESSAGES + 5)


def test_its_backup_in_an_empty_volume(node: Deployment, life: Life, tmp_path: Path) -> None:
    """That of the earlier version, by the commands of docs/deploy.md: the node of then, under this version."""
    copied = node.compose("cp", f"edge:/var/lib/gateway/backups/{life.backup}", str(tmp_path / "restore.tar"))
    assert copied.code == 0, copied.err
    for name in node.others:
        ran("docker", "rm", "--force", name)
    node.remove()
    os.chown(tmp_path / "restore.tar", UNPRIVILEGED, UNPRIVILEGED)
    text = (ROOT / "docs" / "deploy.md").read_text()
    (command,) = re.findall(r"^(docker compose run .* backup restore .*)$", text, re.MULTILINE)
    done(node, command.replace("./restore.tar", str(tmp_path / "restore.tar")))
    node.up()
    assert node.inside("cat", "identity/node-id") == life.node_id
    assert DEVICE in node.inside("gateway", "device", "ls")
    running = node.compose("exec", "edge", "gateway", "backup", "restore", f"backups/{life.backup}", "--yes")
    assert running.code != 0


def test_data_of_a_newer_version_is_refused(node: Deployment, earlier: Earlier) -> None:
    """One line, which says what to do; nothing is changed."""
    node.inside("python", "-c", NEWER)
    node.compose("stop", "edge")
    node.environ["GATEWAY_IMAGE"] = earlier.image
    node.compose("up", "--detach", "--no-build")
    line = node.complaint()
    (documented,) = re.findall(
        r"^… (gateway\.db was written by a newer version .*)$", (ROOT / "docs" / "upgrade.md").read_text(), re.MULTILINE
    )
    assert re.sub(r"\d+", "N", line).endswith(re.sub(r"\d+", "N", documented)), line


async def test_mixed_versions_and_a_rolling_upgrade(earlier: Earlier, figures: list[str], tmp_path: Path) -> None:
    """fault 96: an old central with an old and a new edge, then a new central with the old edge, then all new. Writers
    at one edge and callers from one to the other go on meanwhile; nothing acknowledged is lost."""
    history = History()
    nodes = Rolling(tmp_path, {CENTRAL: earlier.image, EDGE: earlier.image, "edge-b": IMAGE})
    traffic: Traffic | None = None
    caller: Caller | None = None
    try:
        await asyncio.to_thread(nodes.bring_up_with_documents)
        traffic, caller = Traffic(nodes, history), Caller(nodes, at="edge-b", serves=EDGE)

        async def all_goes_on() -> None:
            acked, read, answered = len(history.acked), len(traffic.read), caller.answered
            await until(
                lambda: (
                    len(history.acked) > acked + 50
                    and len(traffic.read) > read + 50
                    and caller.answered > answered + 20
                ),
                60,
            )

        await all_goes_on()
        for name in (CENTRAL, EDGE):
            await asyncio.to_thread(nodes.upgrade, name, IMAGE)
            await all_goes_on()
            figures.append(
                f"rolling upgrade of {name}: {caller.longest_s:.1f} s without an answer over both edges at most"
            )
            caller.longest_s = 0.0
        await traffic.stop()
    finally:
        if caller is not None:
            await caller.stop()
        if traffic is not None:
            traffic.cancel()
        await asyncio.to_thread(nodes.end)
    history.check()
    figures.append(
        f"rolling upgrade: {len(history.acked)} acknowledged, all delivered once, {history.again} sent again"
    )
