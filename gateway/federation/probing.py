"""How long a request takes from one node of the federation to another, over the links between them.

`gateway.ping` `{"to": id}` goes hop by hop, as far as the direction rule allows, to the node that it names; the answer
names the nodes on the way. `gateway.latency` `{"from", "to", "count"}` goes to the first of two nodes in the same way
and has it ask the other one so many times, one after the other. Both are for nodes.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import FederationError, NoRoute, Overloaded, RequestError, RequestInvalid
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.links import DOWNLINK, LOCAL, MAY_GO, PEER, UPLINK
from gateway.forwarding.services import NodeServices
from gateway.wire.frames import FrameType

if TYPE_CHECKING:
    from gateway.federation.federation import Federation
    from gateway.federation.link import Link

#: Probes of one measurement, and of how many at once others may have this node do.
MAX_COUNT: Final = 1000
MAX_AT_ONCE: Final = 4
#: How long one probe may take, in seconds.
PROBE_S: Final = 5.0


class Probing:
    """The two services of one node, and what they are asked for from here."""

    def __init__(self, federation: Federation, services: NodeServices) -> None:
        self._federation = federation
        self._tasks: set[asyncio.Task[None]] = set()
        services.offer("ping", FrameType.REQUEST_RESPONSE, self._ping)
        services.offer("latency", FrameType.REQUEST_RESPONSE, self._latency)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def measure(self, start: bytes, end: bytes, count: int) -> dict[str, Any]:
        """Round trips from one node to another, in milliseconds; `path` names the nodes from the first to the last.

        Raises:
            FederationError: no link leads there, or nobody answers; the text says who.
        """
        if start == self._own:
            return await self._probe(end, count)
        asked = {"from": _text(start), "to": _text(end), "count": count}
        async with asyncio.timeout(PROBE_S * (count + 1)):
            return dict(await self._ask(self._next(start, LOCAL), "gateway.latency", asked))

    @property
    def _own(self) -> bytes:
        return self._federation.plane.node_id

    async def _probe(self, end: bytes, count: int) -> dict[str, Any]:
        plane = self._federation.plane
        times: list[float] = []
        path: list[str] = []
        for _ in range(count):
            began = plane.monotonic()
            if end != self._own:
                try:
                    async with asyncio.timeout(PROBE_S):
                        said = await self._ask(self._next(end, LOCAL), "gateway.ping", {"to": _text(end)})
                except TimeoutError:
                    continue
                path = [str(name) for name in said["path"]]
            times.append((plane.monotonic() - began) * 1000)
        if not times:
            raise FederationError(f"no answer within {PROBE_S:g} s", reason="unreachable")
        times.sort()
        return {
            "path": [plane.node, *path],
            "count": count,
            "lost": count - len(times),
            "min_ms": round(times[0], 3),
            "p50_ms": round(times[len(times) // 2], 3),
            "p99_ms": round(times[min(len(times) - 1, len(times) * 99 // 100)], 3),
            "max_ms": round(times[-1], 3),
        }

    def _next(self, node: bytes, side: int) -> Link:
        """The link over which a node is reached that a request from `side` may take. Raises FederationError."""
        federation = self._federation
        may = MAY_GO[side]
        links = [link for link in federation.links.values() if link.usable and link.side in may]
        for wanted in (DOWNLINK, PEER, UPLINK):
            for link in links:
                if link.side == wanted and node in link.intake.names and link.node:
                    return link
        if federation.uplink is not None and UPLINK in may:
            return federation.uplink
        raise FederationError(f"no link of {federation.plane.node} leads to {_text(node)}", reason="unreachable")

    def _ask(self, link: Link, route: str, asked: dict[str, Any]) -> Awaitable[Any]:
        answer: asyncio.Future[Any] = self._federation.loop.create_future()

        def then(document: Any) -> None:
            if not answer.done():
                answer.set_result(document)

        def failed(text: str) -> None:
            if not answer.done():
                answer.set_exception(FederationError(text, reason="unreachable"))

        link.ask(route, json.dumps(asked).encode(), then, failed)
        return answer

    # What links ask

    def _ping(self, exchange: Exchange) -> None:
        self._federation.of(exchange)
        node = _node(_asked(exchange).get("to"))
        name = self._federation.plane.node
        if node == self._own:
            exchange.reply(_json({"path": [name]}))
            return
        self._pass_on(exchange, node, lambda said: {"path": [name, *said["path"]]})

    def _latency(self, exchange: Exchange) -> None:
        self._federation.of(exchange)
        asked = _asked(exchange)
        start, end, count = _node(asked.get("from")), _node(asked.get("to")), asked.get("count")
        if not isinstance(count, int) or not 0 < count <= MAX_COUNT:
            raise RequestInvalid(f"gateway.latency takes a count of 1 to {MAX_COUNT}", reason="probe_request")
        if start != self._own:
            self._pass_on(exchange, start, lambda said: said)
            return
        if len(self._tasks) >= MAX_AT_ONCE:
            raise Overloaded("this node measures enough as it is; try again", reason="probes")
        task = self._federation.loop.create_task(self._probe_for(exchange, end, count), name="probes")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe_for(self, exchange: Exchange, end: bytes, count: int) -> None:
        try:
            figures = await self._probe(end, count)
        except FederationError as error:
            if exchange.open:
                exchange.fail(NoRoute(error.text))
            return
        if exchange.open:
            exchange.reply(_json(figures))

    def _pass_on(self, exchange: Exchange, node: bytes, made: Callable[[Any], dict[str, Any]]) -> None:
        try:
            link = self._next(node, exchange.caller.side)
        except FederationError as error:
            raise NoRoute(error.text) from error

        def then(said: Any) -> None:
            if exchange.open:
                try:
                    exchange.reply(_json(made(said)))
                except (KeyError, TypeError):
                    exchange.fail(RequestError(f"{link.name} answered what cannot be read"))

        def failed(text: str) -> None:
            if exchange.open:
                exchange.fail(NoRoute(text))

        link.ask(exchange.route, exchange.data, then, failed)


def _asked(exchange: Exchange) -> dict[str, Any]:
    try:
        asked = json.loads(exchange.data)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise RequestInvalid(f"{exchange.route} takes a JSON object", reason="probe_request")
    return asked


def _node(text: object) -> bytes:
    try:
        return uuid.UUID(str(text)).bytes
    except ValueError:
        raise RequestInvalid("a node is named by its id", reason="probe_request") from None


def _text(node: bytes) -> str:
    return str(uuid.UUID(bytes=node))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
