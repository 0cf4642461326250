"""The five interaction models and their errors, as every client must do them with every other."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from tests.interop.peers import Peer, RemoteError

WAIT_S = 30


class Line:
    """A caller's peer, the connection that it uses, and the service that it calls."""

    def __init__(self, peer: Peer, connection: str, service: str) -> None:
        self._peer = peer
        self._connection = connection
        self._service = service

    def request(self, method: str, data: str = "", **more: Any) -> str:
        return self._peer.request(self._connection, f"{self._service}.{method}", data, **more)

    def ask(self, method: str, value: object = "") -> Any:
        return self._peer.ask(self._connection, f"{self._service}.{method}", value)

    def fnf(self, data: str) -> None:
        self._peer.command("fnf", connection=self._connection, route=f"{self._service}.note", data=data)

    def stream(self, credits: list[int], **asked: Any) -> dict[str, Any]:
        route = f"{self._service}.items"
        args = {"connection": self._connection, "route": route, "data": json.dumps(asked), "credits": credits}
        return self._peer.command("stream", **args)

    def channel(self, items: list[str], credits: list[int]) -> dict[str, Any]:
        route = f"{self._service}.channel"
        return self._peer.command("channel", connection=self._connection, route=route, items=items, credits=credits)


def until(check: Callable[[], bool], what: str) -> None:
    """Wait for what a peer does on its own time, such as hearing a fire-and-forget."""
    deadline = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.005)


class InteractionModels:
    """To inherit from, with fixtures `line`, and `codes`: the code to ask the service for and the one that must come
    back. `payload` takes more than one frame."""

    payload: ClassVar[str]

    def test_request_response(self, line: Line) -> None:
        assert line.request("echo", "grüß dich") == "grüß dich"

    def test_fire_and_forget(self, line: Line) -> None:
        """P35: the note arrives once, and nothing comes back to disturb the next request."""
        note = str(uuid.uuid4())
        line.fnf(note)
        until(lambda: note in line.ask("notes"), "the note is there")
        assert line.ask("notes").count(note) == 1

    def test_stream(self, line: Line) -> None:
        answer = line.stream([1000], key=str(uuid.uuid4()), count=20)
        assert answer["items"] == [str(number) for number in range(20)]
        assert answer["completed"]

    def test_stream_sends_no_more_than_it_is_asked_for(self, line: Line) -> None:
        """P30, P31: three items, two more, then CANCEL: the responder has produced five and knows that it is over."""
        key = str(uuid.uuid4())
        answer = line.stream([3, 2], key=key, count=100)
        assert answer["items"] == ["0", "1", "2", "3", "4"]
        assert not answer["completed"]
        until(lambda: line.ask("progress", key)["cancelled"], "the stream is cancelled")
        assert line.ask("progress", key)["produced"] == 5

    def test_channel(self, line: Line) -> None:
        """P32, P33: credit and items both ways, and both sides' ends."""
        items = [f"item {number}" for number in range(10)]
        answer = line.channel(items, [2, 3, 100])
        assert answer["items"] == items
        assert answer["completed"]

    def test_error(self, line: Line, codes: tuple[int, int]) -> None:
        asked, code = codes
        with pytest.raises(RemoteError) as caught:
            line.ask("fail", {"code": asked, "text": "außer Betrieb"})
        assert (caught.value.code, caught.value.text) == (code, "außer Betrieb")

    def test_error_in_a_stream(self, line: Line, codes: tuple[int, int]) -> None:
        asked, code = codes
        with pytest.raises(RemoteError) as caught:
            line.stream([100], key=str(uuid.uuid4()), count=2, code=asked, text="worn out")
        assert (caught.value.code, caught.value.text) == (code, "worn out")
        assert caught.value.items == ["0", "1"]

    def test_in_fragments_both_ways(self, line: Line) -> None:
        """P40: on each side whose library makes them."""
        assert line.request("echo", self.payload) == self.payload
