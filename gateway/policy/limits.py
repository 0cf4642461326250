"""How much one connection may use: one profile for each kind of principal.

A device's figures are meant for strangers on a small box. A user's program is a stranger too and gets the same, but
may be in several places at once. Services, nodes and administrators' tools are trusted with frames up to the largest
that RSocket has and with no rate or stream limit; their buffers are bounded all the same. Every figure can be set by
``limits.<kind>.<name>`` in the settings. Knows nothing of how a limit is enforced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from gateway.policy.principal import Kind

KIB = 1024
MIB = 1024 * KIB

LARGEST_FRAME_BYTES = 0xFF_FFFF


@dataclass(frozen=True, slots=True)
class LimitsProfile:
    """Limits of one connection. Bytes, seconds and counts; 0 means "no limit" only where a field says so.

    The defaults are a device's.
    """

    max_connections: int = 1
    """Connections of one subject; beyond it the oldest goes; 0: no limit. A device is in one place (fault 59)."""
    max_frame_bytes: int = 64 * KIB
    """One RSocket frame, header included; also one WebSocket message."""
    max_metadata_bytes: int = 4 * KIB
    """The metadata of one frame."""
    max_metadata_entries: int = 16
    """Entries of one composite metadata."""
    max_route_bytes: int = 255
    """One routing tag, or one service name."""
    max_mime_bytes: int = 127
    """One MIME type in SETUP."""
    max_setup_bytes: int = 8 * KIB
    """The SETUP frame, token and registrations included."""
    max_streams: int = 128
    """Streams open at a time; 0: no limit."""
    requests_per_second: int = 50
    """Requests a second, refilled evenly; 0: no limit."""
    request_burst: int = 100
    """Requests that may come at once; unused while requests_per_second is 0."""
    max_reassembly_bytes: int = 1 * MIB
    """One message put together from fragments, for the node's own services."""
    max_fragments: int = 64
    """Fragments of one message."""
    max_partials: int = 8
    """Messages that the node holds partly, at a time: those to its own services, and requests' metadata."""
    max_partial_bytes: int = 2 * MIB
    """Bytes of all these messages together."""
    partial_idle_s: float = 10.0
    """How long the next fragment of such a message may take to come."""
    min_fragment_bytes: int = 64
    """Any fragment that is passed on, but for the last one of a message; 0: no limit. The node's own services take none
    below 64 whatever this is."""
    broken_messages: int = 3
    """Fragmented messages over a limit, in a minute, from which on the connection is closed; 0: no limit."""
    max_keepalive_bytes: int = 64
    """Data of one KEEPALIVE frame."""
    ignored_frames: int = 200
    """Frames that the protocol says to ignore, in one window, before the connection is closed; 0: no limit."""
    ignored_bytes: int = 1 * MIB
    """Bytes of such frames in one window."""
    ignored_window_s: float = 10.0
    """The window of the two budgets above."""
    high_water_bytes: int = 256 * KIB
    """Bytes waiting to leave above which the credit of streams that feed this connection is withheld."""
    hard_water_bytes: int = 1 * MIB
    """Bytes waiting to leave above which whoever feeds this connection is paused."""
    write_deadline_s: float = 10.0
    """How long a connection with bytes waiting may take none of them before it is dropped."""
    resume_bytes: int = 256 * KIB
    """Sent frames kept until a session that can be resumed has confirmed them; 0: sessions cannot be resumed."""
    resume_hold_s: float = 60.0
    """How long such a session waits for another link when it has lost its own."""
    max_memory_bytes: int = 2 * MIB
    """What is held for one connection, above which it is closed: bytes that wait to leave, messages that are partly
    there, frames kept for a resume; 0: no limit."""
    bytes_per_second: int = 256 * KIB
    """Bytes read, a second's worth at once; above it the connection is not read from for a while; 0: no limit."""
    premature_ends: int = 500
    """Ended requests from which on the connection is closed when half of them were canceled within a second or were
    invalid; 0: no limit."""
    keepalive_burst: int = 5
    """KEEPALIVE frames beyond two in each interval that SETUP names; 0: no limit."""
    pushes_per_second: int = 10
    """METADATA_PUSH frames that are taken; more of them are dropped and counted; 0: no limit."""
    request_n_burst: int = 64
    """REQUEST_N frames of a stream beyond one for each item; more of them count as frames to ignore; 0: no limit."""

    @property
    def has_budgets(self) -> bool:
        """Whether any limit is one that takes account of a connection's past."""
        return any(getattr(self, name) for name in _BUDGETS)


_DEVICE = LimitsProfile()
#: Somebody may have a page open in two windows.
_USER = replace(_DEVICE, max_connections=0)
_TRUSTED = LimitsProfile(
    max_connections=0,
    max_frame_bytes=LARGEST_FRAME_BYTES,
    max_metadata_bytes=64 * KIB,
    max_metadata_entries=64,
    max_setup_bytes=64 * KIB,
    max_streams=0,
    requests_per_second=0,
    request_burst=0,
    max_reassembly_bytes=16 * MIB,
    max_fragments=1024,
    max_partials=64,
    max_partial_bytes=64 * MIB,
    min_fragment_bytes=0,
    broken_messages=0,
    ignored_frames=0,
    high_water_bytes=1 * MIB,
    hard_water_bytes=4 * MIB,
    max_memory_bytes=0,
    bytes_per_second=0,
    premature_ends=0,
    keepalive_burst=0,
    pushes_per_second=0,
    request_n_burst=0,
)

#: Nodes route around a lost link, and an administrator's tool is started again: neither resumes.
_WITHOUT_RESUME = replace(_TRUSTED, resume_bytes=0)

_PROFILES: Mapping[Kind, LimitsProfile] = {
    Kind.DEVICE: _DEVICE,
    Kind.USER: _USER,
    Kind.SERVICE: _TRUSTED,
    Kind.NODE: _WITHOUT_RESUME,
    Kind.ADMIN: _WITHOUT_RESUME,
}

#: Limits that `forwarding.budgets` keeps account of.
_BUDGETS = ("bytes_per_second", "premature_ends", "keepalive_burst", "pushes_per_second", "request_n_burst")

LIMIT_NAMES = frozenset(field.name for field in fields(LimitsProfile))


def profile_for(kind: Kind, overrides: Mapping[str, int | float] | None = None) -> LimitsProfile:
    """The profile of a kind, with single figures replaced.

    Raises:
        ValueError: an override names no limit.
    """
    profile = _PROFILES[kind]
    if not overrides:
        return profile
    unknown = overrides.keys() - LIMIT_NAMES
    if unknown:
        raise ValueError(f"no such limit: {', '.join(sorted(unknown))}")
    return replace(profile, **overrides)  # type: ignore[arg-type]
