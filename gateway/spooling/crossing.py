"""The way of what waits to another node, whose service it is for: over a link, in batches, from disk to disk.

The other node acknowledges when it has a batch on its own disk, and delivers from there. New requests wait here until
it has done so: else they would overtake what it has yet to deliver (`waits`).
"""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import FederationError, ResponderGone
from gateway.forwarding.inquiry import InquiryDesk
from gateway.spool.delivery import SMALL_BACKLOG
from gateway.spooling.consignment import Answer, Consignment, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.forwarding.connection import Connection
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.plane import Plane

SERVICE: Final = "gateway.spool"
#: How long another node may take until it has a batch on its disk, in seconds.
ANSWER_S: Final = 60.0


class Crossing:
    """Asks other nodes to take messages. `jitter_s`: a larger backlog begins at a random moment after a link has come
    up, no later than this, so that the edges of a region that is back do not all come at once."""

    def __init__(self, plane: Plane, jitter_s: float) -> None:
        self._plane = plane
        self._desk: InquiryDesk | None = None
        self._jitter_s = jitter_s
        self._random: Random = plane.random
        self._starts: dict[int, float] = {}

    def now(self) -> float:
        return self._plane.monotonic()

    def begins_in(self, link: Connection, backlog: int) -> float:
        """Seconds until a backlog of so many messages may begin to go over a link."""
        if backlog <= SMALL_BACKLOG or not self._jitter_s:
            return 0.0
        start = self._starts.get(link.number)
        if start is None:
            for number in [number for number in self._starts if number not in self._plane.connections]:
                del self._starts[number]
            start = self._starts[link.number] = link.opened_at + self._random.uniform(0, self._jitter_s)
        return start - self._plane.monotonic()

    async def hand(self, link: Connection, consignment: Consignment) -> Answer:
        """Have the node at the other end take these; when this returns it has them on its disk.

        Raises:
            ResponderGone, FederationError: it has not, or nobody knows.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        said: list[bytes] = []

        def over(text: str | None) -> None:
            if answer.done():
                return
            if text is None:
                answer.set_result(b"".join(said))
            else:
                answer.set_exception(ResponderGone(f"the next node has not taken it: {text}", reason="spool_handover"))

        if link.closed:
            raise ResponderGone("the link is gone", reason="spool_handover")
        if self._desk is None:
            self._desk = InquiryDesk(self._plane)
        inquiry = self._desk.ask(link, SERVICE, encode(consignment), said.append, over)
        try:
            async with asyncio.timeout(ANSWER_S):
                document: Any = json.loads(await answer)
        except TimeoutError as error:
            raise ResponderGone("the next node does not say that it has it", reason="spool_handover") from error
        except ValueError as error:
            raise FederationError(f"{SERVICE} answered what is no JSON", reason="spool_answer") from error
        finally:
            inquiry.cancel()
        return Answer.of(document)


class Beyond:
    """What is known of the messages of one outlet that other nodes have taken: whether some may wait there still.

    `tell` is called when that may have changed. `handed`: messages that were taken. `refused`: since when
    (monotonic) the other node has taken nothing, and what it said.
    """

    def __init__(self, crossing: Crossing, target: str, tell: Callable[[], None]) -> None:
        self._crossing = crossing
        self._target = target
        self._tell = tell
        self._link: Connection | None = None
        self._asking: asyncio.Task[None] | None = None
        self.handed = 0
        self.refused: tuple[float, str] | None = None

    def choose(self, decision: Decision) -> Connection:
        """The link to hand over to: one at a time, the same as before while it leads there. Whoever receives counts
        what it has not got, so batches are not shared out among nodes."""
        links: list[Connection] = [route.owner for route in decision.spread()]  # type: ignore[misc]
        return self._link if self._link in links and self._link is not None else links[0]

    async def hand(self, link: Connection, consignment: Consignment) -> Answer:
        try:
            answer = await self._crossing.hand(link, consignment)
        except (ResponderGone, FederationError) as error:
            if not link.closed:
                # A line that breaks is no news; a node that does not take what it is sent is.
                self.refused = self.refused or (self._crossing.now(), str(error))
            raise
        self.refused = None
        self._link = link
        self.handed += len(consignment.items) - len(answer.refused)
        return answer

    def waits(self) -> bool:
        """Whether some of it may not have been delivered by whoever has it. Asks, where that is not known."""
        link = self._link
        if link is None:
            return False
        if link.closed:
            # Nobody knows, until the next batch has found another way, and that says how things stand.
            return True
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask(link), name="spool: beyond")
        return True

    def passed_by(self) -> None:
        """A batch has reached its service from here: what a link took that is gone by now comes when it can."""
        if self._link is not None and self._link.closed:
            self._link = None

    async def _ask(self, link: Connection) -> None:
        try:
            answer = await self._crossing.hand(link, Consignment("", self._target, 0, 0, 1, ()))
            if not answer.left and self._link is link:
                self._link = None
        except (ResponderGone, FederationError):
            # The next look asks again, unless the link is gone.
            pass
        finally:
            self._asking = None
            self._tell()

    def stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
