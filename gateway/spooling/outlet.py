"""One destination: takes what is to wait for a service, and delivers it when the service is there.

Delivery is through the data plane, as if whoever sent the message asked now. What counts as arrived:

* a request/response: its answer, be it an error that says that the responder has had it (fault 1.4);
* a fire-and-forget: the responder's answer to a KEEPALIVE behind it. It says that the responder's RSocket has read the
  message, and nothing of what became of it then. Whoever wants more lets it be delivered as request/response.

A batch is sent in its order, a key's messages to one instance; with request/response the next of a key goes when the
one before it is answered. New requests wait behind what waits until the last of it has been sent (`behind`). Then they
are held in memory for the moment that this takes (`_held`), and let through.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gateway.errors import (
    GatewayError,
    Overloaded,
    RequestError,
    RequestInvalid,
    ResponderGone,
    SpoolFull,
    StorageError,
)
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.courier import Courier
from gateway.forwarding.intake import Kept
from gateway.forwarding.links import DOWNLINK, KINDS, LOCAL, PEER
from gateway.forwarding.stream import REQUEST_FNF
from gateway.routing.address import Address
from gateway.spool.delivery import Delivery
from gateway.spool.inbox import Arrived, Receipt
from gateway.spool.message import Batch, Message, MessageId, Waiting
from gateway.spool.pace import Pace
from gateway.spool.spool import Spool
from gateway.spooling import flow_log
from gateway.spooling.crossing import Beyond, Crossing
from gateway.spooling.envelope import Envelope, Origin, opening, written
from gateway.spooling.run import Run
from gateway.wire.mimetypes import SPOOLED, encode_mime

if TYPE_CHECKING:
    from gateway.documents.spool import Spool as Spec
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.intake import Intake
    from gateway.forwarding.plane import Plane
    from gateway.policy.principal import Principal
    from gateway.spooling.deposit import Parcel
    from gateway.spooling.ways import Terms

#: Couriers that are kept for senders who have more to say.
COURIERS = 256
#: When so little is left, new requests are held until it has been sent; for so long, and so many bytes of them.
NEAR_END = 512
HOLD_S = 1.0
HOLD_BYTES = 4 * 1024 * 1024
#: Messages that are appended together: a commit takes few of these, so that nobody waits for a very long one.
AT_ONCE = 1024
#: What is delivered in one piece.
BATCH, BATCH_BYTES = 2000, 512 * 1024
#: Beginnings of envelopes that are remembered: one a sender and route.
OPENINGS = 4096
#: Between two tries to let new requests through, in seconds.
HOLD_AGAIN_S = 1.0

#: For so long what came from a peer goes down alone, so that nothing goes round among central nodes while they hear of
#: an edge's move. Then it goes across again: else it would wait for ever for an edge that has another parent now.
DOWN_ALONE_S = 5.0

#: In front of the name of what waits for another node's document; no document can have it.
FOREIGN = "@"
_SIDES = {kind: side for side, kind in KINDS.items()}
_SPOOLED_ENTRY = encode_mime(SPOOLED)
#: Done when what was put is on disk: for each its id, None (taken and dropped), or why it is refused.
Storing = asyncio.Future[list[MessageId | GatewayError | None]]


class Outlet:
    """`document`, `target`: which document made it, and for whom. `behind`: new requests wait, too. `spec`: what the
    document says; None where it is gone, and the messages are not."""

    def __init__(
        self,
        plane: Plane,
        intake: Intake,
        spool: Spool,
        document: str,
        target: str,
        spec: Spec | None,
        crossing: Crossing,
    ) -> None:
        self.plane = plane
        self.spool = spool
        self.document = document
        self.target = target
        #: Which side of this node the messages came from.
        self.side = _SIDES.get(document.removeprefix(FOREIGN), LOCAL) if document.startswith(FOREIGN) else LOCAL
        self.behind = spool.messages > 0 and self.side == LOCAL
        self.beyond = Beyond(crossing, target, self.look_soon)
        self.govern(spec)
        self._intake = intake
        self._crossing = crossing
        spool.on_lost = self._lost
        # Of what was found at the start nobody knows any more who handed it over.
        self._found = {lane.id: lane.head.number - 1 for lane in spool.lanes if lane.messages}
        self._came: dict[str, dict[int, int]] = {}
        self._delivery: Delivery | None = None
        self._running: asyncio.Task[None] | None = None
        self._couriers: OrderedDict[tuple[bytes, str, int], Courier] = OrderedDict()
        self._storing = 0
        self._coming: list[tuple[Kept, Message]] = []
        self._room = 0
        self._openings: dict[tuple[int, int, bytes], tuple[Principal, bytes]] = {}
        self._receipt_head = f'{{"spool":{json.dumps(f"{document}/{target}")},"id":'.encode()
        self._held: list[tuple[Kept, Terms]] | None = None
        self._held_bytes = 0
        self._held_until = 0.0
        self._hold_at = 0.0
        self._written = 0
        self._arrived = False
        self._tried: set[int] = set()
        #: Since when (monotonic) nobody is known here who serves it.
        self._nobody_since: float | None = None

    def govern(self, spec: Spec | None) -> None:
        """Go by this from now on. None: its document is gone; what waits is still delivered."""
        self.spec = spec
        if spec is not None:
            self._max_message = spec.max_message
            self._priority = spec.priority

    @property
    def name(self) -> str:
        return f"{self.document}/{self.target}"

    def _lost(self, reason: str, count: int) -> None:
        if self.plane.flows is not None:
            flow_log.lost(self.plane.flows, self.plane.now, self.name, reason, count)

    # In

    def keep(self, request: Kept, terms: Terms) -> None:
        """Take a request that is to wait."""
        if self._held is not None and terms.post is None:
            self._held.append((request, terms))
            self._held_bytes += len(request.data) + len(request.metadata)
            if self._held_bytes > HOLD_BYTES:
                self._release()
            return
        self._store(request, terms)

    def _store(self, request: Kept, terms: Terms) -> None:
        assert self.spec is not None
        if len(request.data) > self._max_message:
            self._intake.refused(request, self._too_large(len(request.data)))
            return
        post = terms.post
        if post is None:
            head = self._opening(request.interaction, request.principal, request.metadata)
        else:
            head = opening(request.interaction, written(request.principal), request.metadata)
        if not self._coming:
            self._room = self.spool.room_for_appends()
            self.plane.schedule(self._write)
        # Posts go through the disk though their service is here: nobody else has to wait for that.
        if post is None or self.plane.table.service(self.target) is None:
            self._fall_behind()
        self._room -= len(head) + len(request.data)
        if self._room < 0:
            self.spool.refuse("spool_busy")
            self._intake.refused(request, Overloaded("more comes than the disk takes", reason="spool_busy"))
            return
        self._coming.append((request, Message(head + request.data, terms.key, self._priority, terms.ttl_s, post)))
        self._storing += 1

    def _opening(self, interaction: int, principal: Principal, metadata: bytes) -> bytes:
        known = self._openings.get((interaction, id(principal), metadata))
        if known is None:
            if len(self._openings) >= OPENINGS:
                self._openings.clear()
            # With the principal, so that nobody else gets its id while this is kept.
            known = principal, opening(interaction, written(principal), metadata)
            self._openings[interaction, id(principal), metadata] = known
        return known[1]

    def _too_large(self, size: int) -> RequestInvalid:
        self.spool.refuse("message_too_large")
        text = f"a message of {size} bytes; {self._max_message} may wait"
        return RequestInvalid(text, reason="spool_message_too_large")

    def _fall_behind(self) -> None:
        if self.spec is not None and self.spec.order == "replayFirst" and not self.behind:
            self.behind = True
            self._arrived = False
            self.plane.table.invalidate()

    def _write(self) -> None:
        """Everything that came in this loop turn goes to the disk together."""
        coming, self._coming = self._coming, []
        for at in range(0, len(coming), AT_ONCE):
            some = coming[at : at + AT_ONCE]
            on_disk = self.spool.append_each([message for _, message in some])
            on_disk.add_done_callback(partial(self._stored, [request for request, _ in some]))

    def _stored(self, requests: list[Kept], on_disk: asyncio.Future[list[MessageId | SpoolFull | None]]) -> None:
        self._storing -= len(requests)
        verdicts = _verdicts(on_disk, len(requests))
        if self.plane.flows is not None:
            flow_log.queued(self.plane.flows, self.plane.now, self.name, requests, verdicts)
        for request, verdict in zip(requests, verdicts, strict=True):
            if isinstance(verdict, GatewayError):
                self._intake.refused(request, _refusal(verdict))
            else:
                self._intake.stored(request, self._receipt(verdict) if request.interaction != REQUEST_FNF else b"")
        self.look()

    def put(self, parcels: Sequence[Parcel]) -> Storing:
        """Store what did not come as a request."""
        assert self.spec is not None
        results: list[MessageId | GatewayError | None] = []
        taken: list[Message] = []
        places: list[int] = []
        for parcel in parcels:
            if len(parcel.data) > self._max_message:
                results.append(self._too_large(len(parcel.data)))
                continue
            places.append(len(results))
            results.append(None)
            head = self._opening(parcel.interaction, parcel.principal, parcel.metadata)
            taken.append(Message(head + parcel.data, parcel.key, self._priority, parcel.ttl_s))
        done: Storing = asyncio.get_running_loop().create_future()
        if self._coming:
            self._write()
        self._fall_behind()
        self._storing += len(taken)

        def stored(on_disk: asyncio.Future[list[MessageId | SpoolFull | None]]) -> None:
            self._storing -= len(taken)
            for at, verdict in zip(places, _verdicts(on_disk, len(taken)), strict=True):
                results[at] = _refusal(verdict) if isinstance(verdict, GatewayError) else verdict
            if not done.done():
                done.set_result(results)
            self.look()

        self.spool.append_each(taken).add_done_callback(stored)
        return done

    async def receive(self, arrived: Arrived, messages: Sequence[Message]) -> Receipt:
        """Take what another node hands over. Raises SpoolFull, StorageError."""
        receipt = await self.spool.receive(arrived, messages)
        self.spool.came_again += receipt.duplicates
        came = self._came.setdefault(arrived.node, {})
        for priority in {message.priority for message in messages}:
            lane = self.spool.lanes[priority]
            came[lane.id] = lane.head.number - 1
        self.look_soon()
        return receipt

    def waits_for(self, node: str) -> bool:
        """Whether something that a node has handed over may not have been delivered yet."""
        came = self._came.get(node, {})
        for lane in self.spool.lanes:
            if lane.messages:
                lowest = lane.lowest
                if lowest is not None and lowest <= max(came.get(lane.id, 0), self._found.get(lane.id, 0)):
                    return True
        return self.beyond.waits()

    def _receipt(self, identity: MessageId | None) -> bytes:
        return self._receipt_head + (b"null}" if identity is None else f'"{identity}"}}'.encode())

    # Whether it runs, and whether new requests wait

    def look(self) -> None:
        """See what is to be done; a few times a second, and when something has changed."""
        spool = self.spool
        if not spool.messages and not self._storing:
            if not self.behind or not self.beyond.waits():
                self._go_live()
            elif self._held is not None and self.plane.monotonic() > self._held_until:
                self._release()
            if self._running is not None and self._all_written():
                self._running.cancel()
                self._running = None
                self._delivery = None
                self._let_go()
            return
        if self._running is None or self._running.done():
            self._start()
        if self._held is not None:
            if not self._storing and not spool.untaken and self._all_written() and not self.beyond.waits():
                self._go_live()
            elif self.plane.monotonic() > self._held_until:
                self._release()
        elif (
            self.behind
            and self._arrived
            and spool.messages - spool.in_flight + self._storing <= NEAR_END
            and self.plane.monotonic() > self._hold_at
        ):
            self._held = []
            self._held_bytes = 0
            self._held_until = self.plane.monotonic() + HOLD_S

    def _all_written(self) -> bool:
        """Whether all that was taken from the spool is on its way. Neither is a batch whose turn to be written has not
        come, nor one with trouble: some of it waits again in a moment, and nobody may go past it."""
        return self._delivery is None or self._delivery.under_way == self._written

    def wake(self) -> None:
        """Somebody came who may be who it is waiting for."""
        self.look()
        if self._delivery is not None:
            self._delivery.try_again()

    def _start(self) -> None:
        if self._running is not None and not self._running.cancelled() and self._running.exception() is not None:
            # The file cannot be read: the store's own alarms say so; try again at the next look.
            self._let_go()
        self._delivery = Delivery(
            self.spool,
            self._send,
            pace=Pace(window=512, max_window=8192),
            start_jitter_s=0.0,
            first_retry_s=0.05,
            batch=BATCH,
            batch_bytes=BATCH_BYTES,
        )
        self._running = asyncio.ensure_future(self._delivery.run())
        self._running.set_name("spool: delivery")

    def _go_live(self) -> None:
        held, self._held = self._held or [], None
        if self.behind:
            self.behind = False
            self.plane.table.invalidate()
        for request, terms in held:
            if not self._intake.again(request):
                self._store(request, terms)

    def _release(self) -> None:
        """What is held has to wait like the others after all."""
        held, self._held = self._held or [], None
        self._hold_at = self.plane.monotonic() + HOLD_AGAIN_S
        for request, terms in held:
            self._store(request, terms)

    async def stop(self) -> None:
        if self._held is not None:
            self._release()
        if self._coming:
            self._write()
        self.beyond.stop()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None
        self._let_go()

    # Out

    def replay(self) -> int:
        """An operator's: send what is in flight once more, and do not wait for the next try; how many that is."""
        count = self.spool.messages
        self.spool.replay()
        self.look()
        if self._delivery is not None:
            self._delivery.replay()
        return count

    async def _send(self, batch: Batch) -> None:
        """Raises GatewayError when not all of it has arrived; what has is settled."""
        run = Run(self, batch)
        written = False
        try:
            await run.write()
            if run.trouble is None:
                written = True
                self._written += 1
            self.look_soon()
            await run.arrive()
        finally:
            # Until it is settled, or on its way back: what is under way counts it no longer then either.
            try:
                await self._settle(batch, run)
            finally:
                self._written -= written
                self.look_soon()
        if run.trouble is not None:
            self._arrived = False
            raise run.trouble
        self._arrived = True
        self._nobody_since = None
        if not run.handed_over:
            self.beyond.passed_by()

    async def _settle(self, batch: Batch, run: Run) -> None:
        gone = run.arrived.difference(*run.lost.values())
        arrived = tuple(message for message in batch.messages if message.number in gone)
        if arrived:
            if self.plane.flows is not None:
                flow_log.delivered(self.plane.flows, self.plane.now, self.name, arrived)
            self.spool.settle(replace(batch, messages=arrived))
        self._tried |= run.written - run.arrived
        self._tried -= run.arrived
        for reason, numbers in run.lost.items():
            self._tried -= numbers
            lost = tuple(message for message in batch.messages if message.number in numbers)
            with suppress(StorageError):
                await self.spool.discard(replace(batch, messages=lost), reason)

    def look_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.look)

    def ask_upward(self, address: object) -> None:
        if self._nobody_since is None:
            self._nobody_since = self.plane.monotonic()
        links = self.plane.links
        if links is not None and isinstance(address, Address):
            # Whoever comes is heard of by the table.
            links.resolve(address, lambda: None, within_s=60.0)

    async def may_begin(self, link: Connection) -> None:
        pause = self._crossing.begins_in(link, self.spool.messages)
        if pause > 0 and self._delivery is not None:
            await self._delivery.pause(pause)

    def redelivered(self, message: Waiting) -> bool:
        return not self.spool.is_of_this_run(message) or message.number in self._tried

    def entry(self, message: Waiting, origin: Origin | None) -> bytes:
        """What its receiver is told of a message, as composite metadata."""
        redelivered = self.redelivered(message)
        age_ms = int(message.age_s * 1000)
        if origin is None:
            node, epoch, seq = message.id
        else:
            node, epoch, seq = origin.node_id, origin.epoch, origin.seq
            age_ms += origin.age_ms
            redelivered = redelivered or origin.redelivered
        told = (
            f'{{"node":"{node}","epoch":{epoch},"seq":{seq},"age_ms":{age_ms},'
            f'"redelivered":{"true" if redelivered else "false"}}}'
        ).encode()
        return b"".join((_SPOOLED_ENTRY, len(told).to_bytes(3, "big"), told))

    def courier(self, envelope: Envelope, origin: Origin | None) -> Courier:
        node = "" if origin is None else origin.node
        side, since = self.side, self._nobody_since
        if side == PEER and since is not None and self.plane.monotonic() - since > DOWN_ALONE_S:
            side = DOWNLINK
        who = envelope.who, node, side
        found = self._couriers.get(who)
        if found is None:
            found = self._couriers[who] = Courier(self.plane, envelope.principal, side=side, node=node)
            for other in list(self._couriers):
                if len(self._couriers) <= COURIERS:
                    break
                if not self._couriers[other].busy and other != who:
                    self._couriers.pop(other).end(CloseReason.PEER_CLOSED)
        self._couriers.move_to_end(who)
        return found

    def _let_go(self) -> None:
        for courier in self._couriers.values():
            courier.give_up()
            courier.end(CloseReason.PEER_CLOSED)
        self._couriers.clear()


def _verdicts(
    on_disk: asyncio.Future[list[MessageId | SpoolFull | None]], count: int
) -> Sequence[MessageId | GatewayError | None]:
    try:
        return on_disk.result()
    except GatewayError as error:
        return [error] * count
    except asyncio.CancelledError:
        return [StorageError("the node is stopping")] * count


def _refusal(error: GatewayError) -> RequestError:
    if isinstance(error, SpoolFull):
        # REJECTED: nobody has processed it, and it may be asked again.
        return Overloaded(str(error), reason=error.reason)
    # CANCELED: it may turn up after a restart.
    return ResponderGone(str(error), reason="spool_storage")
