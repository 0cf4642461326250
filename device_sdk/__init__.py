"""RSocket over WebSocket for devices: one source for MicroPython and CPython 3.11+.

`Device` is the way in. Here are also the errors it raises; a request that ran out of time raises
`asyncio.TimeoutError`.
"""

try:
    from time import ticks_add, ticks_diff, ticks_ms

    from micropython import const
except ImportError:
    from .cpython import const, ticks_add, ticks_diff, ticks_ms  # noqa: F401


class RSocketError(Exception):
    """The peer said no: `code` (RSocket's, or an HTTP status when the upgrade was refused) and `text`.

    A handler raises it to answer with it: 0x201 is APPLICATION_ERROR, 0x301 and above are the application's own.
    """

    def __init__(self, code, text=""):
        super().__init__(code, text)
        self.code = code
        self.text = text


class ConnectionLost(OSError):
    """There is no connection, or it ended before the answer came: the request may have been processed."""


class Busy(Exception):
    """`max_inflight` requests are open already; nothing was sent."""


from .device import Device  # noqa: E402, F401
