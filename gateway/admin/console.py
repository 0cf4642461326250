"""Who speaks RSocket to the node from a page of the dashboard: tickets for it, and an end to it with the login.

A browser cannot put a token into the head of a WebSocket handshake, and a token in a URL lands in logs. So it asks for
a ticket, by which one handshake is let in, and for a token of a few minutes for its SETUP. Of a ticket, 256 random
bits, only the SHA-256 is kept, in memory. What lies behind the handshake is not of the admin API: the socket goes to
the data plane, which treats it as any other (docs/adr/0027).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.admin.problem import Problem
from gateway.control import bearer
from gateway.control.plane import Caller
from gateway.control.roles import Action

PATH: Final = "/console/rsocket"
PREFIX: Final = "gt"
#: In the list of subprotocols, before the ticket.
MARK: Final = "ticket."
SCOPE: Final = "publish"
TICKET_S: Final = 60.0
TOKEN_S: Final = 300.0
#: Of one caller: open and about to be opened; and of all.
MAX_EACH: Final = 4
MAX_ALL: Final = 32
#: How often it is looked at whether each may still.
JUDGED_S: Final = 1.0


class Link(Protocol):
    """The carrier of one page; see `console_port.ConsolePort`."""

    def end(self, why: str) -> None: ...


class Door(Protocol):
    """Makes carriers; see `console_port.ConsolePort`."""

    def carrier(self, subject: str, gone: Callable[[], None]) -> tuple[asyncio.Protocol, Link]:
        """One to put on a socket; only a SETUP of `subject` is let in. `gone` is called once when it has ended."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """`secret`: the credential that its holder came with."""

    caller: Caller
    subject: str
    digest: bytes
    ends_at: float
    secret: str = field(repr=False)

    @property
    def whose(self) -> str:
        return f"{self.caller.type}:{self.caller.id}"


class Consoles:
    """`still` judges a caller again, by its credential; `monotonic` gives seconds."""

    def __init__(
        self, door: Door | None, still: Callable[[Caller, str], Caller | None], monotonic: Callable[[], float]
    ) -> None:
        self._door = door
        self._still = still
        self._monotonic = monotonic
        self._waiting: dict[str, Ticket] = {}
        self._open: dict[Ticket, Link] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are open or about to be."""
        return len(self._waiting) + len(self._open)

    def issue(self, caller: Caller, secret: str, subject: str) -> str:
        """A ticket for one handshake. Raises Problem (429)."""
        now = self._monotonic()
        self._waiting = {key: ticket for key, ticket in self._waiting.items() if ticket.ends_at > now}
        made = bearer.new(PREFIX)
        ticket = Ticket(caller, subject, made.digest, now + TICKET_S, secret)
        taken = [*self._waiting.values(), *self._open]
        if len(taken) >= MAX_ALL or sum(each.whose == ticket.whose for each in taken) >= MAX_EACH:
            raise Problem(
                "too-many-requests", "too many consoles are open: close one", headers={"retry-after": f"{TICKET_S:.0f}"}
            )
        self._waiting[made.id] = ticket
        return made.text

    def redeem(self, text: str) -> Ticket:
        """What a ticket is for, this once. Raises Problem (401, 403)."""
        parts = bearer.read(PREFIX, text)
        ticket = self._waiting.get(parts[0]) if parts is not None else None
        if parts is None or not bearer.matches(parts[1], None if ticket is None else ticket.digest) or ticket is None:
            raise Problem("unauthenticated", "this ticket does not hold: it is used, over, or none")
        del self._waiting[parts[0]]
        if ticket.ends_at <= self._monotonic():
            raise Problem("unauthenticated", "this ticket does not hold: it is used, over, or none")
        if not self._may(ticket):
            raise Problem("forbidden", f"this needs the scope {SCOPE} and a role that may {Action.PUBLISH.value}")
        return ticket

    def open(self, ticket: Ticket) -> asyncio.Protocol:
        """What the socket of who has redeemed a ticket goes to. Raises Problem (503)."""
        if self._door is None:
            raise Problem("unavailable", "this node serves no consoles")
        carrier, link = self._door.carrier(ticket.subject, lambda: self._gone(ticket))
        self._open[ticket] = link
        self._watch()
        return carrier

    def stop(self) -> None:
        """Look no more; the door closes what is open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _may(self, ticket: Ticket) -> bool:
        caller = self._still(ticket.caller, ticket.secret)
        return caller is not None and caller.may(SCOPE, Action.PUBLISH)

    def _gone(self, ticket: Ticket) -> None:
        self._open.pop(ticket, None)
        if not self._open:
            self.stop()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(JUDGED_S, self._judge)

    def _judge(self) -> None:
        self._timer = None
        for ticket, link in list(self._open.items()):
            if not self._may(ticket):
                link.end("the login has ended, or may not send any more")
        if self._open:
            self._watch()
