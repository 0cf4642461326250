"""One batch on its way to a service: written, and what says that it has arrived."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gateway.errors import (
    GatewayError,
    NoRoute,
    NotPermitted,
    Overloaded,
    RequestError,
    RequestInvalid,
    ResponderGone,
    StorageError,
)
from gateway.forwarding.courier import Courier
from gateway.forwarding.links import LOCAL
from gateway.forwarding.stream import REQUEST_FNF, REQUEST_RESPONSE
from gateway.spool.message import Batch, Waiting
from gateway.spooling.consignment import Consignment, Item
from gateway.spooling.envelope import Envelope, Origin, unseal
from gateway.wire.frames import ErrorCode

if TYPE_CHECKING:
    from gateway.documents.spool import Spool as Spec
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane
    from gateway.spool.spool import Spool
    from gateway.spooling.crossing import Beyond

#: How long a request/response may take that nobody waits for any more, in seconds.
ANSWER_S = 60.0
#: How long an answer to a KEEPALIVE may take before it is asked for once more, in seconds.
SOUND_S = 5.0
#: So often; then whatever else it sends has to do.
SOUNDS = 3
#: How long the responder's outbox may be full before a batch is given up for now, in seconds.
FULL_S = 10.0
#: The answers that say that nobody has had it, or that nobody knows.
_NOT_HAD = frozenset({int(ErrorCode.REJECTED), int(ErrorCode.CANCELED)})


Opened = tuple[Waiting, Envelope, Origin | None]


class Sender(Protocol):
    """Whose batch it is; an `Outlet` is one."""

    plane: Plane
    spec: Spec | None

    target: str
    spool: Spool
    beyond: Beyond

    def courier(self, envelope: Envelope, origin: Origin | None) -> Courier:
        """Whoever speaks for its sender. Raises StorageError for an envelope that is none."""
        ...

    def redelivered(self, message: Waiting) -> bool:
        """Whether its receiver may have had it before."""
        ...

    async def may_begin(self, link: Connection) -> None:
        """Wait until a backlog may begin to go over a link."""
        ...

    def ask_upward(self, address: object) -> None:
        """Nobody who is known here serves this; the parent may know somebody."""
        ...

    def entry(self, message: Waiting, origin: Origin | None) -> bytes:
        """What its receiver is told of a message, as composite metadata."""
        ...


class Run:
    """One batch on its way: by number, what was `written`, what has `arrived`, what is `lost` and why."""

    def __init__(self, outlet: Sender, batch: Batch) -> None:
        self.outlet = outlet
        self.batch = batch
        self.written: set[int] = set()
        self.arrived: set[int] = set()
        self.lost: dict[str, set[int]] = {}
        self.trouble: GatewayError | None = None
        self._sent: dict[Connection, set[int]] = {}
        self._answers: dict[int, asyncio.Future[int | None]] = {}
        self._link: Connection | None = None
        self._over: list[Opened] = []

    @property
    def handed_over(self) -> bool:
        """Whether some of it went to another node."""
        return bool(self._over)

    async def write(self) -> None:
        """Send it: all in a row, or where answers are waited for, a key's messages one after the other."""
        opened: list[Opened] = []
        for message in self.batch.messages:
            try:
                envelope = unseal(message.payload)
                opened.append((message, envelope, envelope.origin if envelope.came else None))
            except StorageError:
                self._lose("unreadable", message)
        if any(self._is_answered(envelope, origin) for _, envelope, origin in opened):
            chains: dict[bytes | int, list[Opened]] = {}
            for each in opened:
                chains.setdefault(each[0].key or each[0].number, []).append(each)
            await asyncio.gather(*map(self._chain, chains.values()))
        else:
            await self._chain(opened)
        await self._hand_over()

    def _is_answered(self, envelope: Envelope, origin: Origin | None) -> bool:
        if envelope.interaction != REQUEST_FNF:
            return True
        if origin is not None:
            return origin.acknowledge
        return self.outlet.spec is not None and self.outlet.spec.acknowledge

    async def _chain(self, messages: list[Opened]) -> None:
        for each in messages:
            message = each[0]
            try:
                target = self._carry(*each)
            except NotPermitted:
                self._lose("forbidden", message)
            except RequestInvalid:
                self._lose("invalid", message)
            except StorageError:
                self._lose("unreadable", message)
            except RequestError as error:
                self.trouble = error
                return
            else:
                if target is None:
                    continue
                if target.outbox.size > target.outbox.high and not await self._taken_in(target):
                    self.trouble = Overloaded("what serves this takes in too little", reason="responder_slow")
                    return
                if message.number in self._answers and message.key and not await self._answered(message.number):
                    return

    def _carry(self, message: Waiting, envelope: Envelope, origin: Origin | None) -> Connection | None:
        """Send one; None where it cannot be sent any more, or goes with others. Raises RequestError, StorageError."""
        outlet = self.outlet
        courier = outlet.courier(envelope, origin)
        if courier.revoked:
            self._lose("revoked", message)
            return None
        try:
            way = courier.way(envelope.metadata, message.key, envelope.interaction)
        except NoRoute as error:
            outlet.ask_upward(error.address)
            raise
        if way[1].owner.side != LOCAL:  # type: ignore[attr-defined]
            if self._link is None:
                self._link = outlet.beyond.choose(way[0])
            self._over.append((message, envelope, origin))
            return None
        ended = None
        interaction = envelope.interaction
        if self._is_answered(envelope, origin):
            interaction = REQUEST_RESPONSE
            answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
            ended = partial(_answer, answer)
        target = courier.carry(
            way, interaction, envelope.metadata, envelope.data, outlet.entry(message, origin), message.key, ended
        )
        number = message.number
        self.written.add(number)
        if ended is not None:
            self._answers[number] = answer
        else:
            self._sent.setdefault(target, set()).add(number)
        return target

    async def _hand_over(self) -> None:
        """What goes to another node goes together, from disk to disk."""
        link = self._link
        if link is None:
            return
        outlet, batch = self.outlet, self.batch
        # Chains of keys come one after the other; a batch is in its order.
        self._over.sort(key=_number)
        max_age_s = outlet.spool.rules.max_age_s
        items = [
            Item(
                message.id.seq,
                int(message.age_s * 1000),
                max(1, int((min(max_age_s, message.ttl_s or max_age_s) - message.age_s) * 1000)),
                outlet.redelivered(message),
                origin.acknowledge if origin is not None else outlet.spec is not None and outlet.spec.acknowledge,
                message.key,
                message.payload,
            )
            for message, _, origin in self._over
        ]
        await outlet.may_begin(link)
        try:
            answer = await outlet.beyond.hand(
                link, Consignment(batch.lane, outlet.target, batch.epoch, batch.oldest_epoch, batch.floor, items)
            )
        except GatewayError as error:
            self.written |= {message.number for message, _, _ in self._over}
            self.trouble = error
            return
        for message, _, _ in self._over:
            self.written.add(message.number)
            self.arrived.add(message.number)
            if message.id.seq in answer.refused:
                self._lose(answer.refused[message.id.seq], message)
        outlet.spool.acknowledge(batch.epoch, answer.settled)

    async def _taken_in(self, target: Connection) -> bool:
        """Wait while what was sent to a responder waits to leave; False when that takes too long."""
        try:
            async with asyncio.timeout(FULL_S):
                while target.outbox.size > target.outbox.high and not target.closed:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
        except TimeoutError:
            return False
        return True

    async def arrive(self) -> None:
        """Wait for what says that it has arrived."""
        await asyncio.gather(
            *(self._answered(number) for number in list(self._answers)),
            *(self._sounded(target, numbers) for target, numbers in self._sent.items()),
        )

    async def _answered(self, number: int) -> bool:
        """Whether the responder has had it."""
        if number in self.arrived:
            return True
        try:
            async with asyncio.timeout(ANSWER_S):
                code = await asyncio.shield(self._answers[number])
        except TimeoutError:
            code = int(ErrorCode.CANCELED)
        if code in _NOT_HAD:
            self.trouble = ResponderGone("the responder has not taken it", reason="spool_delivery")
            return False
        self.arrived.add(number)
        if code is not None and number not in self.lost.get("failed", ()):
            self.lost.setdefault("failed", set()).add(number)
        return True

    async def _sounded(self, target: Connection, numbers: set[int]) -> None:
        loop = asyncio.get_running_loop()
        began, tries = self.outlet.plane.monotonic(), 0
        while not target.closed:
            answer: asyncio.Future[bool] = loop.create_future()
            self.outlet.plane.soundings.sound(target, partial(_settle, answer))
            try:
                async with asyncio.timeout(SOUND_S):
                    if await answer:
                        self.arrived |= numbers
                        return
            except TimeoutError:
                tries += 1
                if tries >= SOUNDS and target.session.last_received > began + SOUND_S:
                    # It is there, reads, and does not answer: it is not going to.
                    self.arrived |= numbers
                    return
        text = "the responder's connection ended before it had read it"
        self.trouble = ResponderGone(text, reason="spool_delivery")

    def _lose(self, reason: str, message: Waiting) -> None:
        self.lost.setdefault(reason, set()).add(message.number)


def _number(opened: Opened) -> int:
    return opened[0].number


def _answer(answer: asyncio.Future[int | None], code: int | None) -> None:
    if not answer.done():
        answer.set_result(code)


def _settle(answer: asyncio.Future[bool], heard: bool) -> None:
    if not answer.done():
        answer.set_result(heard)
