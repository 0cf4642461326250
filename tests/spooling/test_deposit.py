"""What is stored from inside the node, such as by a bridge: told after the sync, or refused with the reason."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from gateway.errors import GatewayError
from gateway.forwarding.stream import REQUEST_FNF, REQUEST_RESPONSE
from gateway.policy.principal import Kind, Principal
from gateway.spool.message import MessageId
from gateway.spooling.deposit import Parcel
from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import AUTHENTICATION, PRINCIPAL
from tests.local_node import LocalNode, until
from tests.rawclient import composite
from tests.spooling.test_waiting import WAIT, Spooling


@pytest_asyncio.fixture
async def spooling(tmp_path: Path) -> AsyncIterator[Spooling]:
    spooling = Spooling(await LocalNode.start(tmp_path / "data"))
    yield spooling
    await spooling.local.finish()


def parcel(data: bytes, route: str = "historian.write", interaction: int = REQUEST_FNF) -> Parcel:
    now = time.time()
    bridge = Principal("mqtt.plant", Kind.SERVICE, "bridge", now, now + 60, routes=("historian.*",))
    metadata = composite(route, entries=[(AUTHENTICATION, b"secret")])
    return Parcel(bridge, interaction, metadata, data, b"sensors/1")


async def test_it_is_on_disk_and_delivered_in_its_sender_s_name(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    stored = await spooling.depot.put("wait", [parcel(b"%d" % number) for number in range(5)])
    assert all(isinstance(identity, MessageId) for identity in stored)
    (first, *_) = await spooling.outlet().spool.peek()
    assert first.id == stored[0]
    servant = await spooling.local.servant(name="historian")
    await spooling.drained()
    got = servant.got(frames.RequestFnf)
    assert [frame.data for frame in got] == [b"0", b"1", b"2", b"3", b"4"]
    entries = dict(decode_composite(got[0].metadata))
    assert json.loads(entries[PRINCIPAL])["subject"] == "mqtt.plant"
    assert AUTHENTICATION not in entries


async def test_it_goes_through_the_disk_though_the_service_is_there(spooling: Spooling) -> None:
    await spooling.apply(WAIT)
    servant = await spooling.local.servant(name="historian")
    (identity,) = await spooling.depot.put("wait", [parcel(b"1", interaction=REQUEST_RESPONSE)])
    assert isinstance(identity, MessageId)
    await until(lambda: servant.got(frames.RequestResponse))
    await spooling.drained()


async def test_what_is_refused_says_why_and_takes_none_of_the_others_with_it(spooling: Spooling) -> None:
    await spooling.apply(WAIT.replace("64MiB", "4KiB") + "maxMessage: 2KiB\n")
    stored = await spooling.depot.put(
        "wait",
        [
            parcel(b"fits"),
            parcel(bytes(3000)),
            parcel(b"?", route="other.thing"),
            parcel(b"?")._replace(metadata=b"\xfe\x00\x00\x10broken"),
            *[parcel(bytes(1500))] * 5,
        ],
    )
    assert isinstance(stored[0], MessageId)
    reasons = [each.reason for each in stored if isinstance(each, GatewayError)]
    assert reasons[:3] == ["spool_message_too_large", "spool_no_document", "malformed_metadata"]
    assert set(reasons[3:]) == {"spool_full"}
    assert spooling.waiting() == len(stored) - len(reasons)


async def test_without_a_document_nothing_is_taken(spooling: Spooling) -> None:
    (refused,) = await spooling.depot.put("wait", [parcel(b"1")])
    assert isinstance(refused, GatewayError)
    assert refused.reason == "spool_no_document"
