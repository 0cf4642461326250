"""What the links of a node count, as a scrape reads it. Must not know: links."""

from __future__ import annotations

from typing import NamedTuple


class LinkFigures(NamedTuple):
    """All links of one kind to one node, or to those that share a label. `rtt_s`, `lag_s`: the largest, in seconds;
    `lag`: changes of routes that are yet to be told. The last four count what is over, too."""

    kind: str
    node: str
    up: int = 0
    active: int = 0
    rtt_s: float = 0.0
    routes_in: int = 0
    routes_out: int = 0
    lag: int = 0
    lag_s: float = 0.0
    restarts: int = 0
    mismatches: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class TableFigures(NamedTuple):
    """The table that central nodes share. `why` is empty while its engine is followed; `dirty`: keys that are yet to be
    written; `invalid`: values that could not be read."""

    fresh: bool
    why: str
    devices: int
    edges: int
    nodes: int
    dirty: int
    invalid: int
