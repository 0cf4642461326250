"""The golden vectors of the gateway, read by the SDK on each interpreter."""

from __future__ import annotations

import json

from gateway.wire import brokering, frames, metadata, mimetypes
from tests.device.conftest import Start
from tests.device.interpreters import REPOSITORY, Interpreter

VECTORS = REPOSITORY / "tests" / "vectors"


async def test_vectors(interpreter: Interpreter, start: Start) -> None:
    """X01, X02: frames and metadata encode to the golden bytes, and decode to their fields."""
    program = await start(interpreter.with_heap("256k"), "vectors", VECTORS)
    line = await program.line()
    setup = await program.line()
    await program.finish()
    everything = {name: json.loads((VECTORS / name).read_text()) for name in line["counts"]}
    assert line["counts"]["frames.json"] >= len(everything["frames.json"]) // 2
    assert line["counts"]["metadata.json"] >= 10
    assert line["refused"] >= 3

    frame = frames.decode(bytes.fromhex(setup["setup"]))
    assert isinstance(frame, frames.Setup)
    assert (frame.keepalive_ms, frame.lifetime_ms) == (20000, 90000)
    assert frame.metadata_mime == mimetypes.COMPOSITE
    token, route = metadata.decode_composite(frame.metadata or b"")
    assert metadata.decode_authentication(token[1]) == metadata.Bearer(b"tok")
    assert route[0] == mimetypes.BROKER_FRAME
    registered = brokering.decode(route[1])
    assert isinstance(registered, brokering.RouteSetup)
    assert (registered.service, registered.tags) == ("pong", ())
