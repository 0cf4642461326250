"""The settings that bound what a peer may cost: for the whole node, and by kind of principal."""

from __future__ import annotations

from pydantic import model_validator

from gateway.config.values import Section, limit, setting


class KindLimits(Section):
    """Limits of one connection, for one kind of principal. Unset: the kind's own figure."""

    max_connections: int | None = limit(
        "Connections of one subject; beyond it the oldest is closed; 0: no limit.", least=0
    )
    max_frame_bytes: int | None = limit("One RSocket frame, and one WebSocket message.", most=0xFF_FFFF)
    max_metadata_bytes: int | None = limit("Metadata of one frame.", most=0xFF_FFFF)
    max_metadata_entries: int | None = limit("Entries of one composite metadata.")
    max_route_bytes: int | None = limit("One routing tag or service name.", most=255)
    max_mime_bytes: int | None = limit("One MIME type in SETUP.", most=255)
    max_setup_bytes: int | None = limit("The SETUP frame, token and registrations included.", most=0xFF_FFFF)
    max_streams: int | None = limit("Streams open at a time; 0: no limit.", least=0)
    requests_per_second: int | None = limit("Requests a second; 0: no limit.", least=0)
    request_burst: int | None = limit("Requests that may come at once, where there is a rate.", least=0)
    max_reassembly_bytes: int | None = limit("One message to the node's own services, put together from fragments.")
    max_fragments: int | None = limit("Fragments of one such message.")
    max_partials: int | None = limit("Such messages that are partly there, at a time.")
    max_partial_bytes: int | None = limit("Bytes of all of them together.")
    partial_idle_s: float | None = limit("Seconds that the next fragment of such a message may take to come.")
    min_fragment_bytes: int | None = limit(
        "Bytes of any fragment that is passed on, but for the last one of a message; 0: no limit.", least=0
    )
    broken_messages: int | None = limit(
        "Fragmented messages over a limit, in a minute, from which on the connection is closed; 0: no limit.", least=0
    )
    max_keepalive_bytes: int | None = limit("Data of one KEEPALIVE frame.", least=0)
    ignored_frames: int | None = limit(
        "Frames that the protocol says to ignore, in one window; 0: no limit, of bytes neither.", least=0
    )
    ignored_bytes: int | None = limit("Bytes of such frames, in one window.", least=0)
    ignored_window_s: float | None = limit("The window of these two budgets, in seconds.")
    high_water_bytes: int | None = limit("Bytes waiting to leave above which streams that feed it get no more credit.")
    hard_water_bytes: int | None = limit("Bytes waiting to leave above which whoever feeds it is paused.")
    write_deadline_s: float | None = limit("Seconds in which a connection with bytes waiting must take some.")
    resume_bytes: int | None = limit(
        "Sent frames kept for a session that can be resumed, until it has confirmed them; 0: none can be resumed.",
        least=0,
    )
    resume_hold_s: float | None = limit("Seconds that such a session waits for another link.", least=0)
    max_memory_bytes: int | None = limit(
        "Bytes held for one connection, above which it is closed: what waits to leave, messages that are partly there, "
        "frames kept for a resume; 0: no limit.",
        least=0,
    )
    bytes_per_second: int | None = limit(
        "Bytes read a second; above it the connection is not read from for a while; 0: no limit.", least=0
    )
    premature_ends: int | None = limit(
        "Ended requests from which on the connection is closed when half of them were canceled within a second or "
        "were invalid; 0: no limit.",
        least=0,
    )
    keepalive_burst: int | None = limit(
        "KEEPALIVE frames beyond two in each interval that SETUP names; 0: no limit.", least=0
    )
    pushes_per_second: int | None = limit(
        "METADATA_PUSH frames a second that are taken; more of them are dropped; 0: no limit.", least=0
    )
    request_n_burst: int | None = limit(
        "REQUEST_N frames of a stream beyond one for each item; more count as frames to ignore; 0: no limit.", least=0
    )

    def overrides(self) -> dict[str, int | float]:
        """The figures that are set, by name."""
        return {name: value for name, value in self if value is not None}


class Limits(Section):
    """What connections may use. `limits.<kind>` changes single figures of that kind's profile."""

    max_connections: int = setting(5_000, "Connections of this node at a time; 0: no limit.", ge=0)
    accept_rate: int = setting(
        100, "Connections accepted a second, on both listeners together; 0: no limit. Others get 503.", ge=0
    )
    accept_burst: int = setting(200, "Connections that may come at once, where there is a rate.", ge=1)
    max_unauthenticated: int = setting(
        20, "Connections from one address whose SETUP is not accepted yet; 0: no limit. Others get 429.", ge=0
    )
    max_handshakes: int = setting(
        64, "TLS and WebSocket handshakes under way at a time on each listener; 0: no limit. Others wait.", ge=0
    )
    flapping: int = setting(
        15,
        "Connections of one address in a minute that end before their SETUP is accepted or are closed for what they "
        "did, before the address is barred; 0: no limit. It gets 429.",
        ge=0,
    )
    token_failures: int = setting(
        10, "Tokens of one address refused in a minute before it is barred; 0: no limit. It gets 429 or 4429.", ge=0
    )
    ban_s: float = setting(300.0, "Seconds for which an address is barred.", gt=0)
    loopback: bool = setting(
        False, "Whether limits by address and of the rate of accepting hold for loopback addresses too."
    )
    tls_handshake_timeout_s: float = setting(5.0, "Seconds for the TLS handshake.", reload=True, gt=0, le=300)
    upgrade_timeout_s: float = setting(10.0, "Seconds for the WebSocket handshake.", reload=True, gt=0, le=300)
    http_line_bytes: int = setting(
        8_192, "The request line of a WebSocket handshake, or one of its headers. Longer: 414 or 431.", ge=64, le=8_192
    )
    http_headers: int = setting(128, "Headers of a WebSocket handshake. More: 431.", ge=8, le=128)
    message_fragments: int = setting(1_024, "WebSocket frames of one message.", ge=1, le=2**31 - 1)
    setup_timeout_s: float = setting(
        5.0, "Seconds for SETUP to come, from the moment that frames can be sent.", reload=True, gt=0, le=300
    )
    keepalive_min_ms: int = setting(
        5_000,
        "Shortest keepalive interval and lifetime that are taken from a client, in milliseconds.",
        reload=True,
        ge=1,
        le=2**31 - 1,
    )
    lifetime_max_ms: int = setting(
        3_600_000,
        "Longest keepalive interval and lifetime that are taken from a client, in milliseconds.",
        reload=True,
        ge=1,
        le=2**31 - 1,
    )
    drain_grace_s: float = setting(
        10.0, "Seconds that requests in flight have to finish when the node stops.", reload=True, ge=0, le=3600
    )
    memory_bytes: int | None = setting(
        None,
        "Memory of the process. At 85 % nobody is let in, at 92 % no durable work is taken, at 97 % the connections "
        "for which most waits are closed; 0: no limit.",
        shown="that of the control group",
        ge=0,
    )
    lag_warn_ms: int = setting(
        100, "A delay of the event loop from which on it is said in the log and leases are a quarter.", ge=10, le=60_000
    )
    lag_shed_ms: int = setting(
        500,
        "A delay of the event loop from which on nobody new is let in for a second and leases are a sixteenth.",
        ge=10,
        le=60_000,
    )
    drain_spread_s: float = setting(
        10.0, "Seconds over which many connections are told to go elsewhere when the node stops.", ge=0, le=300
    )
    resume_sessions: int = setting(
        2_000,
        "Sessions that can be resumed, with a link or waiting for one; no more than an eighth of them for one subject.",
        ge=1,
        le=2**31 - 1,
    )
    device: KindLimits = KindLimits()
    user: KindLimits = KindLimits()
    service: KindLimits = KindLimits()
    node: KindLimits = KindLimits()
    admin: KindLimits = KindLimits()

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.keepalive_min_ms > self.lifetime_max_ms:
            raise ValueError("keepalive_min_ms is above lifetime_max_ms")
        if self.lag_warn_ms > self.lag_shed_ms:
            raise ValueError("lag_warn_ms is above lag_shed_ms")
        return self
