"""The compose file on a real engine: an edge node, a device and a caller, each in a container of its own.

The tests of `edge` go through the life of one deployment, in order: it starts, serves, is killed, cut off, made anew,
and stops. What goes wrong at the start has a deployment of its own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.e2e.deployment import BASE_IMAGE, CHECKED_EVERY_S, ROOT, Deployment, eventually, inspected, ran, said

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1500)]

MOST_BYTES_ABOVE_BASE = 90_000_000
STOPPING_S = 30.0
CUT_S = 15.0
UNPRIVILEGED = 10001
DEPLOYING = ROOT / "docs" / "deploy.md"


@pytest.fixture(scope="module")
def authority(edge: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node's authority, as a device is given it."""
    path = tmp_path_factory.mktemp("device") / "ca.pem"
    path.write_text(edge.inside("cat", "/var/lib/gateway/identity/ca.pem"))
    return path


@pytest.fixture(scope="module")
def caller(edge: Deployment, authority: Path) -> Callable[[], str | None]:
    """Ask the device for its target, from a container; None while it cannot be reached."""
    token = edge.inside("gateway", "token", "--subject", "caller", "--kind", "user", "--routes", "thermostat-1.*")

    def call() -> str | None:
        ended = edge.beside("caller", "request", "thermostat-1.set_target", "21.5", token=token, authority=authority)
        return ended.out if ended.code == 0 else None

    return call


def node_id(deployment: Deployment) -> str:
    return deployment.inside("cat", "/var/lib/gateway/identity/node-id")


def test_an_image_without_what_builds_it(image: str, figure: Callable[[str], None]) -> None:
    size, base = (int(said("docker", "image", "inspect", "-f", "{{.Size}}", name)) for name in (image, BASE_IMAGE))
    figure(f"image: {(size - base) / 1e6:.1f} MB above {BASE_IMAGE}")
    assert size - base <= MOST_BYTES_ABOVE_BASE
    found = said("docker", "run", "--rm", "--entrypoint", "sh", image, "-c", "command -v gcc cc ld cython; id -u")
    assert found == str(UNPRIVILEGED)
    version = json.loads(said("docker", "run", "--rm", image, "version", "-o", "json"))
    assert (version["hot_path"], version["loop"]) == ("compiled", "uvloop")


def test_it_becomes_healthy(edge: Deployment, figure: Callable[[str], None]) -> None:
    began = time.monotonic()
    edge.up()
    figure(
        f"start: {time.monotonic() - began:.1f} s from `up` to healthy, of which {CHECKED_EVERY_S} s are the health"
        " check's interval"
    )
    used = said("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", edge.edge)
    figure(f"idle memory: {used}")
    assert "ready" in edge.log()


def test_it_may_do_no_more_than_it_needs(edge: Deployment) -> None:
    container = inspected(edge.edge)
    host = container["HostConfig"]
    assert (container["Config"]["User"], host["ReadonlyRootfs"], host["CapDrop"]) == ("10001:10001", True, ["ALL"])
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])
    assert host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert {binding["HostIp"] for binding in host["PortBindings"]["9878/tcp"]} == {"127.0.0.1"}
    written = ran("docker", "exec", edge.edge, "touch", "/etc/written", "/opt/gateway/written")
    assert written.err.count("Read-only file system") == 2


def test_the_first_device(edge: Deployment) -> None:
    """The quick start of docs/deploy.md, from the node to a device that is online."""
    assert "password" in edge.inside("cat", "first-run.txt")
    added = edge.inside("gateway", "device", "add", "demo", "--profile", "thermostat")
    assert "wss://" in added
    said("docker", "exec", "--detach", edge.edge, "gateway", "simulate", "--as", "demo")

    def online() -> bool | None:
        return ran("docker", "exec", edge.edge, "gateway", "request", "demo.set_target", "20").code == 0 or None

    eventually(online, "the device that was added answers")
    assert "demo" in edge.inside("gateway", "device", "ls")


def test_a_caller_reaches_a_device(edge: Deployment, authority: Path, caller: Callable[[], str | None]) -> None:
    """Device, node and caller are three containers; over TLS that the node's own authority vouches for."""
    may = ("--services", "{sub}", "--routes", "telemetry.*")
    token = edge.inside("gateway", "token", "--subject", "thermostat-1", "--kind", "device", *may)
    started = edge.beside("device", "simulate", "--devices", "1", token=token, authority=authority, detached=True)
    assert started.code == 0, started.err
    assert "21.5" in eventually(caller, "the device answers")


def test_a_killed_node_comes_back(
    edge: Deployment, caller: Callable[[], str | None], figure: Callable[[str], None]
) -> None:
    """SIGKILL of the process: the restart policy brings it back as the same node, and the device returns by itself."""
    before = node_id(edge)
    kill = "import json, os; os.kill(json.load(open('/var/lib/gateway/runtime.json'))['pid'], 9)"
    began = time.monotonic()
    said("docker", "exec", edge.edge, "python", "-c", kill)
    eventually(lambda: inspected(edge.edge)["RestartCount"] or None, "the restart")
    assert "21.5" in eventually(caller, "the device answers again")
    figure(f"after SIGKILL of the node: {time.monotonic() - began:.1f} s until the device is reached again")
    assert node_id(edge) == before


def test_a_killed_container_comes_back(edge: Deployment, caller: Callable[[], str | None]) -> None:
    """`docker kill` counts as an order to stop, which no restart policy overrides; `up` starts it, data and all."""
    before = node_id(edge)
    said("docker", "kill", "--signal", "KILL", edge.edge)
    edge.up()
    assert node_id(edge) == before
    assert "21.5" in eventually(caller, "the device answers again")


def test_a_cut_network_heals(edge: Deployment, caller: Callable[[], str | None], figure: Callable[[str], None]) -> None:
    said("docker", "network", "disconnect", edge.network, edge.edge)
    time.sleep(CUT_S)
    assert caller() is None
    said("docker", "network", "connect", "--alias", "edge", edge.network, edge.edge)
    began = time.monotonic()
    assert "21.5" in eventually(caller, "the device answers again")
    figure(f"after {CUT_S:g} s off the network: {time.monotonic() - began:.1f} s until the device is reached again")


def test_a_container_made_anew_is_the_same_node(edge: Deployment, caller: Callable[[], str | None]) -> None:
    """What `docker compose pull && docker compose up -d` does."""
    before, container = node_id(edge), inspected(edge.edge)["Id"]
    edge.up("--force-recreate")
    assert inspected(edge.edge)["Id"] != container
    assert node_id(edge) == before
    assert "21.5" in eventually(caller, "the device answers again")


def test_it_drains_and_ends(edge: Deployment, figure: Callable[[str], None]) -> None:
    """Fault 95: with a device on it, well before the engine would kill it, and with exit code 0."""
    began = time.monotonic()
    stopped = edge.compose("stop", "edge")
    took = time.monotonic() - began
    assert stopped.code == 0, stopped.err
    figure(f"stop: {took:.1f} s with a device connected")
    assert took < STOPPING_S
    assert inspected(edge.edge)["State"]["ExitCode"] == 0
    assert '"stopped"' in edge.log()
    down = edge.compose("down")
    assert down.code == 0, down.err


def put(path: Path, blob: trustme.Blob, owner: int = UNPRIVILEGED) -> str:
    blob.write_to_path(str(path))
    path.chmod(0o400)
    os.chown(path, owner, owner)
    return str(path)


def test_a_certificate_of_ones_own(other: Deployment, tmp_path: Path) -> None:
    """By secret file; a wrong one, or one that the node may not read, is one clear line."""
    good, wrong = trustme.CA().issue_cert("localhost"), trustme.CA().issue_cert("localhost")
    other.environ |= {
        "GATEWAY_TLS_CERTIFICATE": put(tmp_path / "chain.pem", good.cert_chain_pems[0]),
        "GATEWAY_TLS_KEY": str(tmp_path / "key.pem"),
    }
    refused = other.compose("up", "--detach", "--no-build")
    assert refused.code != 0
    assert f"bind source path does not exist: {tmp_path / 'key.pem'}" in refused.err.splitlines()[-1]
    put(tmp_path / "key.pem", wrong.private_key_pem)
    other.compose("up", "--detach", "--no-build")
    assert other.complaint().endswith("cannot be used: the key is not that of the certificate")
    other.remove()
    put(tmp_path / "key.pem", good.private_key_pem, owner=0)
    other.compose("up", "--detach", "--no-build")
    assert other.complaint().endswith("/run/secrets/tls_key: Permission denied for uid 10001")
    other.remove()
    put(tmp_path / "key.pem", good.private_key_pem)
    other.up()
    # What is mounted is the file, not its name: written over, and not replaced, it is renewed without a restart.
    listener = ("127.0.0.1", int(other.environ["GATEWAY_WEBSOCKET_PORT"]))
    first = ssl.get_server_certificate(listener)
    (tmp_path / "key.pem").write_bytes(wrong.private_key_pem.bytes())
    (tmp_path / "chain.pem").write_bytes(wrong.cert_chain_pems[0].bytes())
    eventually(lambda: "certificate loaded" in other.log() or None, "the renewed certificate")
    assert ssl.get_server_certificate(listener) != first


def test_a_volume_of_somebody_else(other: Deployment) -> None:
    """It is named, with the user that it must belong to, and docs/deploy.md says how to change that."""
    said("docker", "volume", "create", other.volume)
    taken = "chown 0:0 /data && chmod 755 /data && touch /data/theirs"
    mount = ("--volume", f"{other.volume}:/data", "--user", "0", "--entrypoint", "sh")
    said("docker", "run", "--rm", *mount, other.environ["GATEWAY_IMAGE"], "-c", taken)
    other.compose("up", "--detach", "--no-build")
    line = other.complaint()
    assert "Permission denied" in line
    assert "/var/lib/gateway must belong to uid 10001" in line
    (command,) = re.findall(r"`docker compose (run .*?chown .*?)`", DEPLOYING.read_text())
    mended = other.compose(*shlex.split(command))
    assert mended.code == 0, mended.err
    other.up()


def test_a_port_that_is_taken(other: Deployment) -> None:
    """On the host the engine says so; for one inside of the container the node names the setting."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        other.environ["GATEWAY_WEBSOCKET_PORT"] = port
        refused = other.compose("up", "--detach", "--no-build")
        assert refused.code != 0
        (line,) = [line for line in refused.err.splitlines() if "in use" in line or "already allocated" in line]
        assert port in line
    other.up()
    again = ran("docker", "run", "--rm", "--network", f"container:{other.edge}", other.environ["GATEWAY_IMAGE"])
    assert again.code == 1
    (line,) = again.err.splitlines()
    assert line.startswith("gateway: listen.websocket: cannot listen on 0.0.0.0:7878")


def test_a_disk_that_fills(image: str) -> None:
    """The node runs on, refuses in one line what it could not keep, and needs nobody when there is room."""
    node = f"gateway-e2e-{os.getpid()}-full"
    where = "/var/lib/gateway:size=8m,uid=10001,gid=10001,mode=0700"
    said("docker", "run", "--detach", "--name", node, "--read-only", "--tmpfs", where, image)
    try:
        inside = ("docker", "exec", node)
        eventually(lambda: ran(*inside, "gateway", "healthcheck").code == 0 or None, "the node is ready")
        ran(*inside, "dd", "if=/dev/zero", "of=/var/lib/gateway/fill", "bs=4k")
        refused = ran(*inside, "gateway", "device", "add", "one")
        assert refused.code == 1
        (line,) = refused.err.splitlines()
        assert line.startswith("gateway: The disk is full: /var/lib/gateway/gateway.db: there is no room left for it")
        assert ran(*inside, "gateway", "healthcheck").code == 0
        said(*inside, "rm", "/var/lib/gateway/fill")
        said(*inside, "gateway", "device", "add", "one")
    finally:
        ran("docker", "rm", "--force", node)


def test_a_full_disk(image: str) -> None:
    where = "/var/lib/gateway:size=16k,uid=10001,gid=10001,mode=0700"
    full = ran("docker", "run", "--rm", "--read-only", "--tmpfs", where, image)
    assert full.code == 1
    (line,) = full.err.splitlines()
    assert "No space left on device" in line


def test_a_backup_into_an_empty_volume(other: Deployment, tmp_path: Path) -> None:
    """The node of another volume, as docs/deploy.md says: the same id, and who was registered there."""
    other.up()
    other.inside("gateway", "device", "add", "kept")
    before, made = node_id(other), other.inside("gateway", "backup", "create").split(",")[0]
    copied = other.compose("cp", f"edge:/var/lib/gateway/{made}", str(tmp_path / "restore.tar"))
    assert copied.code == 0, copied.err
    other.remove()
    os.chown(tmp_path / "restore.tar", UNPRIVILEGED, UNPRIVILEGED)
    (command,) = re.findall(r"^docker compose (run .* backup restore .*)$", DEPLOYING.read_text(), re.MULTILINE)
    restored = other.compose(*shlex.split(command.replace("./restore.tar", str(tmp_path / "restore.tar"))))
    assert restored.code == 0, restored.err
    other.up()
    assert node_id(other) == before
    assert "kept" in other.inside("gateway", "device", "ls")
