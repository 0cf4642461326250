"""Real brokers as children of a test, each on a port that the kernel chose: Mosquitto, amqtt and aedes."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.interop.peers import HERE
from tests.local_node import until

START_S = 20.0
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class Broker:
    """One Mosquitto. `start`, then `kill` or `stop`; a second `start` is on the same port, with what it kept.

    `marks`: what it sends again has the flag of duplicates, and its identifier. `lasts`: what it has outlives its
    process. `repeats_retained`: who comes back to its session gets once more all that is retained. `refuses_sys`: it
    hangs up on who publishes below `$SYS`. `raises_qos`: a message comes with the QoS of the subscription, whatever it
    was sent with. `username`: what it wants to be told.
    """

    marks = True
    lasts = True
    repeats_retained = False
    refuses_sys = False
    raises_qos = False
    username: str | None = None

    def __init__(
        self,
        directory: Path,
        *lines: str,
        listener: tuple[str, ...] = (),
        websocket: tuple[str, ...] | None = None,
        keep: bool = True,
    ) -> None:
        """`lines` go into the configuration as they are, those of `listener` behind the one listener, those of
        `websocket` behind another one, for WebSocket."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self.websocket_port = free_port() if websocket is not None else 0
        self.process: subprocess.Popen[bytes] | None = None
        self._lines = lines
        self._listener = listener
        self._websocket = websocket
        self._keep = keep

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> Broker:
        """Raises AssertionError when it does not come up."""
        for _ in range(5):
            command = self._command()
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220  (it returns at once)
            deadline = time.monotonic() + START_S
            while self.process.poll() is None and time.monotonic() < deadline:
                if all([await answers(port) for port in (self.port, self.websocket_port) if port]):
                    return self
                await asyncio.sleep(0.02)
            self.kill()
            # Somebody else may have been given the port meanwhile.
            self.port = free_port()
            self.websocket_port = free_port() if self.websocket_port else 0
        raise AssertionError(self.log)

    def _command(self) -> tuple[str, ...]:
        """How to start it, on `port`."""
        assert MOSQUITTO is not None, "Mosquitto is not installed; tools/install-peers does it"
        lines = [
            f"listener {self.port} 127.0.0.1",
            *(self._listener or ("allow_anonymous true",)),
            "log_type all",
            "log_timestamp false",
        ]
        if self._websocket is not None:
            lines += [f"listener {self.websocket_port} 127.0.0.1", "protocol websockets", *self._websocket]
        if self._keep:
            lines += ["persistence true", f"persistence_location {self.directory}/"]
        # Options that stand before a listener are global.
        conf = self.directory / "mosquitto.conf"
        conf.write_text("\n".join(("user root", *self._lines, *lines)) + "\n")
        return MOSQUITTO, "-c", str(conf)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """An orderly end: it writes what it keeps."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def freeze(self) -> None:
        """It accepts connections, and says nothing any more."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @property
    def _log(self) -> Path:
        return self.directory / "broker.log"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def logs(self, text: str) -> None:
        await until(lambda: text in self.log)

    async def has_subscribed(self, client: str) -> None:
        """This client has."""
        await self.logs(f"Sending SUBACK to {client}")


class Amqtt(Broker):
    """amqtt, of PyPI, from an environment of its own."""

    lasts = False
    repeats_retained = True
    refuses_sys = True
    raises_qos = True
    # It keeps nothing for who has no name.
    username = "edge"

    def _command(self) -> tuple[str, ...]:
        program = HERE / "amqtt" / "target" / "bin" / "amqtt"
        assert program.exists(), "amqtt is not installed; tools/install-peers does it"
        conf = self.directory / "amqtt.yaml"
        named = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}}
        listener = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        # What is JSON is YAML.
        conf.write_text(json.dumps({"listeners": {"default": listener}, "plugins": named}))
        return str(program), "-d", "-c", str(conf)

    async def has_subscribed(self, client: str) -> None:
        await self.logs(f"clientId={client}, state=connected")


class Aedes(Broker):
    """aedes, of npm; `tests/interop/js/aedes-1.2.0/broker.js`."""

    marks = False
    lasts = False
    refuses_sys = True

    def _command(self) -> tuple[str, ...]:
        return "node", str(HERE / "js" / "aedes-1.2.0" / "broker.js"), str(self.port)

    async def has_subscribed(self, client: str) -> None:
        await self.logs(f"{client} subscribed")


#: By the names under which tools/install-peers may leave them out.
OTHERS: dict[str, type[Broker]] = {"amqtt-0.12.1": Amqtt, "aedes-1.2.0": Aedes}
