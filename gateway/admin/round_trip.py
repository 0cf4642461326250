"""How long a packet takes to a peer and back, as the system has measured it for the socket (TCP_INFO; Linux)."""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

_INFO: Final = getattr(socket, "TCP_INFO", 11)
#: Where the kernel's `struct tcp_info` has the smoothed round trip time, in microseconds.
_AT: Final = 68
_LENGTH: Final = 72


def round_trip_ms(carrier: Any) -> float | None:
    """In milliseconds; None without a socket, or where the system does not say."""
    transport = getattr(carrier, "transport", None)
    sock = transport.get_extra_info("socket") if transport is not None and not transport.is_closing() else None
    if sock is None:
        return None
    try:
        # The loops' own socket objects do not all have the option; a second object of the same descriptor does.
        twin = socket.socket(sock.family, sock.type, 0, sock.fileno())
    except OSError:
        return None
    try:
        info = twin.getsockopt(socket.IPPROTO_TCP, _INFO, _LENGTH)
        return float(struct.unpack_from("=I", info, _AT)[0]) / 1000
    except (OSError, struct.error):
        return None
    finally:
        twin.detach()
