"""The event log, and its streams over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from gateway.admin import server_sent
from gateway.admin.events import EventLog
from tests.admin.api import Api, problem
from tests.local_node import until


def log_of(*kinds: str, capacity: int = 10_000) -> EventLog:
    log = EventLog(lambda: 1_700_000_000.0, capacity)
    for kind in kinds:
        log.add(kind, "")
    return log


@pytest.mark.parametrize("last", range(8))
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_events_are_read_from_any_place(last: int, limit: int) -> None:
    log = log_of(*"abcdefg", capacity=5)
    events, missed = log.since(last, limit)
    expected = [number for number in range(3, 8) if number > last][:limit]
    assert [event.id for event in events] == expected
    assert missed == max(0, 2 - last)


def test_an_id_of_another_run_replays_what_there_is() -> None:
    events, missed = log_of("a", "b").since(99, 10)
    assert [event.kind for event in events] == ["a", "b"]
    assert missed == 0


async def test_several_wait_for_one_event() -> None:
    log = log_of("a")
    waiting = [asyncio.create_task(log.wait(1, 5)) for _ in range(3)]
    await asyncio.sleep(0)
    log.add("b", "")
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not await log.wait(2, 0.01)


async def test_a_silent_stream_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent, "HEARTBEAT_S", 0.05)
    parts = [part async for part in server_sent.follow(log_of(), 0, lambda event: True, 0.2, lambda: False)]
    assert parts.count(b": alive\n\n") >= 2


async def test_a_reader_that_is_too_slow_learns_how_much_it_missed() -> None:
    log = log_of(*"abcdefg", capacity=5)
    parts = [part async for part in server_sent.follow(log, 1, lambda event: True, 0, lambda: False)]
    assert b'event: gap\ndata: {"missed":1}\n\n' in parts


class Listening:
    """Reads a stream of server-sent events."""

    def __init__(self, client: httpx.AsyncClient, path: str, headers: dict[str, str] | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.status = 0
        self._task = asyncio.create_task(self._read(client, path, headers or {}))

    async def _read(self, client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
        async with client.stream("GET", path, headers=headers) as answer:
            self.status = answer.status_code
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    self.events.append(json.loads(line[6:]))

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def ended(self) -> None:
        await asyncio.wait_for(self._task, 30)


async def test_connections_and_routes_are_told_as_they_come_and_go(api: Api) -> None:
    listening = Listening(api.http, "/api/v1/stream/events?subject=kitchen")
    await until(lambda: listening.status == 200)
    client = await api.local.client(subject="kitchen", kind="device", serving=("kitchen",))
    await client.close()
    await until(lambda: len(listening.events) >= 4)
    await listening.stop()
    kinds = [event["kind"] for event in listening.events]
    assert set(kinds) == {"connection.opened", "route.joined", "route.left", "connection.closed"}
    closed = listening.events[kinds.index("connection.closed")]
    assert closed["subject"] == "kitchen"
    assert closed["data"]["reason"] in ("peer_closed", "peer_reset", "peer_failed")


async def test_a_stream_goes_on_where_it_was_left(api: Api) -> None:
    log = api.node.admin.events if api.node.admin else None
    assert log is not None
    for number in range(5):
        log.add("test.happened", "kitchen", number=number)
    first = log.latest - 2
    listening = Listening(api.http, "/api/v1/stream/events?kind=test.&ttl=0", {"last-event-id": str(first)})
    await listening.ended()
    assert [event["id"] for event in listening.events] == [first + 1, first + 2]


async def test_a_stream_starts_now_unless_it_is_asked_for_more(api: Api) -> None:
    listening = Listening(api.http, "/api/v1/stream/events?ttl=0")
    await listening.ended()
    assert listening.events == []


async def test_figures_are_streamed(api: Api) -> None:
    listening = Listening(api.http, "/api/v1/stream/stats?interval_s=0.5&ttl=0.7")
    await listening.ended()
    assert len(listening.events) == 2
    assert listening.events[0]["connections"]["open"]["internal"] == 2


async def test_one_caller_has_so_many_streams(api: Api) -> None:
    """The sixth is 429; when one ends, there is room again."""
    open_ones = [Listening(api.http, "/api/v1/stream/events") for _ in range(5)]
    await until(lambda: all(each.status == 200 for each in open_ones))
    problem(await api.http.get("/api/v1/stream/events"), 429, "too-many-requests")
    await open_ones.pop().stop()

    async def another() -> bool:
        return (await api.http.get("/api/v1/stream/events?ttl=0")).status_code == 200

    async with asyncio.timeout(30):
        while not await another():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    for each in open_ones:
        await each.stop()


async def test_streams_end_when_the_node_stops(api: Api) -> None:
    listening = Listening(api.http, "/api/v1/stream/events")
    await until(lambda: listening.status == 200)
    await api.local.stop()
    await listening.ended()


async def test_the_list_is_the_newest_first(api: Api) -> None:
    client = await api.local.client(subject="kitchen", kind="device")
    await client.close()
    await api.local.settle()
    page = await api.get("/events", params={"limit": 1, "kind": "connection."})
    assert page["data"][0]["kind"] == "connection.closed"
    older = await api.get("/events", params={"limit": 50, "cursor": page["meta"]["next"], "kind": "connection."})
    assert [event["kind"] for event in older["data"]] == ["connection.opened"]


async def test_streams_share_what_is_made_for_them_at_one_time() -> None:
    made: list[bytes] = []

    async def make() -> bytes:
        await asyncio.sleep(0)
        made.append(b"figures")
        return made[-1]

    shared = server_sent.Shared()
    assert await asyncio.gather(*(shared.get(make) for _ in range(5))) == [b"figures"] * 5
    assert len(made) == 1
