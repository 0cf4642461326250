"""A denial holds on every path by which a request can reach what it denies: nothing gets through (fault 66).

Each rule that denies is tried against each path. The vault is what must not be reached.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest

from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.issuers import NewIssuer
from gateway.control.plane import ControlPlane
from gateway.wire import brokering, frames, mimetypes
from gateway.wire.brokering import Cast
from tests.conftest import StartNode
from tests.control.key_server import ISSUER, KeyServer
from tests.local_node import LocalNode, Servant, until
from tests.rawclient import RawClient, composite, route_setup
from tests.resumable import Resumable

OPERATOR = Actor("user", "alice")
ALLOWED = ["open.*"]
VAULT_ID = b"the vault's id 1"
NOT_PERMITTED = 0x202


@dataclass
class House:
    """`vault` serves `vault`, `hall` serves `open`; they have a tag in common."""

    node: LocalNode
    vault: Servant
    hall: Servant

    @property
    def control(self) -> ControlPlane:
        assert self.node.node.control is not None
        return self.node.node.control

    async def enter(self, token: str) -> RawClient:
        client = await self.node.connect("tcp")
        client.setup(token)
        await client.ready()
        return client


@pytest.fixture
async def house(start_node: StartNode) -> House:
    """A node that lets a device ask as much as it likes."""
    node = await start_node({f"limits.device.{name}": 0 for name in ("keepalive_burst", "requests_per_second")})
    servants = []
    for name, services in (
        ("vault", (route_setup("vault", route_id=VAULT_ID, zone="cellar", lock="steel"),)),
        ("hall", (route_setup("open", zone="cellar"),)),
    ):
        client = await node.client("tcp", f"svc-{name}", serving=services)
        servants.append(Servant(client, name))
    node.servants += servants
    return House(node, *servants)


# What denies: each gives a token whose holder may call `open.*` and not the vault.


async def by_the_token(house: House) -> str:
    return house.node.token("dev-1", "device", (), tuple(ALLOWED))


async def by_the_device(house: House) -> str:
    """The token would do; the device's record does not allow it any more."""
    await house.control.devices.create(NewDevice("dev-1", routes=["*"]), by=OPERATOR)
    token = (await house.control.credentials.issue("dev-1", by=OPERATOR)).token
    await house.control.devices.update("dev-1", {"routes": ALLOWED}, by=OPERATOR)
    return token


async def by_the_issuer(house: House) -> str:
    """The issuer says that everything may be called; it is trusted with less."""
    server = KeyServer()
    server.add_key("one")
    await house.control.issuers.create(NewIssuer(ISSUER, keys=server.document(), routes=ALLOWED), by=OPERATOR)
    await asyncio.sleep(0)
    return server.token(time.time())


async def by_nothing_said(house: House) -> str:
    """Default deny."""
    return house.node.token("dev-1", "device", (), ())


DENIALS = [by_the_token, by_the_device, by_the_issuer, by_nothing_said]


# By which path: metadata that finds the vault for whoever may call it.


def to_tags(cast: Cast, *tags: tuple[str, str], route: str | None = None) -> bytes:
    more = ((brokering.SHARD_KEY, "k"),) if cast is Cast.SHARD else ()
    frame = brokering.Address(bytes(16), (*tags, *more), cast)
    return composite(route, entries=[(mimetypes.BROKER_FRAME, brokering.encode(frame))])


def _paths() -> Iterator[tuple[str, bytes]]:
    yield "route", composite("vault.door")
    yield "service", composite("vault")
    yield "path", composite("vault/door")
    for cast in Cast:
        how = cast.name.lower()
        yield f"{how} by service", to_tags(cast, (brokering.SERVICE_NAME, "vault"))
        yield f"{how} by subject", to_tags(cast, ("sub", "svc-vault"))
        yield f"{how} by route id", to_tags(cast, (brokering.ROUTE_ID, str(uuid.UUID(bytes=VAULT_ID))))
        yield f"{how} by tag", to_tags(cast, ("lock", "steel"))
        yield f"{how} under an allowed route", to_tags(cast, ("lock", "steel"), route="open.door")


PATHS = dict(_paths())
MODELS: dict[str, Callable[[int, bytes], frames.Frame]] = {
    "response": lambda number, metadata: frames.RequestResponse(number, metadata, b"1"),
    "fnf": lambda number, metadata: frames.RequestFnf(number, metadata, b"1"),
    "stream": lambda number, metadata: frames.RequestStream(number, metadata, b"1", 1),
    "channel": lambda number, metadata: frames.RequestChannel(number, metadata, b"1", 1, complete=True),
}


async def asked(client: RawClient, metadata: bytes) -> list[frames.Frame]:
    """Ask in every model; what has come when the node had seen all of it."""
    client.send(*(model(client.next_stream_id(), metadata) for model in MODELS.values()))
    return await client.barrier()


@pytest.mark.parametrize("denial", DENIALS)
async def test_no_path_leads_past_a_denial(house: House, denial: Callable[[House], Awaitable[str]]) -> None:
    """Fault 66: every way to name the vault, in every model; each gets its refusal, a fire-and-forget none."""
    client = await house.enter(await denial(house))
    for path, metadata in PATHS.items():
        answers = await asked(client, metadata)
        assert [getattr(answer, "code", None) for answer in answers] == [NOT_PERMITTED] * 3, path
    assert house.vault.heard == []
    assert house.hall.heard == []


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_leads_there_without_one(house: House, path: str) -> None:
    """So that what is tried above is not refused for another reason."""
    client = await house.enter(house.node.token("dev-1", "device"))
    client.send(*(model(client.next_stream_id(), PATHS[path]) for model in MODELS.values()))
    await until(lambda: len(house.vault.heard) >= len(MODELS))


async def test_only_the_allowed_of_a_group_are_reached(house: House) -> None:
    """Fault 66: a tag that both carry finds the hall alone, unicast, shard and multicast."""
    client = await house.enter(await by_the_token(house))
    for cast, _ in itertools.product(Cast, range(8)):
        client.send(frames.RequestFnf(client.next_stream_id(), to_tags(cast, ("zone", "cellar")), b""))
    await until(lambda: len(house.hall.got(frames.RequestFnf)) == 24)
    await client.barrier()
    assert house.vault.heard == []


async def test_what_was_decided_before(house: House) -> None:
    """Fault 66: a decision that is cached, a multicast group that is known, streams that are open, and the list of
    routes: all of it ends with the right to it."""
    await house.control.devices.create(NewDevice("dev-1", routes=["*"]), by=OPERATOR)
    client = await house.enter((await house.control.credentials.issue("dev-1", by=OPERATOR)).token)
    merged = to_tags(Cast.MULTICAST, ("zone", "cellar"))
    for metadata in (PATHS["route"], merged):
        client.send(frames.RequestStream(client.next_stream_id(), metadata, b"1", 1))
    watching = client.next_stream_id()
    client.send(frames.RequestStream(watching, composite("gateway.routes"), b"", 1000))
    await until(lambda: len(house.vault.got(frames.RequestStream)) == 2)
    assert any(b"vault" in getattr(frame, "data", b"") for frame in await client.barrier())
    await house.control.devices.update("dev-1", {"routes": ALLOWED}, by=OPERATOR)
    await until(lambda: len(house.vault.got(frames.Cancel)) == 2)
    ended = [frame for frame in await client.barrier() if isinstance(frame, frames.Error)]
    assert [frame.code for frame in ended] == [NOT_PERMITTED] * 2
    heard = len(house.vault.heard)
    assert len(await asked(client, PATHS["route"])) == 3
    client.send(frames.RequestFnf(client.next_stream_id(), merged, b""))
    await until(lambda: house.hall.got(frames.RequestFnf))
    # Another of the vault's comes: whoever may not call it does not hear of it.
    await house.node.client("tcp", "svc-vault-2", serving=("vault",))
    shown = await client.barrier()
    assert not any(b"vault" in getattr(frame, "data", b"") for frame in shown)
    assert len(house.vault.heard) == heard


class Returning(Resumable):
    """A device that comes back to its session; what it heard is in `frames`."""

    def __init__(self) -> None:
        super().__init__(b"0123456789abcdef")
        self.frames: list[frames.Frame] = []

    def heard(self, frame: frames.Frame) -> None:
        self.frames.append(frame)


async def test_after_a_resume(house: House) -> None:
    """Fault 66: what was asked before the link was lost, and what is asked behind it, with rights that went meanwhile;
    what the vault sends meanwhile is not replayed."""
    await house.control.devices.create(NewDevice("dev-1", routes=["*"]), by=OPERATOR)
    token = (await house.control.credentials.issue("dev-1", by=OPERATOR)).token
    device = Returning()
    link = await house.node.connect("tcp")
    device.begin(link.setup_frame(token, resume_token=device.token), link.send)
    device.post(frames.RequestStream(1, PATHS["route"], b"1", 1))
    await until(lambda: house.vault.got(frames.RequestStream))
    device.cut()
    link.abort()
    await until(lambda: house.node.counters.sessions_parked == 1)
    await house.control.devices.update("dev-1", {"routes": ALLOWED}, by=OPERATOR)
    await until(lambda: house.vault.got(frames.Cancel))
    # Asked while there is no link: it is replayed to the node, which refuses it.
    device.post(frames.RequestResponse(3, PATHS["route"], b""))
    device.post(frames.RequestFnf(5, PATHS["multicast by tag"], b""))
    link = await house.node.connect("tcp")
    device.resume(link.send)
    async with asyncio.timeout(30):
        while sum(isinstance(frame, frames.Error) for frame in device.frames) < 2:
            device.take(await link.recv_bytes())
    assert device.resumed == 1
    refused = {frame.stream_id: frame.code for frame in device.frames if isinstance(frame, frames.Error)}
    assert refused == {1: NOT_PERMITTED, 3: NOT_PERMITTED}
    assert [type(frame) for frame in house.vault.heard] == [frames.RequestStream, frames.Cancel]


async def test_what_may_not_be_served_is_not_asked_for(house: House) -> None:
    """Fault 66, the other side: a service that may not be offered any more gets no request for it, at SETUP, later and
    after a resume."""
    await house.control.devices.create(NewDevice("dev-1", services=["*"]), by=OPERATOR)
    token = (await house.control.credentials.issue("dev-1", by=OPERATOR)).token
    device = Returning()
    link = await house.node.connect("tcp")
    device.begin(link.setup_frame(token, ["shop"], resume_token=device.token), link.send)
    caller = await house.node.client("tcp", "caller")
    await until(lambda: house.node.node.plane.table.service("shop"))
    device.cut()
    link.abort()
    await until(lambda: house.node.counters.sessions_parked == 1)
    await house.control.devices.update("dev-1", {"services": ["{sub}.*"]}, by=OPERATOR)
    await until(lambda: not house.node.node.plane.table.service("shop"))
    link = await house.node.connect("tcp")
    device.resume(link.send)
    while device.resuming:
        device.take(await link.recv_bytes())
    number = caller.request("shop.open")
    refused = await caller.recv()
    assert isinstance(refused, frames.Error)
    assert (refused.stream_id, refused.code) == (number, 0x202)
    again = await house.node.connect("tcp")
    again.setup(token, ["shop"])
    assert isinstance(await again.recv(), frames.Error)
    assert device.frames == []
