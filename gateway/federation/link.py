"""One link to another node: its connection, what the other side has told, what it was told."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from gateway.errors import FrameError, NotPermitted
from gateway.federation.claims import Claims
from gateway.federation.feed import Feed
from gateway.federation.intake import Broken, Intake, Mismatch
from gateway.federation.interests import Interests
from gateway.federation.journal import MISMATCHES
from gateway.forwarding.connection import Connection
from gateway.forwarding.inquiry import Inquiry, InquiryDesk
from gateway.forwarding.links import DOWNLINK, KINDS, UPLINK
from gateway.observe.loggers import structlog
from gateway.session import keepalive

#: How often it is measured how far the other side is, in seconds.
MEASURE_S: Final = 15.0
#: How long after a stream of routes has ended it is asked for again, in seconds.
AGAIN_S: Final = 0.2
#: Principals whose words are remembered as good, a link.
_VOUCHED: Final = 16_384

_log = structlog.get_logger("gateway.federation")


class Link:
    """`node`, `name`: who is at the other end, once that is known. `dialled`: by this side. `up_since`: Unix seconds.
    `rtt_s`: how long an answer takes that costs nothing. `why`: why it has ended, when it has. `wish`: what its
    other end is asked to tell, as data of `gateway.routes`. `on_change` hears when the other end says that it is in
    use, or not any more."""

    def __init__(
        self,
        connection: Connection,
        desk: InquiryDesk,
        loop: asyncio.AbstractEventLoop,
        claims: Claims,
        *,
        node: bytes,
        name: str,
        url: str = "",
        dialled: bool,
        wish: bytes = b"",
        on_change: Callable[[Link], None] = lambda link: None,
    ) -> None:
        self.connection = connection
        self.side = connection.side
        self.node = node
        self.name = name
        self.url = url
        self.dialled = dialled
        self.up_since = connection.plane.wall()
        self.rtt_s = 0.0
        self.feed: Feed | None = None
        self.interests = Interests() if self.side == DOWNLINK else None
        self.intake = Intake(connection, name, node, claims, active=self.side not in (UPLINK, DOWNLINK))
        self.restarts = 0
        #: Digests that did not add up: how many, and when the last ones were, in Unix seconds.
        self.mismatched = 0
        self.mismatches: deque[float] = deque(maxlen=MISMATCHES)
        #: When a link that the other side has dialled is measured next, by the plane's clock.
        self.measure_at = 0.0
        self.why = ""
        self._wish = wish
        self._on_change = on_change
        self._grant = connection.grant
        self._desk = desk
        self._loop = loop
        self._stream: Inquiry | None = None
        self._again: asyncio.TimerHandle | None = None
        self._vouched: set[tuple[bytes, str, str]] = set()
        self._identities: dict[bytes, tuple[str, str, str]] = {}

    @property
    def kind(self) -> str:
        return KINDS[self.side]

    @property
    def usable(self) -> bool:
        return not self.connection.closed and not self.connection.draining

    def listen(self) -> None:
        """Hear what the other side serves, from the beginning."""
        self._again = None
        if self.connection.closed:
            return
        self.intake.begin()
        self._stream = self._desk.ask(
            self.connection, "gateway.routes", self._wish, self._item, self._over, stream=True
        )

    def ping(self) -> None:
        """Ask whether the other side is there; the answer keeps the link from being taken for dead."""
        connection = self.connection
        leaving = connection.draining and not (connection.requesting or connection.serving)
        if self.dialled and not connection.closed and not leaving:
            self.connection.outbox.put_frame(keepalive.question())

    def measure(self, now: float) -> None:
        """See how far the other side is; `now` by the plane's clock."""
        self.measure_at = now + MEASURE_S
        clock = self.connection.plane.monotonic

        def then(document: object) -> None:
            self.rtt_s = clock() - now

        self.ask("gateway.link", b"", then, lambda text: None)

    def leave(self) -> None:
        """Hear no more of it, and tell no more: it goes when its requests have ended."""
        self.stop()
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        if self.feed is not None:
            self.feed.end()

    def judge(self) -> None:
        """See whether the grant of the link is still the one by which its routes were judged."""
        grant = self.connection.grant
        if grant is not self._grant:
            self._grant = grant
            self.intake.judge()

    def stop(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self.feed is not None:
            self.feed.stop()

    def ask(self, route: str, data: bytes, then: Callable[[Any], None], failed: Callable[[str], None]) -> None:
        """Ask the other node for a JSON document."""
        answers: list[bytes] = []

        def over(text: str | None) -> None:
            if text is not None:
                failed(text)
                return
            try:
                document = json.loads(b"".join(answers))
            except (ValueError, RecursionError):
                failed(f"{route} answered what is no JSON")
                return
            then(document)

        self._desk.ask(self.connection, route, data, answers.append, over)

    def vouch(self, identity: bytes) -> None:
        """Whether the caller that a principal entry names may come over this link. Raises NotPermitted."""
        said = self._identities.get(identity)
        if said is None:
            said = _identity(identity)
            if len(self._identities) >= _VOUCHED:
                self._identities.clear()
            self._identities[identity] = said
        subject, kind, node = said
        if self.side != DOWNLINK or self._is_below(subject, kind, node):
            return
        # What it has told before its request may be waiting for the end of this loop turn.
        self._desk.outbox.flush()
        if self.connection.closed or not self._is_below(subject, kind, node):
            raise NotPermitted(
                f"{self.name} has no {kind} {subject} on {node} to speak for", reason="principal_not_below"
            )

    def _is_below(self, subject: str, kind: str, node: str) -> bool:
        return self.intake.has_below(subject, kind) and node in self.intake.names.values()

    def _item(self, data: bytes) -> None:
        intake = self.intake
        before = (intake.said_active, intake.whole, intake.epoch)
        try:
            intake.take(data)
        except Broken as broken:
            self.restarts += 1
            if isinstance(broken, Mismatch):
                self.mismatched += 1
                self.mismatches.append(self.connection.plane.wall())
            _log.warning("routes are told again", node=self.name, why=str(broken))
            self._restart(0.0)
        except FrameError as error:
            self.connection.fail(error)
        if before != (intake.said_active, intake.whole, intake.epoch):
            self._on_change(self)

    def _over(self, text: str | None) -> None:
        if self.usable:
            self._restart(AGAIN_S)

    def _restart(self, after_s: float) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        if self._again is None:
            self._again = self._loop.call_later(after_s, self.listen)

    def known_as(self, node: bytes, name: str) -> None:
        """The other side has said who it is."""
        self.node = node
        self.name = name
        self.intake.names.pop(b"", None)
        self.intake.names[node] = name
        connection = self.connection
        connection.renewed(replace(connection.principal, subject=name), b"")


def _identity(entry: bytes) -> tuple[str, str, str]:
    try:
        said = json.loads(entry)
        subject, kind, node = said["subject"], said["kind"], said["node"]
    except (ValueError, KeyError, TypeError, RecursionError):
        subject = kind = node = None
    if not (isinstance(subject, str) and isinstance(kind, str) and isinstance(node, str)):
        raise NotPermitted("the principal of this request cannot be read", reason="principal_malformed")
    return subject, kind, node
