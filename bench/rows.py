"""What is measured, each row on its own, and what is wanted of it.

A row gives one `Line` for people and a document for programs. Ratios are of runs right after each other, the best of
some rounds: on a shared machine the ratio of two neighbours says more than any figure alone.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from bench.peers import Peer
from bench.processes import Node, node
from gateway.load.arrivals import BackOff, connects, storm
from gateway.load.crowd import Crowd, room_for
from gateway.load.endpoint import Endpoint
from gateway.load.opening import KEEPALIVE_MS, setup_frame
from gateway.load.run import complete, measure, together
from gateway.load.shape import Access, Model, Result, Shape
from gateway.load.tally import Tally

KIB = 1024
MIB = 1024 * KIB
#: How many connections serve where a hundred ask.
_SERVERS = 10


@dataclass(frozen=True)
class Ground:
    """What rows are measured on. `floor` is None where it could not be built."""

    node: Node
    floor: Access | None
    peers: Sequence[Peer]
    directory: Path
    seconds: float
    rounds: int


@dataclass(frozen=True)
class Line:
    """One figure: what of, how much, and whether that is what is wanted (None: nothing is)."""

    row: str
    subject: str
    text: str
    good: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: "  ok", False: "  BELOW"}[self.good]
        return f"{self.row:<18} {self.subject:<20} {self.text}{verdict}"


@dataclass
class Outcome:
    """What a row found: lines, and all that was measured."""

    lines: list[Line] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ShapeRow:
    """One shape through the node and the floor in turn, and through each peer.

    `goal` is of the node's rate to the floor's, `ahead` of the node's to a peer's. With `slower_us` the goal is of the
    latencies: how many microseconds the node's p50 may be above the floor's.
    """

    name: str
    shape: Shape
    goal: float = 0.0
    ahead: Mapping[str, float] = field(default_factory=dict)
    slower_us: float = 0.0
    interpreted: bool = False

    def run(self, ground: Ground) -> Outcome:
        if not self.interpreted:
            return self._run(ground, ground.node)
        with node(ground.directory / "interpreted", interpreted=True) as slow:
            return self._run(ground, slow)

    def _run(self, ground: Ground, measured: Node) -> Outcome:
        shape = replace(self.shape, seconds=ground.seconds)
        rounds: list[dict[str, Result]] = []
        for _ in range(ground.rounds):
            found: dict[str, Result] = {}
            if ground.floor is not None:
                found["floor"] = complete(measure(ground.floor, shape))
            found["node"] = complete(measure(measured.access, shape))
            for peer in () if self.interpreted else ground.peers:
                result = peer.measure(shape)
                if result is not None:
                    found[peer.name] = result
            rounds.append(found)
        outcome = Outcome(
            document={"rounds": [{who: one.document() for who, one in found.items()} for found in rounds]}
        )
        for line in self._lines(rounds, outcome.document):
            outcome.lines.append(line)
        return outcome

    def _lines(self, rounds: list[dict[str, Result]], document: dict[str, Any]) -> Iterator[Line]:
        others = [who for who in rounds[0] if who != "node"]
        if not others:
            best = max((found["node"] for found in rounds), key=lambda result: result.rate)
            yield Line(self.name, "node", _figures(best))
        for other in others:
            pair = max(rounds, key=lambda found: self._merit(found["node"], found[other]))
            ours, theirs = pair["node"], pair[other]
            ratio = ours.rate / theirs.rate if theirs.rate else 0.0
            document.setdefault("ratios", {})[other] = round(ratio, 4)
            if other != "floor":
                wanted = next((goal for name, goal in self.ahead.items() if other.startswith(name)), 0.0)
                goal = f" (≥ {wanted:g})" if wanted else ""
                said = f"{_figures(theirs)}  node {ours.rate:,.0f}, {ratio:.2f} times as many{goal}"
                yield Line(self.name, other, said, ratio >= wanted if wanted else None)
                continue
            yield Line(self.name, "floor", _figures(theirs))
            if self.slower_us:
                slower = (ours.latency.p50 - theirs.latency.p50) * 1e6
                document["slower_us"] = round(slower, 1)
                said = f"{_figures(ours)}  p50 {slower:+.0f} µs (≤ {self.slower_us:g})"
                yield Line(self.name, "node", said, slower <= self.slower_us)
            else:
                goal = f" (≥ {self.goal * 100:.0f} %)" if self.goal else ""
                said = f"{_figures(ours)}  {ratio * 100:.0f} % of the floor{goal}"
                yield Line(self.name, "node", said, ratio >= self.goal if self.goal else None)

    def _merit(self, ours: Result, theirs: Result) -> float:
        if self.slower_us:
            return theirs.latency.p50 - ours.latency.p50
        return ours.rate / theirs.rate if theirs.rate else 0.0


@dataclass(frozen=True)
class NeighbourRow:
    """A request at a time while another connection pushes streams: how much longer its p99 is than alone."""

    name: str
    goal: float

    def run(self, ground: Ground) -> Outcome:
        alone = Shape(in_flight=1, seconds=ground.seconds)
        pushing = Shape(Model.STREAM, in_flight=16, items=1000, seconds=ground.seconds)
        access = ground.node.access
        rounds = []
        for _ in range(ground.rounds):
            quiet = complete(measure(access, alone))
            beside, streams = complete(together(access, [alone, pushing]))
            rounds.append((quiet, beside, streams))
        quiet, beside, streams = min(rounds, key=lambda found: found[1].latency.p99 / found[0].latency.p99)
        ratio = beside.latency.p99 / quiet.latency.p99
        said = (
            f"p99 {quiet.latency.p99 * 1e6:,.0f} µs alone, {beside.latency.p99 * 1e6:,.0f} µs beside "
            f"{streams.rate:,.0f} items/s: {ratio:.1f} times (≤ {self.goal:g})"
        )
        documents = [{"alone": a.document(), "beside": b.document(), "streams": c.document()} for a, b, c in rounds]
        line = Line(self.name, "node", said, ratio <= self.goal)
        return Outcome([line], {"rounds": documents, "ratio": round(ratio, 2)})


@dataclass(frozen=True)
class ConnectRow:
    """Connections ready a second, token verified and route entered."""

    name: str

    def run(self, ground: Ground) -> Outcome:
        result = complete(connects(ground.node.access, 64, ground.seconds))
        return Outcome([Line(self.name, "node", _figures(result))], {"rounds": [{"node": result.document()}]})


@dataclass(frozen=True)
class IdleRow:
    """Idle devices, each with a token and a route of its own: memory and CPU on a node that has nothing else to do."""

    name: str
    devices: int
    goal_each: int = 10 * KIB
    goal_all: int = 150 * MIB
    goal_cpu: float = 0.05

    def run(self, ground: Ground) -> Outcome:
        room = {"GATEWAY__LIMITS__MAX_CONNECTIONS": str(self.devices + 100)}
        with node(ground.directory / "idle", settings=room) as quiet:
            return complete(self._run(quiet))

    async def _run(self, quiet: Node) -> Outcome:
        room_for(self.devices)
        tally = Tally()
        before = quiet.resident_bytes()
        async with Crowd(quiet.access, tally) as crowd:
            await crowd.admit_each(
                (Endpoint(tally, crowd.framing), setup_frame(token, subject, uuid.uuid4().bytes))
                for subject, token in quiet.device_tokens(self.devices)
            )
            after = quiet.resident_bytes()
            cpu, begun = quiet.cpu_seconds(), time.monotonic()
            await asyncio.sleep(KEEPALIVE_MS / 1000)
            share = (quiet.cpu_seconds() - cpu) / (time.monotonic() - begun)
        each = (after - before) / self.devices
        memory = (
            f"{each / KIB:.1f} KiB a connection (≤ {self.goal_each / KIB:g}), "
            f"{after / MIB:.0f} MiB in all (≤ {self.goal_all / MIB:g})"
        )
        processor = f"{share * 100:.1f} % of a core for a keepalive each 20 s (≤ {self.goal_cpu * 100:g} %)"
        lines = [
            Line(self.name, "memory", memory, each <= self.goal_each and after <= self.goal_all),
            Line(self.name, "processor", processor, share <= self.goal_cpu),
        ]
        if tally.errors:
            lines.append(Line(self.name, "errors", "; ".join(tally.texts), False))
        figures = {"devices": self.devices, "bytes_each": round(each), "bytes_in_all": after, "core": round(share, 4)}
        return Outcome(lines, figures)


@dataclass(frozen=True)
class StormRow:
    """Devices that were all dropped at once and come back by themselves."""

    name: str
    devices: int
    goal_s: float = 10.0

    def run(self, ground: Ground) -> Outcome:
        tokens = ground.node.device_tokens(self.devices)
        result = complete(storm(ground.node.access, tokens, BackOff(), Random()))
        refused = {name: count for name, count in result.more.items() if name.startswith("refused")}
        last = result.more["last_s"]
        said = (
            f"{result.operations:,} of {self.devices:,} ready again, the last after {last:.1f} s (≤ {self.goal_s:g}); "
            f"{result.more['tries']:,.0f} tries, refused {refused or 'none'}; a neighbour's p99 "
            f"{result.more['healthy_p99_ms']:g} ms, {result.more['quiet_p99_ms']:g} ms before"
        )
        good = result.good and last <= self.goal_s
        return Outcome([Line(self.name, "node", said, good)], {"rounds": [{"node": result.document()}]})


def _figures(result: Result) -> str:
    line = f"{result.rate:>11,.0f} {result.unit + '/s':<7}  {result.latency}  load {result.load * 100:.0f} %"
    if not result.good:
        line += f"  errors {result.errors}, unfinished {result.unfinished} {'; '.join(result.texts)}"
    return line


Row = ShapeRow | NeighbourRow | ConnectRow | IdleRow | StormRow

_HUNDRED = Shape(requesters=100, responders=_SERVERS)

ROWS: tuple[Row, ...] = (
    ShapeRow("rr 1×64", Shape(), 0.60, {"nats-server": 1.2, "nginx": 10.0}),
    ShapeRow("rr 100×1", replace(_HUNDRED, in_flight=1), 0.70, {"nats-server": 1.5, "nginx": 10.0}),
    ShapeRow("rr 100×16", replace(_HUNDRED, in_flight=16), 0.60, {"nats-server": 2.0}),
    ShapeRow("rr 1×1", Shape(in_flight=1), slower_us=30.0),
    ShapeRow("rr 1×64 4 KiB", Shape(payload=4096), 0.70),
    ShapeRow("fnf 1", Shape(Model.FNF, in_flight=1), 0.50),
    ShapeRow("stream 1×64", Shape(Model.STREAM), 0.50),
    ShapeRow("channel 1×64", Shape(Model.CHANNEL)),
    ShapeRow("rr 1×64 pure", Shape(), 0.05, interpreted=True),
    NeighbourRow("neighbour", 3.0),
    ConnectRow("connect"),
    StormRow("storm", 2000),
    IdleRow("idle", 10_000),
)
