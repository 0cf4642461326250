"""The profile `mqtt` on a real engine, as docs/mosquitto.md says: a broker beside the node, and the bridge between.

The tests go through the life of one deployment, in order.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.deployment import ROOT, Deployment, eventually, inspected, ran, said, unused_port

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]

BROKER = os.environ.get("MOSQUITTO_IMAGE") or "eclipse-mosquitto:2"
DOCUMENT = (ROOT / "docs" / "mosquitto.md").read_text()
PASSWORD = "a password of the oven"


@pytest.fixture(scope="module")
def mqtt(image: str) -> Iterator[Deployment]:
    port = str(unused_port())
    deployment = Deployment(f"gateway-e2e-{os.getpid()}-mqtt", {"COMPOSE_PROFILES": "mqtt", "MOSQUITTO_PORT": port})
    yield deployment
    deployment.remove()


@pytest.fixture(scope="module")
def authority(mqtt: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a device is given."""
    path = tmp_path_factory.mktemp("device") / "ca.pem"
    path.write_text(mqtt.inside("cat", "/var/lib/gateway/identity/ca.pem"))
    return path


def documented(beginning: str) -> list[str]:
    """The words of the one command of the document that begins so."""
    (line,) = re.findall(rf"^({re.escape(beginning)}.*)$", DOCUMENT, re.MULTILINE)
    return shlex.split(line)


def broker(mqtt: Deployment) -> str:
    return f"{mqtt.project}-mosquitto-1"


def client(mqtt: Deployment, authority: Path, *words: str) -> tuple[str, ...]:
    """The command for one of Mosquitto's programs in a container of its own, as the user `oven`."""
    where = ("--network", mqtt.network, "--read-only", "--cap-drop", "ALL", "--volume", f"{authority}:/ca.pem:ro")
    told = {"HOST": "mosquitto", "PASSWORD": PASSWORD, "ca.pem": "/ca.pem"}
    return ("docker", "run", "--rm", "--init", *where, BROKER, *(told.get(word, word) for word in words))


def bridge(mqtt: Deployment) -> dict[str, object]:
    found = json.loads(mqtt.inside("gateway", "mqtt", "bridge", "show", "mosquitto", "-o", "json"))
    assert isinstance(found, dict)
    return found


def connected(mqtt: Deployment) -> bool | None:
    return bridge(mqtt)["state"] == "connected" or None


def reloaded(mqtt: Deployment) -> None:
    said(*("docker", "exec", broker(mqtt)), *documented("docker compose exec mosquitto sh ")[4:])


def setup_says(mqtt: Deployment) -> list[str]:
    return mqtt.compose("logs", "--no-log-prefix", "--no-color", "mosquitto-setup").out.splitlines()


def test_it_becomes_healthy_and_linked(mqtt: Deployment, figure: Callable[[str], None]) -> None:
    began = time.monotonic()
    mqtt.up()
    eventually(lambda: connected(mqtt), "the bridge is connected")
    figure(f"mqtt: {time.monotonic() - began:.1f} s from `up` to a bridge that is connected")
    used = said("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", broker(mqtt))
    figure(f"mqtt: idle memory of Mosquitto: {used}")
    container = inspected(broker(mqtt))
    host = container["HostConfig"]
    assert (container["Config"]["User"], host["ReadonlyRootfs"], host["CapDrop"]) == ("10001:10001", True, ["ALL"])
    assert host["Memory"] > 0
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    # No password is where a process list or `docker inspect` shows it.
    secret = mqtt.inside("cat", "/var/lib/gateway/mosquitto/password")
    shown = [said("docker", "inspect", f"{mqtt.project}-{name}-1") for name in ("edge", "mosquitto", "mosquitto-setup")]
    assert not any(secret in text for text in (*shown, *setup_says(mqtt), mqtt.log()))


def test_a_device_that_speaks_mqtt(mqtt: Deployment, authority: Path) -> None:
    """From a container of its own to a stream of RSocket, and back."""
    asked = f"{PASSWORD}\n{PASSWORD}\n"
    words = ("docker", "exec", "-i", broker(mqtt), *documented("docker compose exec mosquitto mosquitto_passwd")[4:])
    subprocess.run(words, input=asked, text=True, check=True, capture_output=True, timeout=60)
    reloaded(mqtt)
    stream = ("docker", "exec", mqtt.edge, *documented("docker compose exec edge gateway stream")[4:], "--count", "1")
    publish = client(mqtt, authority, *documented("mosquitto_pub"))
    with subprocess.Popen(stream, stdout=subprocess.PIPE, text=True) as reader:

        def came() -> bool | None:
            sent = ran(*publish)
            assert sent.code == 0, sent.err
            return reader.poll() is not None or None

        eventually(came, "what was published comes out of the stream")
        assert reader.stdout is not None
        assert reader.stdout.read().strip() == "21.5"

    watch = shlex.split(
        "mosquitto_sub -h HOST -p 8883 --cafile ca.pem -u oven -P PASSWORD -t devices/oven/target -C 1 -W 60"
    )
    order = documented("docker compose exec edge gateway request mqtt")[4:]
    with subprocess.Popen(client(mqtt, authority, *watch), stdout=subprocess.PIPE, text=True) as device:

        def told() -> bool | None:
            mqtt.inside(*order)
            return device.poll() is not None or None

        eventually(told, "what was asked for comes to the device")
        assert device.stdout is not None
        assert device.stdout.read().strip() == "19"


def test_who_may_not(mqtt: Deployment, authority: Path) -> None:
    """Nobody with a wrong password or none, and nobody on the topics of another one."""
    words = documented("mosquitto_pub")
    at = words.index("-u")
    for attempt in (words[:at] + words[at + 4 :], [word.replace("PASSWORD", "wrong") for word in words]):
        refused = ran(*client(mqtt, authority, *attempt))
        assert refused.code != 0
        assert "not authorised" in refused.err
    elsewhere = [word.replace("devices/oven/", "devices/stove/") for word in words]
    denied = ran(*client(mqtt, authority, *elsewhere, "-V", "5"))
    assert "Not authorized" in denied.err + denied.out


def test_a_password_that_is_not_the_brokers(mqtt: Deployment) -> None:
    """The bridge says so, and the next `up` makes both anew."""
    mqtt.inside("sh", "-c", "echo another >/var/lib/gateway/mosquitto/password")
    mqtt.inside("gateway", "mqtt", "bridge", "restart", "mosquitto")
    reason = eventually(lambda: str(bridge(mqtt)["reason"] or "") or None, "the bridge says why")
    assert "\n" not in reason
    assert "not authorized" in reason.lower()
    mqtt.up()
    assert setup_says(mqtt)[-1] == "made: password of gateway"
    reloaded(mqtt)
    eventually(lambda: connected(mqtt), "the bridge is connected again")


def test_a_volume_of_somebody_else(mqtt: Deployment) -> None:
    """One line, with the user that it must belong to."""
    setup = inspected(f"{mqtt.project}-mosquitto-setup-1")["Config"]["Cmd"]
    within = ("docker", "run", "--rm", "--network", f"container:{mqtt.edge}", "--volumes-from", mqtt.edge)
    for mount, line in (
        ("/setup/mosquitto:mode=0755", "Permission denied for uid 10001: /setup/mosquitto and /var/lib/gateway"),
        ("/setup/mosquitto:size=4k,uid=10001,mode=0700", "No space left on device"),
    ):
        words = [word for word in setup if not word.startswith("--acl")]
        ended = ran(*within, "--tmpfs", mount, mqtt.environ["GATEWAY_IMAGE"], *words)
        assert ended.code == 1
        (only,) = ended.err.splitlines()
        assert line in only
