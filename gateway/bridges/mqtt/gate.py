"""`Access` documents at the border to the broker: each topic is judged here, whichever way it came.

What goes to the broker is `publish`, by whoever asks for it. What comes from it is `subscribe`: by the bridge where one
of its rules takes it, by each consumer where one has subscribed; so a consumer gets of a filter the topics that it may
have, retained ones as any. What is open is judged again when documents change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.errors import NotPermitted
from gateway.forwarding import judging
from gateway.forwarding.connection import Connection
from gateway.forwarding.ending import RIGHTS_CHANGED
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.links import LOCAL
from gateway.forwarding.plane import Plane
from gateway.policy.asking import Ask, Caller
from gateway.policy.authorization import Act
from gateway.policy.judgement import Verdict
from gateway.wire.metadata import iter_composite
from gateway.wire.mimetypes import PRINCIPAL

#: Verdicts on topics that are remembered, by who asks.
_KNOWN: Final = 8192


class Gate:
    """`own`: the bridge, as who asks."""

    def __init__(self, plane: Plane, own: Callable[[], Caller]) -> None:
        self._plane = plane
        self._own = own
        self._known: dict[tuple[Caller, str, Act], Verdict] = {}
        self._open: dict[int, tuple[Exchange, Caller, Ask]] = {}

    def caller(self, exchange: Exchange) -> Caller:
        """Who asks. Raises NotPermitted."""
        connection = exchange.caller
        if connection.side == LOCAL and connection is not self._plane.multicast:
            return connection.caller
        return self.named(exchange.request.metadata or b"", None)

    def named(self, metadata: bytes, connection: Connection | None) -> Caller:
        """Who a request names, which came over `connection` where that is known. Raises NotPermitted."""
        if connection is not None and connection.side == LOCAL and connection is not self._plane.multicast:
            return connection.caller
        for entry in iter_composite(metadata, 0, len(metadata)):
            if entry.mime == PRINCIPAL:
                return judging.vouched(self._plane, metadata[entry.content_start : entry.end])
        raise NotPermitted("nobody is named who asks for this topic", reason="principal_malformed")

    def check(self, caller: Callable[[], Caller], topic: str, act: Act = Act.PUBLISH) -> None:
        """Raises NotPermitted."""
        if self.judges:
            judging.check(self._plane, caller(), Ask(act, topic=topic), f"{act} {topic}")

    def admit(self, exchange: Exchange, act: Act, topic: str, *, wide: bool = False) -> None:
        """Let an exchange about a topic, or with `wide` about a filter, begin; it ends when it is not allowed any more.
        Raises NotPermitted."""
        ask = Ask(act, topic=topic, wide=wide)
        caller = self.caller(exchange)
        if self.judges:
            judging.check(self._plane, caller, ask, f"{act} {topic}")
        self._open[exchange.stream_id] = exchange, caller, ask

    def ended(self, exchange: Exchange) -> None:
        self._open.pop(exchange.stream_id, None)

    @property
    def judges(self) -> bool:
        """Whether any document speaks of topics."""
        return bool(self._plane.judgement.topics)

    def takes(self, topic: str, act: Act = Act.SUBSCRIBE) -> bool:
        """Whether the bridge itself may take a message of a topic, or send one."""
        return self._lets(self._own(), topic, act) if self.judges else True

    def gives(self, exchange: Exchange, topic: str) -> bool:
        """Whether a consumer may have a message."""
        if not self.judges:
            return True
        found = self._open.get(exchange.stream_id)
        return found is not None and self._lets(found[1], topic)

    def _lets(self, caller: Caller, topic: str, act: Act = Act.SUBSCRIBE) -> bool:
        key = caller, topic, act
        verdict = self._known.get(key)
        if verdict is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            verdict = self._known[key] = self._plane.judgement.judge(caller, Ask(act, topic=topic))
        judging.note(self._plane, verdict)
        if not verdict.allowed:
            self._plane.metrics.judged(verdict.policy, judging.DENIED)
        return verdict.allowed

    def changed(self) -> None:
        """Other documents stand."""
        self._known.clear()
        for exchange, before, ask in list(self._open.values()):
            connection = exchange.caller
            known = connection.side == LOCAL and connection is not self._plane.multicast
            caller = connection.caller if known else before
            self._open[exchange.stream_id] = exchange, caller, ask
            if exchange.open and not self._plane.judgement.judge(caller, ask).allowed:
                exchange.fail(NotPermitted(RIGHTS_CHANGED, reason="access_denied"))
