"""The profile `dev` on a real engine: all that is to be tried, linked, without another command."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.deployment import Deployment, eventually, ran, said, unused_port

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def dev(image: str) -> Iterator[Deployment]:
    ports = {name: str(unused_port()) for name in ("MOSQUITTO_PORT", "GATEWAY_CENTRAL_1_ADMIN_PORT")}
    deployment = Deployment(f"gateway-e2e-{os.getpid()}-dev", {"COMPOSE_PROFILES": "dev", **ports})
    yield deployment
    deployment.remove()


def test_it_is_all_linked(dev: Deployment, figure: Callable[[str], None]) -> None:
    """Simulated devices on the edge answer who asks there, and at the central node."""
    began = time.monotonic()
    dev.up()
    central = f"{dev.project}-dev-central-1"
    for node, target in ((dev.edge, "19"), (central, "20")):
        request = ("docker", "exec", node, "gateway", "request", "thermostat-3.set_target", target)
        eventually(lambda request=request: ran(*request).code == 0 or None, f"{node}: the third device answers")
    figure(f"dev: {time.monotonic() - began:.1f} s from `up` to a device that answers at the central node")
    assert "dev-central" in dev.inside("gateway", "topology")
    assert dev.inside("gateway", "mqtt", "bridge", "ls").splitlines()[1].split()[:2] == ["mosquitto", "connected"]
    names = [f"{dev.project}-{name}-1" for name in ("edge", "dev-central", "mosquitto", "simulator")]
    used = said("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", *names).splitlines()
    figure(f"dev: idle memory: {', '.join(used)}")


def test_again(dev: Deployment) -> None:
    """A second `up` changes nothing: the nodes know each other, and run on."""
    began = said("docker", "inspect", "--format", "{{.State.StartedAt}}", dev.edge)
    dev.up()
    assert said("docker", "inspect", "--format", "{{.State.StartedAt}}", dev.edge) == began
    done = dev.compose("logs", "--no-log-prefix", "--no-color", "dev-setup", "mosquitto-setup").out.splitlines()
    assert {"dev-central, edge: are one federation", "all is there"} <= set(done)
