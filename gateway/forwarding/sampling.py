"""Which requests are recorded as parts of a trace.

The decision is made where a trace begins, and holds at every node that it comes to. So a share is drawn for requests of
this node's own clients alone, and only where the client has not decided itself; what comes over a link was decided on
where it came from. What is drawn is a gap, not each request: so many go unrecorded until the next one.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Final

from gateway.forwarding.links import LOCAL
from gateway.forwarding.stamp import Form
from gateway.wire.metadata import Sampling
from gateway.wire.tracing import context_in

if TYPE_CHECKING:
    from gateway.forwarding.tracing import Trace, Tracing

RECORDED: Final = (Sampling.SAMPLED, Sampling.DEBUG)
#: A gap without an end.
_NEVER: Final = 2**62
_LOCAL = int(LOCAL)
_COMPOSITE = int(Form.COMPOSITE)


class Sampler:
    """Draws for the requests to one service. `left`: requests until the next that is recorded."""

    __slots__ = ("_log", "left", "parent_based", "service", "share", "tracing")

    def __init__(self, tracing: Tracing, service: str, share: float, parent_based: bool) -> None:
        self.tracing = tracing
        self.service = service
        self.share = share
        self.parent_based = parent_based
        self._log = log(1.0 - share) if 0.0 < share < 1.0 else 0.0
        self._draw()

    def _draw(self) -> None:
        """The gap, as it is distributed where each request is drawn by itself."""
        if self.share <= 0.0:
            self.left = _NEVER
        elif self.share >= 1.0:
            self.left = 0
        else:
            self.left = min(_NEVER, int(log(1.0 - self.tracing.random.random()) / self._log))

    def begin(self, metadata: bytes, varying: bool, form: int, side: int) -> Trace | None:
        """What is recorded of this request; None: nothing. `varying`: its metadata may say which trace it is part of.

        Raises FrameError for composite metadata that is none.
        """
        context = None
        if varying and form == _COMPOSITE:
            context = context_in(metadata)
            if context is not None and self.parent_based and context.sampling is not Sampling.UNDECIDED:
                return self.tracing.begin(context, self.service) if context.sampling in RECORDED else None
        if side != _LOCAL:
            return None
        if self.left > 0:
            self.left -= 1
            return None
        self._draw()
        return self.tracing.begin(context, self.service)
