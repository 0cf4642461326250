"""What is said of the requests that are recorded as parts of a trace (docs/tracing.md); `sampling` says which they are.

What is recorded is handed over as plain tuples; whoever delivers them does so in a thread of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from gateway.errors import FrameError, RequestError
from gateway.forwarding.decision import section
from gateway.forwarding.links import LOCAL
from gateway.forwarding.sampling import RECORDED, Sampler
from gateway.forwarding.stamp import Form
from gateway.observe.metrics import DEVICES
from gateway.observe.spans import Span, Value
from gateway.policy import telemetry
from gateway.policy.access import is_reserved
from gateway.wire.frames import ErrorCode, FrameType
from gateway.wire.tracing import Context, begun, context_in, continued

if TYPE_CHECKING:
    from gateway.forwarding.call import Call
    from gateway.forwarding.endpoint import Endpoint
    from gateway.routing.route import Route

#: Services whose draws are remembered.
_MAX_SAMPLERS: Final = 1024
#: How a request ended, by the outcomes of `ending`.
_OUTCOMES: Final = ("", "failed", "canceled")
_NAMES: Final[dict[int, str]] = {int(code): code.name for code in ErrorCode}


class Tracing:
    """What the recorded requests of one node share. `offer` takes each span when it is over."""

    def __init__(
        self,
        rules: telemetry.Tracing,
        random: Random,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        offer: Callable[[Span], None],
    ) -> None:
        self.rules = rules
        self.random = random
        self.monotonic = monotonic
        self.wall = wall
        self.offer = offer
        #: The trace of the latest refused request that is part of one, by the reason; whoever says it takes it out.
        self.refusals: dict[str, str] = {}
        self._samplers: dict[str, Sampler] = {}

    def sampler(self, route: Route) -> Sampler | None:
        """Who draws for the requests to the service of this route; the node's own are not recorded."""
        service = route.service or DEVICES
        if is_reserved(service):
            return None
        sampler = self._samplers.get(service)
        if sampler is None:
            sampler = Sampler(self, service, self.rules.share(service), self.rules.parent_based)
            if len(self._samplers) < _MAX_SAMPLERS:
                self._samplers[service] = sampler
        return sampler

    def begin(self, context: Context | None, service: str) -> Trace:
        """Record a request. `context`: what it says of its trace."""
        return Trace(self, context, service)

    def new_id(self, size: int) -> bytes:
        """Random bytes, not all zero."""
        return (self.random.getrandbits(size * 8) or 1).to_bytes(size, "big")

    def refused(self, metadata: bytes, form: int, kind: int, error: RequestError) -> None:
        """A request was refused: a span of its own, where its caller has decided to record it."""
        if error.trace_id:
            self.refusals[error.reason] = error.trace_id
            return
        try:
            context = context_in(metadata) if form == Form.COMPOSITE else None
        except FrameError:
            return
        if context is None or not context.trace_id:
            return
        if context.sampling in RECORDED and self.rules.parent_based:
            trace = Trace(self, context, "refused")
            trace.attributes["rsocket.interaction"] = FrameType(kind).name
            trace.attributes["gateway.reason"] = error.reason
            trace.ended(1, error.code, str(error))
        self.refusals[error.reason] = context.trace_id.hex()


class Trace:
    """The part of a trace that one request has at this node: a span, and one within it for each attempt where there
    may be several. `text`: of the ERROR frame that ended it."""

    __slots__ = (
        "_began",
        "_id",
        "_inner",
        "_inner_began",
        "_inner_said",
        "_parent",
        "_span",
        "_start",
        "_tracing",
        "attributes",
        "name",
        "text",
    )

    def __init__(self, tracing: Tracing, context: Context | None, service: str) -> None:
        self._tracing = tracing
        self._id = (context.trace_id if context is not None else b"") or tracing.new_id(16)
        self._parent = context.span_id if context is not None else b""
        self._span = tracing.new_id(8)
        self._start = tracing.wall()
        self._began = tracing.monotonic()
        self._inner = b""
        self._inner_began = 0.0
        self._inner_said: dict[str, Value] = {}
        self.name = service
        self.text = b""
        self.attributes: dict[str, Value] = {"rpc.system": "rsocket", "rpc.service": service}

    @property
    def trace_id(self) -> str:
        return self._id.hex()

    def asked(self, route: str, kind: int, caller: str, policy: str = "") -> None:
        """What is asked for, by whom, and by which document it is treated."""
        self.name = route
        self.attributes |= {"rpc.method": route, "rsocket.interaction": FrameType(kind).name, "gateway.caller": caller}
        if policy:
            self.attributes["gateway.policy"] = policy

    def attempt(self, number: int, subset: str, code: int) -> None:
        """What goes out next is of this attempt; the one before it is over, with this error."""
        self._end_inner(1, code)
        self.text = b""
        self._inner = self._tracing.new_id(8)
        self._inner_began = self._tracing.monotonic()
        self._inner_said = {"rpc.system": "rsocket", "gateway.attempt": number}
        if subset:
            self._inner_said["gateway.subset"] = subset

    def onward(self, metadata: bytes) -> bytes:
        """Composite metadata as it goes on. Raises FrameError where it is none."""
        return continued(metadata, self._id, self._inner or self._span, self._span if self._inner else self._parent)

    @property
    def entries(self) -> bytes:
        """Composite entries for metadata that says nothing of a trace."""
        return begun(self._id, self._inner or self._span)

    def ended(self, outcome: int, code: int = 0, text: str = "") -> None:
        """It is over: how, by `ending`, and the code of the error that was sent, where there was one."""
        if text:
            self.text = text.encode()
        self._end_inner(outcome, code)
        error = _status(self.attributes, outcome, code, self.text)
        end = self._start + self._tracing.monotonic() - self._began
        self._tracing.offer(
            Span(self._id, self._span, self._parent, self.name, self._start, end, self.attributes, error)
        )

    def _end_inner(self, outcome: int, code: int) -> None:
        if not self._inner:
            return
        error = _status(self._inner_said, outcome, code, self.text)
        start = self._start + self._inner_began - self._began
        end = self._start + self._tracing.monotonic() - self._began
        name = f"{self.name} #{self._inner_said['gateway.attempt']}"
        self._tracing.offer(Span(self._id, self._inner, self._span, name, start, end, self._inner_said, error, True))
        self._inner = b""


def traced_section(call: Call, trace: Trace, metadata: bytes, varying: bool, target: int, stamp: bytes | None) -> bytes:
    """The metadata section of a recorded request, for a responder of form `target`: as `decision.section` makes it,
    with the place in the trace where it goes on. Metadata that is not `varying` says nothing of a trace."""
    if call.kept is not None or call.attempt > 1:
        trace.attempt(call.attempt, "" if call.part is None else call.part.subset, call.code)
    source = call.requester.form
    if varying and source == Form.COMPOSITE:
        return section(call.decision, trace.onward(metadata), True, source, target, stamp)
    governed = call.decision.governed
    # A section that is kept ends with what a time limit says, which is put in behind the trace.
    kept = not varying and (governed is None or not governed.timeout_s)
    plain = call.decision.sections[target] if kept else None
    if plain is None:
        plain = section(call.decision, metadata, not kept, source, target, stamp)
    if target != Form.COMPOSITE:
        return plain
    traced = plain[3:] + trace.entries
    return len(traced).to_bytes(3, "big") + traced


def caller_of(requester: Endpoint, identity: bytes | None) -> str:
    """The subject of whoever asks; of what came over a link, as its node says."""
    if identity is None or requester.side == LOCAL:
        return requester.grant.principal.subject
    try:
        return str(json.loads(identity)["subject"])
    except (ValueError, KeyError, TypeError):
        return ""


def _status(attributes: dict[str, Value], outcome: int, code: int, text: bytes) -> str:
    """Note how it ended; returns why it is an error, "" where it is none. That a caller wants no more is none."""
    if not outcome:
        return ""
    how = _OUTCOMES[outcome]
    attributes["gateway.outcome"] = how
    if code:
        attributes["rsocket.error_code"] = code
        how = _NAMES.get(code) or f"0x{code:x}"
        return f"{how}: {text.decode('utf-8', 'replace')}" if text else how
    return how if outcome == 1 else ""
