"""Every fuzz target, by name. A long run divides its executions by `weight`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.fuzz import addressing, frame_codec, golden, handshake, metadata_parsers, plane, readers, tokens
from tests.fuzz.target import Target


def _seeded(name: str, run: Callable[[bytes], str], weight: int) -> Target:
    """A target whose inputs the golden vectors know."""
    return Target(name, run, weight=weight, more_seeds=partial(golden.seeds, name))


TARGETS = {
    target.name: target
    for target in (
        _seeded("frame", frame_codec.frame, 16),
        _seeded("setup", frame_codec.setup, 10),
        Target("fragments", readers.fragments, weight=8),
        _seeded("composite", metadata_parsers.composite, 12),
        _seeded("routing", metadata_parsers.routing, 6),
        _seeded("authentication", metadata_parsers.authentication, 6),
        _seeded("mime_types", metadata_parsers.mime_types, 6),
        _seeded("zipkin", metadata_parsers.zipkin, 4),
        _seeded("broker_frame", metadata_parsers.broker_frame, 8),
        _seeded("broker_tags", metadata_parsers.broker_tags, 6),
        _seeded("address", addressing.address, 8),
        Target("token", tokens.token, weight=4, quick=500, max_bytes=9000, more_seeds=tokens.seeds),
        Target("websocket", readers.websocket, weight=6, quick=300),
        Target("prefixed", readers.prefixed, weight=4, quick=300),
        Target("handshake", handshake.websocket_connection, weight=2, quick=100, memory=(1 << 20, 64)),
        Target(
            "plane",
            plane.plane,
            weight=3,
            quick=300,
            memory=(2 << 20, 512),
            mutate=plane.mutate,
            more_seeds=plane.seeds,
        ),
    )
}
