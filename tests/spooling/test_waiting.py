"""What waits for a service that is not there, and how it gets there: a real node, its file, real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from gateway.control.audit import Actor
from gateway.observe.flow_filter import FlowFilter
from gateway.spooling.outlet import Outlet
from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import IDEMPOTENCY_KEY, PRINCIPAL, SPOOLED
from tests.local_node import LocalNode, fnf, until
from tests.rawclient import RawClient, composite

BY = Actor("system", "tests")
WAIT = "kind: Spool\nname: wait\nmatch: [{service: historian}]\nminFree: 0%\nmaxBytes: 64MiB\n"
ANSWERED = (
    "kind: Spool\nname: wait\nmatch: [{service: historian, interaction: [fireAndForget, requestResponse]}]\n"
    "minFree: 0%\nmaxBytes: 64MiB\nqueueWhileOffline: {ttl: 1h, onlyIdempotent: false}\n"
)


class Spooling:
    """A node that is given documents."""

    def __init__(self, local: LocalNode) -> None:
        self.local = local

    @property
    def depot(self) -> Any:
        assert self.local.node.depot is not None
        return self.local.node.depot

    async def apply(self, text: str) -> None:
        assert self.local.node.control is not None
        await self.local.node.control.documents.apply(text, by=BY)
        await until(lambda: self.depot.store is not None)

    def outlet(self, name: str = "wait/historian") -> Outlet:
        found: Outlet = self.depot.outlets[name]
        return found

    def waiting(self, name: str = "wait/historian") -> int:
        return self.outlet(name).spool.messages if name in self.depot.outlets else 0

    async def drained(self, name: str = "wait/historian", timeout: float = 30) -> None:
        await until(lambda: not self.waiting(name) and not self.outlet(name).behind, timeout)

    async def restart(self) -> None:
        """The node goes and comes back on the same data."""
        config = self.local.node.config
        await self.local.leave()
        await self.local.stop()
        self.local = await LocalNode.start(config.node.data)


@pytest_asyncio.fixture
async def spooling(tmp_path: Path) -> AsyncIterator[Spooling]:
    spooling = Spooling(await LocalNode.start(tmp_path / "data"))
    yield spooling
    await spooling.local.finish()


async def ask(client: RawClient, data: bytes, *, key: bytes | None = None, route: str = "historian.write") -> Any:
    """The frame that a request/response is answered with."""
    number = client.next_stream_id()
    entries = [] if key is None else [(IDEMPOTENCY_KEY, key)]
    client.send(frames.RequestResponse(number, composite(route, entries=entries), data))
    while True:
        frame = await client.recv(20)
        if getattr(frame, "stream_id", 0) == number:
            return frame


def told(frame: Any) -> dict[str, Any]:
    entries = dict(decode_composite(frame.metadata))
    document: dict[str, Any] = json.loads(entries[SPOOLED])
    return document


async def test_a_message_waits_for_its_service_and_is_delivered_once(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    device = await spooling.local.client(subject="kitchen")
    device.send(*(fnf(device, "historian.write", b"%d" % number) for number in range(10)))
    await until(lambda: spooling.waiting() == 10)
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    got = servant.got(frames.RequestFnf)
    assert [frame.data for frame in got] == [b"%d" % number for number in range(10)]
    entries = dict(decode_composite(got[0].metadata))
    assert json.loads(entries[PRINCIPAL])["subject"] == "kitchen"
    marks = [told(frame) for frame in got]
    assert [mark["seq"] for mark in marks] == list(range(1, 11))
    assert {mark["node"] for mark in marks} == {spooling.local.node.identity.node_id}
    assert not any(mark["redelivered"] for mark in marks)
    # From now on they do not wait.
    device.send(fnf(device, "historian.write", b"live"))
    await until(lambda: len(servant.got(frames.RequestFnf)) == 11)
    assert SPOOLED not in dict(decode_composite(servant.got(frames.RequestFnf)[10].metadata))
    assert spooling.outlet().spool.appended == 10


async def test_the_flow_log_says_what_waits_and_what_has_arrived(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    viewing = spooling.local.node.flow_log.view(FlowFilter.parse('spool.name == "wait/historian"'))
    ring = spooling.local.node.plane.flows
    assert ring is not None
    device = await spooling.local.client(subject="kitchen")
    device.send(fnf(device, "historian.write", b"12345"))
    await until(lambda: spooling.waiting() == 1)
    await spooling.local.servant(name="historian")
    await spooling.drained()
    spooling.outlet().spool.lose("expired", 2)
    told = [ring.record(number) for number in range(ring.oldest, ring.latest + 1)]
    told = [record for record in told if record["spool"] is not None]
    assert [(record["verdict"], record["reason"]) for record in told] == [
        ("QUEUED", ""),
        ("FORWARDED", "spool"),
        ("EXPIRED", "expired"),
        ("EXPIRED", "expired"),
    ]
    for record in told[:2]:
        assert (record["source"]["id"], record["route"], record["bytes"]) == ("kitchen", "historian.write", 5)
        assert record["spool"] == {"name": "wait/historian", "seq": told[0]["spool"]["seq"]}
        assert record["spool"]["seq"].endswith("/1")
    viewing.close()


async def test_a_node_without_documents_opens_no_file(spooling: Spooling) -> None:
    client = await spooling.local.client()
    client.send(fnf(client, "historian.write", b"lost"))
    frame = await ask(client, b"?")
    assert isinstance(frame, frames.Error)
    assert spooling.depot.store is None
    assert spooling.local.node.plane.intake is None
    assert not (spooling.local.node.config.node.data / "spool.sqlite3").exists()


async def test_a_request_gets_a_receipt_when_it_is_on_disk(spooling: Spooling) -> None:
    await spooling.apply(ANSWERED)
    client = await spooling.local.client()
    frame = await ask(client, b"a")
    assert isinstance(frame, frames.Payload)
    receipt = json.loads(frame.data)
    assert receipt["spool"] == "wait/historian"
    assert receipt["id"].startswith(f"{spooling.local.node.identity.node_id}/")
    assert told(frame) == receipt
    (waiting,) = await spooling.outlet().spool.peek()
    assert str(waiting.id) == receipt["id"]
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    assert [frame.data for frame in servant.got(frames.RequestResponse)] == [b"a"]
    answer = await ask(client, b"live")
    assert answer.data == b"live"


async def test_only_what_is_idempotent_waits_where_the_document_says_so(spooling: Spooling) -> None:
    await spooling.apply(ANSWERED.replace("false", "true"))
    client = await spooling.local.client()
    frame = await ask(client, b"a")
    assert isinstance(frame, frames.Error)
    assert frame.text == "no route to historian.write"
    assert isinstance(await ask(client, b"b", key=b"order-7"), frames.Payload)
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    (request,) = servant.got(frames.RequestResponse)
    assert dict(decode_composite(request.metadata))[IDEMPOTENCY_KEY] == b"order-7"


async def test_streams_do_not_wait(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    client = await spooling.local.client()
    client.send(frames.RequestStream(1, composite("historian.read"), b"", initial_n=1))
    frame = await client.recv()
    assert isinstance(frame, frames.Error)
    assert frame.text == "no route to historian.read"
    # Nor does what the document says nothing of.
    assert isinstance(await ask(client, b"a"), frames.Error)
    assert isinstance(await ask(client, b"a", route="other.thing"), frames.Error)
    assert spooling.depot.outlets == {}


async def test_streams_are_served_while_others_wait(spooling: Spooling) -> None:
    """The service is there, what waits has not been delivered yet: another kind of request goes past it."""
    await spooling.apply(WAIT.replace("[{service: historian}]", "[{service: historian}]\nacknowledge: true"))
    client = await spooling.local.client()
    client.send(fnf(client, "historian.write", b"1"))
    await until(lambda: spooling.waiting() == 1)
    silent = await spooling.local.client(subject="svc-historian", serving=("historian",))
    request = await silent.recv(20)
    assert isinstance(request, frames.RequestResponse)
    assert request.data == b"1"
    assert spooling.outlet().behind
    number = client.next_stream_id()
    client.send(frames.RequestStream(number, composite("historian.write"), b"100", initial_n=1))
    stream = await silent.recv(20)
    assert isinstance(stream, frames.RequestStream)
    silent.send(frames.Payload(stream.stream_id, None, b"item", next=True, complete=True))
    item = await client.recv(20)
    assert (item.stream_id, item.data) == (number, b"item")
    silent.send(frames.Payload(request.stream_id, None, b"", next=True, complete=True))
    await spooling.drained()


async def test_what_is_new_waits_behind_what_is_old(spooling: Spooling) -> None:
    """Order per key, over the moment at which the service comes back and a busy sender (fault 1.0)."""
    await spooling.apply(WAIT)
    device = await spooling.local.client(subject="kitchen")
    sent = 0
    stop = asyncio.Event()

    async def talk() -> None:
        nonlocal sent
        while not stop.is_set():
            device.send(*(fnf(device, "historian.write", b"%d" % (sent + number)) for number in range(20)))
            sent += 20
            await asyncio.sleep(0.005)

    talking = asyncio.create_task(talk())
    await until(lambda: spooling.waiting() > 500)
    servant = await spooling.local.servant(name="historian")
    await until(lambda: not spooling.outlet().behind)
    live_from = spooling.outlet().spool.appended
    await until(lambda: len(servant.got(frames.RequestFnf)) > live_from + 200)
    stop.set()
    await talking
    await until(lambda: len(servant.got(frames.RequestFnf)) == sent)
    assert [int(frame.data) for frame in servant.got(frames.RequestFnf)] == list(range(sent))
    await spooling.drained()
    assert spooling.outlet().spool.appended < sent


async def test_a_service_that_goes_and_comes_back(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    device = await spooling.local.client(subject="kitchen")
    numbers: list[int] = []
    for life in range(3):
        device.send(*(fnf(device, "historian.write", b"%d" % (life * 100 + number)) for number in range(100)))
        await until(lambda: spooling.waiting() == 100)
        servant = await spooling.local.servant(name="historian")
        await spooling.drained()
        numbers += [int(frame.data) for frame in servant.got(frames.RequestFnf)]
        await servant.stop()
        await servant.client.close()
        await until(lambda: spooling.local.node.plane.table.service("historian") is None)
    assert numbers == list(range(300))


async def test_what_was_not_confirmed_is_sent_again_and_says_so(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    device = await spooling.local.client(subject="kitchen")
    device.send(fnf(device, "historian.write", b"1"))
    await until(lambda: spooling.waiting() == 1)
    # It takes the message, and goes before it answers the KEEPALIVE behind it.
    first = await spooling.local.client(subject="svc-historian", serving=("historian",))
    one = await first.recv(20)
    await first.close()
    assert not told(one)["redelivered"]
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    (again,) = servant.got(frames.RequestFnf)
    assert told(again)["redelivered"]
    assert {name: told(again)[name] for name in ("epoch", "seq")} == {
        name: told(one)[name] for name in ("epoch", "seq")
    }


async def test_a_restart_with_a_backlog(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    device = await spooling.local.client(subject="kitchen")
    device.send(*(fnf(device, "historian.write", b"%d" % number) for number in range(50)))
    await until(lambda: spooling.waiting() == 50)
    await spooling.restart()
    assert spooling.waiting() == 50
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    got = servant.got(frames.RequestFnf)
    assert [int(frame.data) for frame in got] == list(range(50))
    # It may have been sent before the node went.
    assert all(told(frame)["redelivered"] for frame in got)


async def test_what_waits_outlives_its_document(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    device = await spooling.local.client(subject="kitchen")
    device.send(fnf(device, "historian.write", b"1"))
    await until(lambda: spooling.waiting() == 1)
    assert spooling.local.node.control is not None
    await spooling.local.node.control.documents.delete("Spool", "wait", by=BY)
    device.send(fnf(device, "historian.write", b"2"))
    await until(lambda: spooling.local.counters.refusals.get("no_route") == 1)
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    assert [frame.data for frame in servant.got(frames.RequestFnf)] == [b"1"]


async def test_a_revoked_sender_s_messages_are_dropped_and_counted(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    for name in ("good", "bad"):
        device = await spooling.local.client(subject=name, kind="device")
        device.send(fnf(device, "historian.write", name.encode()))
        await device.close()
    await until(lambda: spooling.waiting() == 2)
    control = spooling.local.node.control
    assert control is not None
    await control.revocations.revoke_subject("bad", reason="stolen", by=BY)
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    assert [frame.data for frame in servant.got(frames.RequestFnf)] == [b"good"]
    assert spooling.outlet().spool.lost == {"revoked": 1}


async def test_who_may_not_call_it_cannot_let_it_wait(spooling: Spooling) -> None:
    await spooling.apply(ANSWERED)
    client = await spooling.local.connect()
    client.setup(spooling.local.token("meddler", routes=("other.*",)), ())
    await client.ready()
    frame = await ask(client, b"a")
    assert isinstance(frame, frames.Error)
    assert "may not call" in frame.text
    assert spooling.depot.outlets == {}


async def test_a_message_in_fragments(spooling: Spooling) -> None:
    await spooling.apply(ANSWERED)
    client = await spooling.local.client()
    number = client.next_stream_id()
    metadata = composite("historian.write")
    client.send(
        frames.RequestResponse(number, metadata, b"a" * 100, follows=True),
        frames.Payload(number, None, b"b" * 100, next=True, follows=True),
        frames.Payload(number, None, b"c" * 100, next=True),
    )
    frame = await client.recv(20)
    assert isinstance(frame, frames.Payload)
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    assert servant.got(frames.RequestResponse)[0].data == b"a" * 100 + b"b" * 100 + b"c" * 100


async def test_a_full_spool_says_no_and_counts(spooling: Spooling) -> None:
    await spooling.apply(ANSWERED.replace("64MiB", "4KiB") + "maxMessage: 2KiB\n")
    client = await spooling.local.client()
    answers = [await ask(client, bytes(1000)) for _ in range(5)]
    refused = [frame for frame in answers if isinstance(frame, frames.Error)]
    assert refused
    assert {frame.code for frame in refused} == {frames.ErrorCode.REJECTED}
    assert spooling.outlet().spool.refused["spool_full"] == len(refused)
    too_large = await ask(client, bytes(3000))
    assert too_large.code == frames.ErrorCode.INVALID
    counters = spooling.local.counters.refusals
    assert (counters["spool_full"], counters["spool_message_too_large"]) == (len(refused), 1)
    client.send(fnf(client, "historian.write", bytes(1000)))
    await until(lambda: counters["spool_full"] == len(refused) + 1)


async def test_the_oldest_goes_where_the_document_says_so(spooling: Spooling) -> None:
    await spooling.apply(WAIT.replace("64MiB", "8KiB") + "whenFull: dropOldest\nmaxMessage: 2KiB\n")
    client = await spooling.local.client()
    for number in range(20):
        client.send(fnf(client, "historian.write", b"%4d" % number + bytes(1000)))
    await until(lambda: spooling.waiting() and spooling.outlet().spool.appended == 20)
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    got = [int(frame.data[:4]) for frame in servant.got(frames.RequestFnf)]
    assert got == list(range(20))[-len(got) :]
    assert spooling.outlet().spool.lost == {"evicted": 20 - len(got)}
    assert [alarm.slug for alarm in spooling.local.node.control.alarms if alarm.slug == "spool_lost"]  # type: ignore[union-attr]


async def test_an_error_is_an_answer_and_a_refusal_is_none(spooling: Spooling) -> None:
    await spooling.apply(WAIT + "acknowledge: true\nkey: none\n")
    client = await spooling.local.client()
    for text in (b"broken", b"busy"):
        client.send(fnf(client, "historian.write", text))
    await until(lambda: spooling.waiting() == 2)
    service = await spooling.local.client(subject="svc-historian", serving=("historian",))
    heard: list[bytes] = []
    while len(heard) < 3:
        frame = await service.recv(20)
        if isinstance(frame, frames.RequestResponse):
            heard.append(frame.data)
            if heard.count(b"busy") == 1 and frame.data == b"busy":
                service.send(frames.Error(frame.stream_id, frames.ErrorCode.REJECTED, "later"))
            elif frame.data == b"busy":
                service.send(frames.Payload(frame.stream_id, None, b"", next=True, complete=True))
            else:
                service.send(frames.Error(frame.stream_id, frames.ErrorCode.APPLICATION_ERROR, "never"))
    await spooling.drained()
    assert sorted(heard) == [b"broken", b"busy", b"busy"]
    assert spooling.outlet().spool.lost == {"failed": 1}


async def test_age(spooling: Spooling) -> None:
    await spooling.apply(WAIT + "maxAge: 300ms\n")
    client = await spooling.local.client()
    client.send(fnf(client, "historian.write", b"old"))
    await until(lambda: spooling.depot.outlets and spooling.outlet().spool.lost == {"expired": 1})
    await until(lambda: spooling.waiting() == 0)


async def test_a_file_that_cannot_be_opened_stops_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "spool.sqlite3").mkdir()
    spooling = Spooling(await LocalNode.start(tmp_path / "data"))
    control = spooling.local.node.control
    assert control is not None
    await control.documents.apply(ANSWERED, by=BY)
    await until(lambda: any(alarm.slug == "spool_unavailable" for alarm in control.alarms))
    client = await spooling.local.client()
    frame = await ask(client, b"a")
    assert frame.code == frames.ErrorCode.REJECTED
    assert "nothing can wait here" in frame.text
    await spooling.local.servant(name="historian")
    assert (await ask(client, b"live")).data == b"live"
    await spooling.local.finish()


async def test_no_client_can_say_that_a_message_has_waited(spooling: Spooling) -> None:
    """Whoever believes an id drops what has it already: one that was made up must not get through."""
    await spooling.apply(WAIT)
    client = await spooling.local.client()
    forged = json.dumps({"node": "x", "epoch": 1, "seq": 1}).encode()
    number = client.next_stream_id()
    client.send(frames.RequestFnf(number, composite("historian.write", entries=[(SPOOLED, forged)]), b"waits"))
    await until(lambda: spooling.waiting() == 1)
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    number = client.next_stream_id()
    client.send(frames.RequestFnf(number, composite("historian.write", entries=[(SPOOLED, forged)]), b"live"))
    await until(lambda: len(servant.got(frames.RequestFnf)) == 2)
    waited, live = servant.got(frames.RequestFnf)
    assert [mime for mime, _ in decode_composite(waited.metadata)].count(SPOOLED) == 1
    assert told(waited)["node"] == spooling.local.node.identity.node_id
    assert SPOOLED not in dict(decode_composite(live.metadata))
