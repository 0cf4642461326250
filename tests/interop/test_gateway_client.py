"""The gateway's own client for browsers, in Node.js: with itself, with rsocket-js, and when the network is bad."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.control.audit import Actor
from gateway.control.enrolments import Enrolled, NewEnrolment
from gateway.wire import frames, mimetypes
from tests.conftest import StartNode
from tests.interop.conftest import Fleet, Node
from tests.interop.interactions import InteractionModels, Line, until
from tests.interop.peers import (
    CUSTOM_ERROR,
    FRAGMENT_BYTES,
    GATEWAY_CLIENT,
    HERE,
    RSOCKET_JS,
    RSOCKET_PY,
    Library,
    Peer,
    RemoteError,
)
from tests.interop.test_stock_clients import RawService
from tests.local_node import until as local_until
from tests.rawclient import RawClient
from tests.relay import Relay
from tests.test_renewal import lapsed

PAYLOAD = "".join(chr(0x61 + number % 26) for number in range(200_000))
REJECTED_SETUP, APPLICATION_ERROR, REJECTED, INVALID = 0x003, 0x201, 0x202, 0x204
SERVICE = "browser"

pytestmark = [
    pytest.mark.xdist_group("interop"),
    # Deselected with its reason where npm is missing.
    pytest.mark.parametrize("client", [GATEWAY_CLIENT], ids=str, scope="module"),
]


@pytest.fixture(scope="module")
def peer(client: Library, node: Node, token: str) -> Iterator[Peer]:
    with Peer(client) as peer:
        open_link(peer, "ws", node, token, services=[SERVICE])
        yield peer


def open_link(peer: Peer, connection: str, node: Node, token: str, **options: Any) -> dict[str, Any]:
    answer = peer.command("connect", connection=connection, url=node.url("ws"), token=token, **options)
    return dict(json.loads(answer["data"]))


def statuses(peer: Peer, connection: str) -> list[dict[str, Any]]:
    return list(json.loads(peer.command("statuses", connection=connection)["data"])["statuses"])


@pytest.fixture(params=["itself", "to rsocket-js", "from rsocket-js", "to rsocket-py"])
def line(request: pytest.FixtureRequest, peer: Peer, fleet: Fleet) -> Line:
    if request.param == "itself":
        return Line(peer, "ws", SERVICE)
    if request.param == "to rsocket-py":
        fleet.peer(RSOCKET_PY)
        return Line(peer, "ws", fleet.service(RSOCKET_PY, "tcp"))
    stock = fleet.peer(RSOCKET_JS)
    if request.param == "from rsocket-js":
        return Line(stock, "ws", SERVICE)
    return Line(peer, "ws", fleet.service(RSOCKET_JS, "ws"))


@pytest.fixture
def codes() -> tuple[int, int]:
    return CUSTOM_ERROR, CUSTOM_ERROR


class TestInteractionModels(InteractionModels):
    payload = PAYLOAD


def test_its_frames_are_those_of_the_vectors(client: Library) -> None:
    done = subprocess.run(
        ["node", HERE / "js" / "gateway-client" / "vectors.js"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[0]) > 200


def test_frames_are_no_longer_than_told(peer: Peer, node: Node, token: str) -> None:
    async def sizes() -> list[int]:
        async with await RawClient.connect_tcp(node.tcp_port) as raw:
            name = f"raw-{uuid.uuid4()}"
            raw.setup(token, [name])
            await raw.ready()
            service = RawService(raw, name)
            running = asyncio.create_task(service.run())
            ask = asyncio.to_thread(peer.request, "short", f"{name}.echo", "x" * 20_000)
            assert await ask == "x" * 20_000
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return service.request_frame_sizes

    open_link(peer, "short", node, token, fragment_bytes=FRAGMENT_BYTES)
    found = asyncio.run(sizes())
    assert len(found) > 19
    # The first one has the metadata that the node added, too.
    assert max(found[1:]) <= FRAGMENT_BYTES


@pytest.fixture
async def raw(node: Node, token: str) -> AsyncIterator[RawClient]:
    async with await RawClient.connect_tcp(node.tcp_port) as client:
        client.setup(token, ["counting"])
        await client.ready()
        yield client


@pytest.mark.parametrize(("window", "grants"), [(1, [1, 1, 1, 1, 1]), (4, [4, 2, 2])])
async def test_who_takes_five_gets_five(peer: Peer, raw: RawClient, window: int, grants: list[int]) -> None:
    """Credit follows what a loop takes; with a window of one nothing comes that was not taken."""
    asked = asyncio.create_task(
        asyncio.to_thread(peer.command, "loop", connection="ws", route="counting.up", credit=window, take=5)
    )
    seen, sent = [], 0
    while not isinstance(frame := await raw.recv(20), frames.Cancel):
        assert isinstance(frame, frames.RequestStream | frames.RequestN), frame
        more = frame.initial_n if isinstance(frame, frames.RequestStream) else frame.n
        seen.append(more)
        for _ in range(more):
            raw.send(frames.Payload(frame.stream_id, None, str(sent).encode(), next=True))
            sent += 1
    assert (await asked)["items"] == ["0", "1", "2", "3", "4"]
    assert seen == grants


class TestBounds:
    """Nobody makes it hold more than its options say."""

    def test_of_a_payload(self, peer: Peer, node: Node, token: str) -> None:
        """P42: what comes in fragments without an end is given up, as an answer and as a request."""
        open_link(peer, "small", node, token, services=["small"], options={"maxPayload": 10_000})
        with pytest.raises(RemoteError, match="longer than 10000 bytes"):
            peer.request("small", f"{SERVICE}.echo", PAYLOAD)
        with pytest.raises(RemoteError, match="longer than 10000 bytes") as caught:
            peer.request("ws", "small.echo", PAYLOAD)
        assert caught.value.code == INVALID
        assert peer.request("ws", "small.echo", "short") == "short"

    def test_of_handlers(self, peer: Peer, node: Node, token: str) -> None:
        open_link(peer, "busy", node, token, services=["busy"], options={"maxServing": 2})
        answers = peer.command("burst", connection="ws", route="busy.slow", count=5, every=100, settle=True)["items"]
        assert sorted(answers) == ["0", "1", *["REJECTED: busy"] * 3]

    def test_of_calls_that_wait(self, peer: Peer) -> None:
        options = {"maxWaiting": 3, "timeout": 200}
        peer.command("connect", connection="waiting", url="ws://127.0.0.1:1/", token="", wait=False, options=options)
        args = {"connection": "waiting", "route": "any", "count": 5, "every": 100, "settle": True}
        answers = peer.command("burst", **args)["items"]
        peer.command("close", connection="waiting")
        assert all(answer.startswith("UNREACHABLE: ") for answer in answers)
        assert sum("3 calls wait for a connection" in answer for answer in answers) == 2


class TestServing:
    def test_it_is_told_who_calls(self, peer: Peer) -> None:
        caller = peer.ask("ws", f"{SERVICE}.caller")
        assert (caller["subject"], caller["kind"]) == ("interop", "service")
        seen = [mime for mime, _ in peer.ask("ws", f"{SERVICE}.seen")]
        assert seen[0] == mimetypes.ROUTING
        assert mimetypes.AUTHENTICATION not in seen

    def test_an_exception_s_text_stays_here(self, peer: Peer) -> None:
        with pytest.raises(RemoteError) as caught:
            peer.request("ws", f"{SERVICE}.break")
        assert (caught.value.code, caught.value.text) == (APPLICATION_ERROR, "TypeError")

    def test_a_caller_that_gives_up(self, peer: Peer) -> None:
        """CANCEL reaches the handler as its signal, after a timeout as after an abort."""
        for how in ({"timeout": 50}, {"abort": 50}):
            before = peer.ask("ws", f"{SERVICE}.notes").count("left")
            with pytest.raises(RemoteError, match=r"no answer|TimeoutError"):
                peer.request("ws", f"{SERVICE}.never", **how)
            until(lambda count=before: peer.ask("ws", f"{SERVICE}.notes").count("left") > count, "the handler ended")

    def test_nobody_there(self, peer: Peer) -> None:
        with pytest.raises(RemoteError, match="no route") as caught:
            peer.request("ws", "nobody.home")
        assert caught.value.code == REJECTED


class TestBadNetwork:
    def test_resume_loses_and_doubles_nothing(self, peer: Peer, node: Node, token: str) -> None:
        """Its socket is torn while it serves a stream and while it takes one, five times each."""
        for name in ("torn-caller", "torn-service"):
            open_link(peer, name, node, token, services=[name])
        key = str(uuid.uuid4())
        asked = json.dumps({"key": key, "count": 1500})
        for torn, server in (("torn-caller", SERVICE), ("ws", "torn-service")):
            args = {"connection": torn, "route": f"{server}.items", "data": asked, "credit": 16, "take": 1500}
            cuts = [100, 101, 500, 900, 1300]
            cut_of = "torn-caller" if torn != "ws" else "torn-service"
            got = peer.command("loop", **args, cuts=cuts, cut_of=cut_of)
            assert got["items"] == [str(number) for number in range(1500)]
            online = [status for status in statuses(peer, cut_of) if status["state"] == "online"]
            assert [status["resumed"] for status in online] == [False] + [True] * (len(online) - 1)
            assert len(online) >= 5

    def test_requests_under_way_are_answered_after_a_resume(self, peer: Peer, node: Node, token: str) -> None:
        open_link(peer, "burst", node, token)
        answers = peer.command("burst", connection="burst", route=f"{SERVICE}.slow", count=60, every=20)
        assert answers["items"] == [str(number) for number in range(60)]

    def test_without_resume(self, peer: Peer, node: Node, token: str) -> None:
        """What was under way is lost, and said to be; the link comes back, and what it serves."""
        options = {"resume": 0}
        open_link(peer, "plain", node, token, services=["plain"], options=options)
        args = {"connection": "plain", "credit": 4, "take": 300}
        asked = json.dumps({"key": "plain", "count": 1000})
        with pytest.raises(RemoteError, match="the connection ended"):
            peer.command("loop", **args, route=f"{SERVICE}.items", data=asked, cuts=[100])
        peer.command("online", connection="plain")
        assert peer.request("ws", "plain.echo", "back") == "back"
        asked = json.dumps({"key": str(uuid.uuid4()), "count": 1000})
        again = peer.command("loop", **args, route=f"{SERVICE}.items", data=asked, cuts=[100], subscribe=True)
        assert again["items"][:100] == [str(number) for number in range(100)]
        assert len(again["items"]) == 300
        states = [status["state"] for status in statuses(peer, "plain")]
        assert states[:4] == ["connecting", "online", "waiting", "connecting"]

    def test_a_refused_token_is_told_with_its_reason(self, peer: Peer, node: Node) -> None:
        with pytest.raises(RemoteError, match="token") as caught:
            open_link(peer, "refused", node, "garbage", options={"reconnect": False})
        assert caught.value.code == REJECTED_SETUP
        ended = statuses(peer, "refused")[-1]
        assert ended["state"] == "closed"
        assert ended["reason"].startswith("REJECTED_SETUP: ")

    def test_nobody_listens(self, peer: Peer, node: Node, token: str) -> None:
        gone = Node(node.data, 1, 1)
        with pytest.raises(RemoteError, match=r"nobody answers at ws://127\.0\.0\.1:1/"):
            open_link(peer, "gone", gone, token, options={"reconnect": False})


def test_leases_are_kept_to(peer: Peer, node: Node, token: str) -> None:
    assert open_link(peer, "lent", node, token, options={"lease": True})["lease"]
    assert peer.request("lent", f"{SERVICE}.echo", "lent") == "lent"


def test_metadata_push(peer: Peer) -> None:
    peer.command("push", connection="ws", data="hello")
    assert peer.request("ws", f"{SERVICE}.echo", "still here") == "still here"


class TestTime:
    """On a node in this process, whose clocks and bounds are the test's."""

    async def test_a_line_that_has_gone_silent_is_left(self, start_node: StartNode, peer: Peer) -> None:
        """P12: what was asked into the silence is answered over the next line."""
        local = await start_node({"limits.keepalive_min_ms": 100})
        await local.servant("tcp", "echo")
        async with Relay(local.node.websocket_port) as relay:
            args = {"url": f"ws://127.0.0.1:{relay.port}/rsocket", "token": local.token(), "keepalive_ms": 150}
            await asyncio.to_thread(peer.command, "connect", connection="silent", lifetime_ms=500, **args)
            assert await asyncio.to_thread(peer.request, "silent", "echo.it", "before") == "before"
            relay.silence()
            assert await asyncio.to_thread(peer.request, "silent", "echo.it", "into silence") == "into silence"
            said = await asyncio.to_thread(statuses, peer, "silent")
            await asyncio.to_thread(peer.command, "close", connection="silent")
        waiting = [status for status in said if status["state"] == "waiting"]
        assert waiting[0]["reason"].startswith("LOST: nothing came for")
        assert said[-1]["resumed"]

    async def test_keepalives_hold_a_line(self, start_node: StartNode, peer: Peer) -> None:
        """P10, P12: through several lifetimes, on either side."""
        local = await start_node({"limits.keepalive_min_ms": 100})
        url = f"ws://127.0.0.1:{local.node.websocket_port}/rsocket"
        args = {"url": url, "token": local.token(kind="device"), "keepalive_ms": 100, "lifetime_ms": 300}
        await asyncio.to_thread(peer.command, "connect", connection="quiet", **args)
        await local_until(lambda: local.counters.keepalives >= 10)
        said = await asyncio.to_thread(statuses, peer, "quiet")
        await asyncio.to_thread(peer.command, "close", connection="quiet")
        assert [status["state"] for status in said] == ["connecting", "online"]

    async def test_renewal(self, start_node: StartNode, peer: Peer) -> None:
        """In time, without a reconnect; and by proof with a token that has run out."""
        local = await start_node({"auth.leeway_s": 0})
        url = f"ws://127.0.0.1:{local.node.websocket_port}/rsocket"

        async def device(name: str, ttl_s: float) -> Enrolled:
            control = local.node.control
            assert control is not None
            new = NewEnrolment(services=["{sub}.*"], routes=["{sub}.*"])
            _, token = await control.enrolments.create(new, by=Actor("user", "alice"))
            return await control.enrolments.redeem(token, device_id=name, ttl_s=ttl_s, by=Actor("device", name))

        late, early = await device("late", 1), await device("early", 3)
        args = {"connection": "early", "url": url, "token": early.token, "services": ["early"]}
        await asyncio.to_thread(peer.command, "connect", **args, secret=early.secret)
        await lapsed(local, late.token)
        args = {"connection": "late", "url": url, "token": late.token, "services": ["late"]}
        await asyncio.to_thread(peer.command, "connect", **args, secret=late.secret)
        assert await asyncio.to_thread(peer.request, "late", "late.echo", "proven") == "proven"
        await lapsed(local, early.token)
        assert await asyncio.to_thread(peer.request, "early", "early.echo", "renewed") == "renewed"
        for name, states in (("early", ["connecting", "online"]), ("late", ["connecting", "connecting", "online"])):
            said = json.loads((await asyncio.to_thread(peer.command, "statuses", connection=name))["data"])
            assert [status["state"] for status in said["statuses"]] == states
            assert len(said["saved"]) == 1
            await asyncio.to_thread(peer.command, "close", connection=name)

    async def test_a_draining_node(self, start_node: StartNode, peer: Peer) -> None:
        """What is under way is answered; then the link looks for a node again."""
        local = await start_node()
        url = f"ws://127.0.0.1:{local.node.websocket_port}/rsocket"
        answering = await local.client("tcp", serving=("late",))
        await asyncio.to_thread(peer.command, "connect", connection="drained", url=url, token=local.token())
        asked = asyncio.create_task(asyncio.to_thread(peer.request, "drained", "late.it", ""))
        frame = await answering.recv()
        assert isinstance(frame, frames.RequestResponse)
        stopping = asyncio.create_task(local.stop())
        told = await answering.recv()  # those who serve are told after those who ask
        assert isinstance(told, frames.Error)
        answering.send(frames.Payload(frame.stream_id, None, b"at last", next=True, complete=True))
        assert await asked == "at last"
        assert (await asyncio.to_thread(statuses, peer, "drained"))[2]["state"] == "waiting"
        await asyncio.to_thread(peer.command, "close", connection="drained")
        await stopping
