"""The golden vectors as fuzzing inputs (tests/vectors/README.md says what they hold)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "vectors"
#: Keys of a vector's kind, and the target whose input it is.
_METADATA = {
    "composite": "composite",
    "routing": "routing",
    "authentication": "authentication",
    "mime_type": "mime_types",
    "accept_mime_types": "mime_types",
    "zipkin": "zipkin",
}


def seeds(target: str) -> list[bytes]:
    """Inputs of this target, good vectors and malformed ones."""
    found = [data for kind, data in _vectors() if kind == target]
    if target == "setup":
        frames = [data for kind, data in _vectors() if kind == "frame"]
        found = [with_length(frame) for frame in frames if frame[4:5] in (b"\x04", b"\x05")]
    elif target == "broker_tags":
        found = [data[23 + data[22] :] for data in _route_setups()]
    elif target == "address":
        found = [b"\x05\x04echo" + data for kind, data in _vectors() if kind == "broker_frame"]
        found += [bytes((len(data),)) + data for kind, data in _vectors() if kind == "routing" and len(data) < 256]
    return found


def _route_setups() -> list[bytes]:
    return [data for kind, data in _vectors() if kind == "broker_frame" and data[4:6] == b"\x04\x00" and len(data) > 22]


def with_length(frame: bytes) -> bytes:
    """A frame with a u16 length before it, as targets of several frames take them."""
    return len(frame).to_bytes(2, "big") + frame


def _vectors() -> list[tuple[str, bytes]]:
    found = []
    for file in ("frames", "metadata", "brokering", "malformed"):
        vectors: list[dict[str, Any]] = json.loads((_FOLDER / f"{file}.json").read_text())
        for vector in vectors:
            kind = vector["kind"] if file == "malformed" else vector["type"]
            if file == "frames" or kind == "frame":
                target = "frame"
            elif file == "brokering" or kind == "brokering":
                target = "broker_frame"
            else:
                target = _METADATA[kind]
            found.append((target, bytes.fromhex(vector["hex"])))
    return found
