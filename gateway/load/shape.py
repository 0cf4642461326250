"""What a run looks like, and what came out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from gateway.load.histogram import Histogram
from gateway.load.opening import Address
from gateway.load.templates import NO_MASK


class Model(StrEnum):
    """The interaction models, and what one operation of each is."""

    RESPONSE = "rr"
    FNF = "fnf"
    STREAM = "stream"
    CHANNEL = "channel"

    @property
    def unit(self) -> str:
        return {Model.RESPONSE: "req", Model.FNF: "msg"}.get(self, "items")


@dataclass(frozen=True, slots=True)
class Access:
    """Where the load goes and as whom. Responders register `service`; requests go to `route`.

    `mask` is the key of everything that is sent over WebSocket.
    """

    address: Address
    token: str | None
    service: str = "bench"
    route: str = "bench.echo"
    mask: bytes = NO_MASK


@dataclass(frozen=True, slots=True)
class Shape:
    """`requesters` connections, each with `in_flight` operations under way, against `responders` connections.

    `payload` is bytes a request and an answer; a stream or channel has `items` and `credit` of them at most under way;
    `idle` further connections only keep alive. No responders: somebody else serves the route. Counting begins after
    `warm_up` seconds and goes on for `seconds`.
    """

    model: Model = Model.RESPONSE
    requesters: int = 1
    in_flight: int = 64
    responders: int = 1
    payload: int = 32
    items: int = 1000
    credit: int = 64
    idle: int = 0
    seconds: float = 3.0
    warm_up: float = 0.5

    def __str__(self) -> str:
        text = f"r={self.requesters} w={self.in_flight} s={self.responders} b={self.payload}"
        if self.model in (Model.STREAM, Model.CHANNEL):
            text += f" n={self.items}"
        return text + (f" idle={self.idle}" if self.idle else "")


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds. All 0 where no latency was taken."""

    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0

    @classmethod
    def of(cls, histogram: Histogram) -> Latency:
        return cls(histogram.quantile(0.5), histogram.quantile(0.99), histogram.longest)

    def __str__(self) -> str:
        if not self.longest:
            return "p50 -  p99 -  max -"
        return f"p50 {_time(self.p50)}  p99 {_time(self.p99)}  max {_time(self.longest)}"


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did. `name` and `shape` say what was run; `rate` is operations (`unit`) a second.

    `unfinished`: operations that were begun and never ended. `texts`: what the first errors said. `load`: the share of
    one core that the load itself took; near 1 it is the load that was measured.
    """

    name: str
    shape: str
    unit: str
    operations: int
    seconds: float
    latency: Latency
    errors: int
    unfinished: int = 0
    load: float = 0.0
    texts: tuple[str, ...] = ()
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.operations / self.seconds if self.seconds else 0.0

    @property
    def good(self) -> bool:
        return self.operations > 0 and self.errors == 0 and self.unfinished == 0

    def __str__(self) -> str:
        line = f"{self.name:<7} {self.shape:<24} {self.rate:>11,.0f} {self.unit + '/s':<8} {self.latency}"
        line += "".join(f"  {name} {value:g}" for name, value in self.more.items())
        line += f"  load {self.load * 100:.0f} %  errors {self.errors}"
        return line + (f"  unfinished {self.unfinished}" if self.unfinished else "")

    def document(self) -> dict[str, Any]:
        """For JSON; the latencies are in microseconds."""
        document = asdict(self)
        latency = document.pop("latency")
        return {
            **document,
            "rate": round(self.rate, 1),
            "latency_us": {name: round(value * 1e6, 1) for name, value in latency.items()},
        }


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 0.01 else f"{seconds * 1e6:,.0f} µs"
