"""Write docs/limits.md: every limit of connections, with its setting, default, counter and answer. With --check: only
say whether it is current."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.config import settings
from gateway.policy.limits import profile_for
from gateway.policy.principal import Kind

PAGE = Path(__file__).parents[1] / "docs" / "limits.md"


class Limit(NamedTuple):
    """One row. `counted`: labels of `gateway_refusals_total` and `gateway_connections_closed_total`, none where nothing
    is refused; each is in the log, too."""

    setting: str
    what: str
    counted: tuple[str, ...]
    answer: str


NODE = (
    Limit("max_connections", "connections of the node", ("max_connections",), "503; TCP: closed"),
    Limit("accept_rate", "connections a second", ("accept_rate",), "503 and Retry-After of 5 to 30 s; TCP: closed"),
    Limit("accept_burst", "connections at once, where there is a rate", ("accept_rate",), "as above"),
    Limit(
        "max_unauthenticated",
        "connections of one address before their SETUP is accepted",
        ("max_unauthenticated",),
        "429 and Retry-After; TCP: closed",
    ),
    Limit(
        "flapping", "connections of one address that come to nothing, in a minute", ("flapping",), "429; TCP: closed"
    ),
    Limit(
        "token_failures",
        "tokens of one address that are refused, in a minute",
        ("token_failures",),
        "429; behind the handshake 4429 with REJECTED_SETUP; TCP: closed",
    ),
    Limit("ban_s", "how long an address is barred by the two above", ("flapping", "token_failures"), "as above"),
    Limit("max_handshakes", "handshakes under way on a listener", ("max_handshakes",), "others wait in the backlog"),
    Limit("tls_handshake_timeout_s", "TLS handshake", ("tls_handshake",), "closed"),
    Limit("upgrade_timeout_s", "WebSocket handshake", ("handshake_timeout",), "closed"),
    Limit("http_line_bytes", "request line, or a header, of a handshake", ("http_line_bytes",), "414; a header: 431"),
    Limit("http_headers", "headers of a handshake", ("http_headers",), "431"),
    Limit("setup_timeout_s", "time for SETUP", ("setup_timeout",), "CONNECTION_ERROR, 4408"),
    Limit("message_fragments", "WebSocket frames of one message", ("message_fragments", "too_big"), "1009"),
    Limit(
        "keepalive_min_ms", "shortest keepalive interval and lifetime", (), "clamped; `gateway.ready` says what holds"
    ),
    Limit("lifetime_max_ms", "longest keepalive interval and lifetime", ("keepalive_timeout",), "clamped; then 4408"),
    Limit(
        "memory_bytes",
        "memory of the process: 85 % nobody is let in, 92 % nothing durable is taken, 97 % largest buffers go",
        ("memory", "overload"),
        "503; CONNECTION_ERROR, 1013",
    ),
    Limit("lag_warn_ms", "delay of the event loop", (), "leases are a quarter"),
    Limit("lag_shed_ms", "delay of the event loop", ("lag_shed_ms",), "503 and Retry-After; leases are a sixteenth"),
    Limit(
        "resume_sessions",
        "sessions that can be resumed; an eighth of them for one subject",
        ("resume_sessions",),
        "the subject's own that waits longest ends; REJECTED_SETUP",
    ),
)
KINDS = (
    Limit("max_connections", "connections of one subject", ("taken_over",), "the oldest is closed: 4409"),
    Limit("max_frame_bytes", "one frame, and one WebSocket message", ("max_frame_bytes", "too_big"), "1009"),
    Limit(
        "max_setup_bytes", "SETUP, token and registrations included", ("max_setup_bytes", "too_big"), "REJECTED_SETUP"
    ),
    Limit("max_mime_bytes", "one MIME type in SETUP", ("max_mime_bytes",), "INVALID_SETUP, 1002"),
    Limit("max_metadata_bytes", "metadata of one frame", ("max_metadata_bytes",), "INVALID on the stream"),
    Limit(
        "max_metadata_entries", "entries of one composite metadata", ("max_metadata_entries",), "INVALID on the stream"
    ),
    Limit("max_route_bytes", "one routing tag", ("max_route_bytes",), "INVALID on the stream"),
    Limit("max_streams", "open streams", ("max_streams",), "REJECTED on the stream"),
    Limit("requests_per_second", "requests", ("requests_per_second", "no_lease"), "REJECTED on the stream"),
    Limit("request_burst", "requests at once, where there is a rate", ("requests_per_second",), "as above"),
    Limit("bytes_per_second", "bytes read", ("bytes_per_second",), "not read from for a while"),
    Limit("premature_ends", "requests canceled within 1 s or invalid: half of so many", ("premature_ends",), "1008"),
    Limit("ignored_frames", "frames that mean nothing, pings and pongs included", ("ignored_frames",), "1008"),
    Limit("ignored_bytes", "bytes of such frames", ("ignored_frames",), "1008"),
    Limit("ignored_window_s", "the window of these two", ("ignored_frames",), "as above"),
    Limit("keepalive_burst", "KEEPALIVE beyond two an interval", ("keepalive_burst",), "1008"),
    Limit("max_keepalive_bytes", "data of one KEEPALIVE", ("max_keepalive_bytes",), "1008"),
    Limit("pushes_per_second", "METADATA_PUSH", ("pushes_per_second",), "dropped; metered as meaning nothing"),
    Limit(
        "request_n_burst", "REQUEST_N of a stream beyond one an item", ("ignored_frames",), "metered as meaning nothing"
    ),
    Limit("max_reassembly_bytes", "one message in fragments", ("max_reassembly_bytes",), "INVALID on the stream"),
    Limit("max_fragments", "its fragments, where the node holds them", ("max_fragments",), "INVALID on the stream"),
    Limit("min_fragment_bytes", "a fragment but the last", ("min_fragment_bytes",), "INVALID on the stream"),
    Limit("max_partials", "messages that the node holds partly", ("max_partials",), "REJECTED on the stream"),
    Limit("max_partial_bytes", "bytes of all of them", ("max_partial_bytes",), "INVALID on the stream"),
    Limit("partial_idle_s", "time for the next fragment", ("partial_idle_s",), "INVALID on the stream"),
    Limit("broken_messages", "messages over one of the six above, in a minute", ("broken_messages",), "1009"),
    Limit("high_water_bytes", "bytes that wait to leave: soft", ("requester_congested",), "producers get no credit"),
    Limit("hard_water_bytes", "bytes that wait to leave: hard", ("responder_slow",), "who feeds it is not read from"),
    Limit("write_deadline_s", "time in which some of them must leave", ("write_timeout",), "4408, reset"),
    Limit("max_memory_bytes", "all that is held for a connection", ("max_memory_bytes",), "1008, reset"),
    Limit("resume_bytes", "sent frames kept for a session", ("resume_overflowed",), "the session cannot be resumed"),
    Limit("resume_hold_s", "time that a session waits for a link", ("resume_expired",), "REJECTED_RESUME"),
)

HEAD = """\
# Limits

<!-- Written by tools/limits_doc.py. Change the table there and run it. -->

What a connection, and all of them together, may use. Each limit has a setting, a counter, and a line in the log that
names it (`refused reason=…`, the first at once, then one a minute). `counted as` is the `reason` of
`gateway_refusals_total` or `gateway_connections_closed_total`. A close over WebSocket has its code; before it goes
ERROR[CONNECTION_ERROR] on stream 0, which over TCP is all there is.

What else [the settings](settings.md) have under `limits` is about draining and about whom limits spare.

## Of the node

Addresses are IPv4 hosts and IPv6 networks of 64 bits. Loopback is spared from rates and from limits by address, unless
`limits.loopback` is set.

"""

BETWEEN = """
## Of a connection, by the kind of its principal

`limits.<kind>.<name>`. A user has what a device has, in any number of places; nodes and administrators have what
services have, without resume. `0` in either column: no limit.

"""

TAIL = """
## Without a setting

| what | figure | answer |
|---|---|---|
| compression of messages | never negotiated | a compressed message: 1002 |
| credit of a stream | saturates at 2^31-1 | what is sent ahead is bounded by the consumer's buffers |
| frames that wait to be dealt with | none: each is dealt with when read | whoever is over a limit is not read from |
| WebSocket pings | one pong a turn of the loop, the newest | with all that means nothing: `ignored_frames` |
| descriptors | 64 stay free | 503, counted as `descriptors`; out of them: accepting rests 100 ms |
| watchdog of the event loop | 250 ms | its stack in the log, once in 10 s |
| deadlines after a stall | later by the stall | nobody is closed for a time in which nobody could be heard |
| silence | the lifetime that SETUP names, clamped | 4408; the node asks nothing of a silent client meanwhile |
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_node()) + BETWEEN + "".join(_kinds()) + TAIL


def _node() -> Iterator[str]:
    defaults = {setting.path[1]: setting.default for setting in settings() if setting.path[0] == "limits"}
    yield "| setting | of | default | counted as | answer |\n|---|---|---|---|---|\n"
    for limit in NODE:
        cells = (f"`limits.{limit.setting}`", limit.what, defaults[limit.setting], _counted(limit), limit.answer)
        yield f"| {' | '.join(cells)} |\n"


def _kinds() -> Iterator[str]:
    device, service = profile_for(Kind.DEVICE), profile_for(Kind.SERVICE)
    yield "| name | of | device | service | counted as | answer |\n|---|---|---|---|---|---|\n"
    for limit in KINDS:
        figures = " | ".join(f"{getattr(profile, limit.setting):,}" for profile in (device, service))
        yield f"| `{limit.setting}` | {limit.what} | {figures} | {_counted(limit)} | {limit.answer} |\n"


def _counted(limit: Limit) -> str:
    return ", ".join(f"`{reason}`" for reason in limit.counted) or "–"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text() == page() else f"{PAGE} is not current: run {sys.argv[0]}")
    PAGE.write_text(page())
