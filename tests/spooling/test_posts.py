"""What devices post enters a spool once, however often it comes: a real node, its file, real connections."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.spool import posts
from gateway.spool.message import Post
from gateway.spool.store import schema
from gateway.storage.schema import migrate
from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import POST
from tests.local_node import until
from tests.rawclient import RawClient, composite
from tests.spooling.test_waiting import Spooling, ask, fnf, spooling, told

__all__ = ["spooling"]

#: As the documentation has it: nothing but what may come again waits.
POSTED = (
    "kind: Spool\nname: wait\nmatch: [{service: historian, interaction: [requestResponse]}]\n"
    "minFree: 0%\nmaxBytes: 64MiB\nqueueWhileOffline: {ttl: 1h}\n"
)


async def post(client: RawClient, epoch: int, seq: int, data: bytes, route: str = "historian.write") -> Any:
    number = client.next_stream_id()
    entries = [(POST, struct.pack(">II", epoch, seq))]
    client.send(frames.RequestResponse(number, composite(route, entries=entries), data))
    while True:
        frame = await client.recv(20)
        if frame.stream_id == number:
            return frame


def posted(frame: Any) -> tuple[int, int]:
    epoch, seq = struct.unpack(">II", dict(decode_composite(frame.metadata))[POST])
    return epoch, seq


async def test_a_post_that_comes_again_enters_once(spooling: Spooling) -> None:
    """Its receipt was lost, or the node went: from the same device and epoch no number is taken again."""
    await spooling.apply(POSTED)
    device = await spooling.local.client(subject="meter", kind="device")
    first = await post(device, 7, 1, b"one")
    again = await post(device, 7, 1, b"one")
    assert json.loads(first.data)["id"]
    assert json.loads(again.data) == {"spool": "wait/historian", "id": None}
    # Another run of the device, and another device, have numbers of their own.
    await post(device, 3, 1, b"two")
    other = await spooling.local.client(subject="meter-2", kind="device")
    await post(other, 7, 1, b"three")
    assert (spooling.waiting(), spooling.outlet().spool.came_again) == (3, 1)
    await spooling.restart()
    device = await spooling.local.client(subject="meter", kind="device")
    for epoch, seq in ((7, 1), (3, 1), (3, 2)):
        await post(device, epoch, seq, b"four")
    assert (spooling.waiting(), spooling.outlet().spool.came_again) == (4, 2)
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    got = servant.got(frames.RequestResponse)
    assert sorted((frame.data, posted(frame)) for frame in got) == [
        (b"four", (3, 2)),
        (b"one", (7, 1)),
        (b"three", (7, 1)),
        (b"two", (3, 1)),
    ]
    # Delivered, but not forgotten.
    assert json.loads((await post(device, 3, 2, b"four")).data)["id"] is None
    assert spooling.waiting() == 0


async def test_posts_go_through_the_spool_though_the_service_is_there(spooling: Spooling) -> None:
    """Else one whose receipt was lost would be delivered twice. Nobody else's requests are held up by that."""
    await spooling.apply(POSTED)
    servant = await spooling.local.servant(name="historian")
    device = await spooling.local.client(subject="meter", kind="device")
    assert (await ask(device, b"live")).data == b"live"
    generation = spooling.local.node.plane.table.generation
    for _ in range(2):
        assert json.loads((await post(device, 1, 1, b"one")).data)["spool"] == "wait/historian"
    await spooling.drained()
    assert spooling.local.node.plane.table.generation == generation
    assert (await ask(device, b"live")).data == b"live"
    got = servant.got(frames.RequestResponse)
    assert [frame.data for frame in got] == [b"live", b"one", b"live"]
    assert told(got[1])["redelivered"] is False


async def test_where_no_document_takes_it_the_responder_gets_it(spooling: Spooling) -> None:
    """With the id, by which it may know it again; a document for fire-and-forget does not take posts."""
    servant = await spooling.local.servant(name="historian")
    device = await spooling.local.client(subject="meter", kind="device")
    for _ in range(2):
        assert (await post(device, 1, 1, b"one")).data == b"one"
    await spooling.apply(POSTED.replace("requestResponse", "fireAndForget").replace("queue", "# queue"))
    assert (await post(device, 1, 2, b"two")).data == b"two"
    assert [posted(frame) for frame in servant.got(frames.RequestResponse)] == [(1, 1), (1, 1), (1, 2)]
    assert "wait/historian" not in spooling.depot.outlets


async def test_what_is_refused_may_come_again(spooling: Spooling) -> None:
    await spooling.apply(POSTED.replace("64MiB", "4KiB") + "maxMessage: 2KiB\n")
    device = await spooling.local.client(subject="meter", kind="device")
    seq, frame = 0, None
    while not isinstance(frame, frames.Error):
        seq += 1
        frame = await post(device, 1, seq, bytes(1000))
    assert frame.code == frames.ErrorCode.REJECTED
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    assert json.loads((await post(device, 1, seq, bytes(1000))).data)["id"]
    await spooling.drained()
    assert [posted(frame)[1] for frame in servant.got(frames.RequestResponse)] == list(range(1, seq + 1))


async def test_behind_others_that_wait(spooling: Spooling) -> None:
    """What a device posts and what others send for a service that is away comes in the order in which it came."""
    await spooling.apply(POSTED.replace("[requestResponse]", "[requestResponse, fireAndForget]"))
    device = await spooling.local.client(subject="meter", kind="device")
    await post(device, 1, 1, b"one")
    device.send(fnf(device, "historian.write", b"two"))
    await until(lambda: spooling.waiting() == 2)
    await post(device, 1, 2, b"three")
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    frames_ = servant.got(frames.RequestResponse) + servant.got(frames.RequestFnf)
    assert sorted(told(frame)["seq"] for frame in frames_) == [1, 2, 3]


async def test_an_id_that_is_none(spooling: Spooling) -> None:
    await spooling.apply(POSTED)
    device = await spooling.local.client(subject="meter", kind="device")
    number = device.next_stream_id()
    device.send(frames.RequestResponse(number, composite("historian.write", entries=[(POST, b"1")]), b""))
    frame = await device.recv(20)
    assert frame.code == frames.ErrorCode.INVALID
    assert "a post's id has 8 bytes" in frame.text


# What is remembered


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "spool.sqlite3", isolation_level=None)) as connection:
        migrate(connection, schema())
        yield connection


def test_numbers_rise_in_an_epoch(database: sqlite3.Connection) -> None:
    posts.remember(database, Post("meter", 1, 5), 0)
    assert [posts.has_come(database, Post("meter", 1, seq)) for seq in (4, 5, 6)] == [True, True, False]
    assert not posts.has_come(database, Post("meter", 2, 5))
    assert not posts.has_come(database, Post("clock", 1, 5))


def test_a_device_s_last_epochs_are_remembered(database: sqlite3.Connection) -> None:
    for epoch in range(10):
        posts.remember(database, Post("meter", epoch, 1), epoch * 60_000)
        posts.remember(database, Post("clock", 1, epoch + 1), epoch * 60_000)
    assert [epoch for epoch in range(10) if posts.has_come(database, Post("meter", epoch, 1))] == [6, 7, 8, 9]
    assert posts.has_come(database, Post("clock", 1, 10))


def test_the_devices_that_posted_last_are_remembered(database: sqlite3.Connection) -> None:
    for number in range(50):
        posts.remember(database, Post(f"meter-{number}", 1, 1), number * 60_000)
    posts.forget(database, keep=20)
    left = [number for number in range(50) if posts.has_come(database, Post(f"meter-{number}", 1, 1))]
    assert len(left) <= 21
    assert left == list(range(50 - len(left), 50))
