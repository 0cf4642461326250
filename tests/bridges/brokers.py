"""Real brokers as children of a test: Mosquitto, on a port that the kernel chose."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

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
    """One Mosquitto. `start`, then `kill` or `stop`; a second `start` is on the same port, with what it kept."""

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
        assert MOSQUITTO is not None, "Mosquitto is not installed; tools/install-peers does it"
        for _ in range(5):
            self._write()
            with (self.directory / "mosquitto.log").open("ab") as log:
                self.process = subprocess.Popen(  # noqa: ASYNC220  (it returns at once)
                    (MOSQUITTO, "-c", str(self.directory / "mosquitto.conf")), stdout=log, stderr=log
                )
            deadline = time.monotonic() + START_S
            while self.process.poll() is None and time.monotonic() < deadline:
                if all([await answers(port) for port in (self.port, self.websocket_port) if port]):
                    return self
                await asyncio.sleep(0.02)
            self.kill()
            # Somebody else may have been given the port meanwhile.
            self.port = free_port()
            self.websocket_port = free_port() if self.websocket_port else 0
        raise AssertionError((self.directory / "mosquitto.log").read_text(errors="replace"))

    def _write(self) -> None:
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
        (self.directory / "mosquitto.conf").write_text("\n".join(("user root", *self._lines, *lines)) + "\n")

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
    def log(self) -> str:
        return (self.directory / "mosquitto.log").read_text(errors="replace")

    async def logs(self, text: str) -> None:
        await until(lambda: text in self.log)
