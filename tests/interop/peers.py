"""Stock RSocket clients as processes that the tests command, and what each of them cannot do.

A peer is one program a library; one process of it holds any number of connections to the node, each of which may
serve and call. It reads one JSON command a line and prints one JSON answer a line, with the command's ``id``; it exits
when its stdin ends. Commands (``connection`` names one of the peer's connections, ``frames`` are broker frames for the
metadata):

- ``connect url token frames keepalive_ms lifetime_ms fragment_bytes resume``: SETUP, then ``gateway.ready`` ->
  ``data``; of these libraries rsocket-java alone can resume
- ``request route data frames`` -> ``data``
- ``fnf route data frames`` -> nothing
- ``stream route data frames credits`` and ``channel route items frames credits`` -> ``items``, ``completed``: asks for
  the first credit with the request and for each further one when the last is used up, and cancels after the last
- ``close``

An error comes back as ``error: {code, text}`` with the ``items`` that came before it; ``code`` is None where the
library does not tell it. What a peer serves, by the last word of the route: ``echo``, ``fail`` ({code, text}), ``seen``
(the entries of the metadata it got, content in hex), ``notes`` (what fire-and-forget brought), ``progress`` (of the
stream whose ``key`` is the data); a stream request is {key, count} and with {code, text} it fails after ``count``
items; a channel sends back what it gets.
"""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gateway.wire import brokering

HERE = Path(__file__).parent
LEFT_OUT = HERE / ".left-out"
ANSWER_TIMEOUT_S = 10
# Below what any library asks for as a minimum, and it makes 64 KiB some 60 fragments.
FRAGMENT_BYTES = 1024
APPLICATION_ERROR = 0x201
CUSTOM_ERROR = 0x321


@dataclass(frozen=True)
class Library:
    """A stock client: how to start its peer, and its documented limits.

    ``sends_custom_codes``: False where a responder has no say in the code; its errors all are APPLICATION_ERROR.
    ``reads_custom_codes``: False where a caller cannot read codes that the specification does not name.
    ``fragments``: whether it can cut its own requests, and its own answers, into fragments; all can put them together.
    """

    name: str
    command: tuple[str, ...]
    sends_custom_codes: bool = True
    reads_custom_codes: bool = True
    fragments_requests: bool = True
    fragments_answers: bool = True

    def __str__(self) -> str:
        return self.name


_JAVA = HERE / "java" / "target"
RSOCKET_JAVA = "rsocket-java-1.1.5"
RSOCKET_JS = Library(
    "rsocket-js-1.0.0-alpha.3",
    ("node", str(HERE / "js" / "rsocket-1.0.0-alpha" / "peer.js")),
    # RSocketConnector gives its responder side the fragment size 0, whatever the configuration says.
    fragments_answers=False,
)
# Not stock, and tested for more than they are.
GATEWAY_CLIENT = Library("gateway-client", ("node", str(HERE / "js" / "gateway-client" / "peer.js")))
RSOCKET_PY = Library(
    "rsocket-py-0.4.20",
    (sys.executable, str(HERE / "python" / "peer.py")),
    # Its ErrorFrame.parse does ErrorCode(value): ValueError, the frame is dropped and the caller waits for ever.
    reads_custom_codes=False,
)
LIBRARIES = (
    RSOCKET_PY,
    Library(
        "rsocket-js-0.0.27",
        ("node", str(HERE / "js" / "rsocket-0.0.27" / "peer.js")),
        # RSocketMachine._sendStreamError has one code; it reassembles fragments but has nothing that makes them.
        sends_custom_codes=False,
        fragments_requests=False,
        fragments_answers=False,
    ),
    RSOCKET_JS,
    Library(
        RSOCKET_JAVA,
        (
            "java",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xmx128m",
            "-cp",
            f"{_JAVA / 'classes'}:{_JAVA / 'lib'}/*",
            "interop.Peer",
        ),
    ),
)


def left_out() -> dict[str, str]:
    """Return the names of the libraries that tools/install-peers could not install, with its reasons."""
    lines = LEFT_OUT.read_text().splitlines() if LEFT_OUT.exists() else []
    return {name: why for name, _, why in (line.partition(" ") for line in lines)}


class RemoteError(Exception):
    """A call ended with an error; ``items`` are those that came before it."""

    def __init__(self, code: int | None, text: str, items: list[str]) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.items = items


def broker_frame(frame: brokering.BrokerFrame) -> dict[str, Any]:
    """Return the frame's parts, for a peer that has a library to encode them, and its bytes for the others.

    Well-known keys of tags become their ids, for which libraries have names of their own.
    """
    ids = {key: str(id) for id, key in brokering.WELL_KNOWN_KEYS.items()}
    route_id = frame.origin_route_id if isinstance(frame, brokering.Address) else getattr(frame, "route_id", bytes(16))
    return {
        "type": frame.frame_type.name,
        "route_id": str(uuid.UUID(bytes=route_id)),
        "broker_id": str(uuid.UUID(bytes=getattr(frame, "broker_id", bytes(16)))),
        "timestamp_ms": getattr(frame, "timestamp_ms", 0),
        "service": getattr(frame, "service", ""),
        "tags": {ids.get(key, key): value for key, value in getattr(frame, "tags", ())},
        "hex": brokering.encode(frame).hex(),
    }


def route_setup(service: str) -> dict[str, Any]:
    return broker_frame(brokering.RouteSetup(uuid.uuid4().bytes, service))


def address(service: str) -> dict[str, Any]:
    """Return a unicast ADDRESS to one of the service's instances."""
    tags = ((brokering.SERVICE_NAME, service),)
    return broker_frame(brokering.Address(uuid.uuid4().bytes, tags, brokering.Cast.UNICAST))


class Peer:
    """One process of a library's peer program."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._ids = itertools.count(1)
        self._process = subprocess.Popen(
            library.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name=f"{library} answers")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process: its stdin closes, and it gets a few seconds to go by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def connect(
        self,
        connection: str,
        url: str,
        token: str,
        *,
        services: tuple[dict[str, Any], ...] = (),
        keepalive_ms: int = 5_000,
        lifetime_ms: int = 30_000,
        resume: bool = False,
    ) -> dict[str, Any]:
        """Open a connection that serves ``services`` (``route_setup``); return what `gateway.ready` told it."""
        answer = self.command(
            "connect",
            connection=connection,
            url=url,
            token=token,
            frames=list(services),
            keepalive_ms=keepalive_ms,
            lifetime_ms=lifetime_ms,
            fragment_bytes=FRAGMENT_BYTES,
            resume=resume,
        )
        return dict(json.loads(answer["data"]))

    def request(self, connection: str, route: str, data: str = "", **more: Any) -> str:
        return str(self.command("request", connection=connection, route=route, data=data, **more)["data"])

    def ask(self, connection: str, route: str, value: object = "") -> Any:
        """Request with JSON both ways; a string goes as it is."""
        return json.loads(self.request(connection, route, value if isinstance(value, str) else json.dumps(value)))

    def command(self, command: str, **args: Any) -> dict[str, Any]:
        """Send one command and return its answer; raise RemoteError when that is an error."""
        number = next(self._ids)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"id": number, "command": command, **args}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._exited() from None
        while True:
            try:
                answer = self._answers.get(timeout=ANSWER_TIMEOUT_S)
            except queue.Empty:
                raise TimeoutError(f"{self.library}: no answer to {command} {args.get('route', '')}") from None
            if answer is None:
                raise self._exited()
            # An answer that came after its command was given up on.
            if answer["id"] != number:
                continue
            if "error" in answer:
                raise RemoteError(answer["error"].get("code"), answer["error"]["text"], answer["items"])
            return answer

    def _exited(self) -> ChildProcessError:
        return ChildProcessError(f"{self.library} exited with {self._process.wait()}; did tools/install-peers run?")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)
