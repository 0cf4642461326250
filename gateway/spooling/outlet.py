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
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import (
    GatewayError,
    Overloaded,
    RequestInvalid,
    ResponderGone,
    SpoolFull,
    StorageError,
)
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.courier import Courier
from gateway.forwarding.intake import Kept
from gateway.spool.delivery import Delivery
from gateway.spool.message import Batch, Message, MessageId, Waiting
from gateway.spool.pace import Pace
from gateway.spool.spool import Spool
from gateway.spooling.envelope import Envelope, seal
from gateway.spooling.run import Run
from gateway.wire.metadata import encode_composite
from gateway.wire.mimetypes import SPOOLED

if TYPE_CHECKING:
    from gateway.documents.spool import Spool as Spec
    from gateway.forwarding.intake import Intake
    from gateway.forwarding.plane import Plane
    from gateway.policy.principal import Principal

#: Couriers that are kept for senders who have more to say.
COURIERS = 256
#: When so little is left, new requests are held until it has been sent; for so long, and so many bytes of them.
NEAR_END = 512
HOLD_S = 1.0
HOLD_BYTES = 4 * 1024 * 1024
#: Between two tries to let new requests through, in seconds.
HOLD_AGAIN_S = 1.0


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
    ) -> None:
        self.plane = plane
        self.spool = spool
        self.document = document
        self.target = target
        self.spec = spec
        self.behind = spool.messages > 0
        self._intake = intake
        self._delivery: Delivery | None = None
        self._running: asyncio.Task[None] | None = None
        self._couriers: OrderedDict[Principal, Courier] = OrderedDict()
        self._storing = 0
        self._held: list[tuple[Kept, bytes, float | None]] | None = None
        self._held_bytes = 0
        self._held_until = 0.0
        self._hold_at = 0.0
        self._sending = 0
        self._arrived = False
        self._tried: set[int] = set()

    # In

    def keep(self, request: Kept, key: bytes, ttl_s: float | None) -> None:
        """Take a request that is to wait."""
        if self._held is not None:
            self._held.append((request, key, ttl_s))
            self._held_bytes += len(request.data) + len(request.metadata)
            if self._held_bytes > HOLD_BYTES:
                self._release()
            return
        self._store(request, key, ttl_s)

    def _store(self, request: Kept, key: bytes, ttl_s: float | None) -> None:
        assert self.spec is not None
        if self.spec.order == "replayFirst" and not self.behind:
            self.behind = True
            self._arrived = False
            self.plane.table.invalidate()
        if len(request.data) > self.spec.max_message:
            text = f"a message of {len(request.data)} bytes; {self.spec.max_message} may wait"
            self.spool.refuse("message_too_large")
            self._intake.refused(request, RequestInvalid(text, reason="spool_message_too_large"))
            return
        payload = seal(Envelope(request.interaction, request.principal, request.metadata, request.data))
        message = Message(payload, key, self.spec.priority, ttl_s)
        self._storing += 1
        on_disk = asyncio.ensure_future(self.spool.append([message]))
        on_disk.add_done_callback(lambda future: self._stored(request, future))

    def _stored(self, request: Kept, on_disk: asyncio.Future[list[MessageId | None]]) -> None:
        self._storing -= 1
        try:
            (identity,) = on_disk.result()
        except SpoolFull as error:
            # REJECTED: nobody has processed it, and it may be asked again.
            self._intake.refused(request, Overloaded(str(error), reason=error.reason))
        except (GatewayError, asyncio.CancelledError) as error:
            # CANCELED: it may turn up after a restart.
            self._intake.refused(request, ResponderGone(str(error), reason="spool_storage"))
        else:
            self._intake.stored(request, self._receipt(identity))
            self.look()

    def _receipt(self, identity: MessageId | None) -> bytes:
        receipt = {"spool": f"{self.document}/{self.target}", "id": None if identity is None else str(identity)}
        return json.dumps(receipt, separators=(",", ":")).encode()

    # Whether it runs, and whether new requests wait

    def look(self) -> None:
        """See what is to be done; a few times a second, and when something has changed."""
        spool = self.spool
        if not spool.messages and not self._storing:
            self._go_live()
            if self._running is not None and not self._sending:
                self._running.cancel()
                self._running = None
                self._delivery = None
                self._let_go()
            return
        if self._running is None or self._running.done():
            self._start()
        if self._held is not None:
            if not self._storing and not self._sending and not spool.untaken:
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

    def wake(self) -> None:
        """Somebody came who may be who it is waiting for."""
        self.look()
        if self._delivery is not None:
            self._delivery.replay()

    def _start(self) -> None:
        if self._running is not None and not self._running.cancelled() and self._running.exception() is not None:
            # The file cannot be read: the store's own alarms say so; try again at the next look.
            self._let_go()
        self._delivery = Delivery(
            self.spool, self._send, pace=Pace(window=256, max_window=4096), start_jitter_s=0.0, first_retry_s=0.05
        )
        self._running = asyncio.ensure_future(self._delivery.run())
        self._running.set_name("spool: delivery")

    def _go_live(self) -> None:
        held, self._held = self._held or [], None
        if self.behind:
            self.behind = False
            self.plane.table.invalidate()
        for request, key, ttl_s in held:
            if not self._intake.again(request):
                self._store(request, key, ttl_s)

    def _release(self) -> None:
        """What is held has to wait like the others after all."""
        held, self._held = self._held or [], None
        self._hold_at = self.plane.monotonic() + HOLD_AGAIN_S
        for request, key, ttl_s in held:
            self._store(request, key, ttl_s)

    async def stop(self) -> None:
        if self._held is not None:
            self._release()
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
        self.wake()
        return count

    async def _send(self, batch: Batch) -> None:
        """Raises GatewayError when not all of it has arrived; what has is settled."""
        self._sending += 1
        run = Run(self, batch)
        try:
            try:
                await run.write()
            finally:
                self._sending -= 1
                self.look_soon()
            await run.arrive()
        finally:
            await self._settle(batch, run)
        if run.trouble is not None:
            self._arrived = False
            raise run.trouble
        self._arrived = True

    async def _settle(self, batch: Batch, run: Run) -> None:
        gone = run.arrived.difference(*run.lost.values())
        arrived = tuple(message for message in batch.messages if message.number in gone)
        if arrived:
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

    def entry(self, message: Waiting) -> bytes:
        """What its receiver is told of a message, as composite metadata."""
        told = {
            "node": message.id.node,
            "epoch": message.id.epoch,
            "seq": message.id.seq,
            "age_ms": int(message.age_s * 1000),
            "redelivered": message.number in self._tried or not self.spool.is_of_this_run(message),
        }
        return encode_composite([(SPOOLED, json.dumps(told, separators=(",", ":")).encode())])

    def courier(self, principal: Principal) -> Courier:
        found = self._couriers.get(principal)
        if found is None:
            found = self._couriers[principal] = Courier(self.plane, principal)
            for other in list(self._couriers):
                if len(self._couriers) <= COURIERS:
                    break
                if not self._couriers[other].busy and other != principal:
                    self._couriers.pop(other).end(CloseReason.PEER_CLOSED)
        self._couriers.move_to_end(principal)
        return found

    def _let_go(self) -> None:
        for courier in self._couriers.values():
            courier.give_up()
            courier.end(CloseReason.PEER_CLOSED)
        self._couriers.clear()
