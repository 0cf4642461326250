"""Sees when the event loop is held, and says by what: a thread that listens for the loop's heartbeat.

A callback that does not return stops every connection of the node, and leaves no trace but that. While the beat is
overdue, this thread can still look at the loop's stack; it logs it once a stall, and how long the stall was when it is
over (fault 90). Knows nothing of what the loop runs. `beat` is for the loop's thread, everything else for any.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Final

from gateway.observe.loggers import structlog

#: A stall that is worth a stack, and how often the loop says that it is well; seconds.
STALL_S: Final = 0.25
BEAT_S: Final = 0.05
#: Stalls come in rows. A stack says what the ten before it said: no more than one in this time.
QUIET_S: Final = 10.0
_FRAMES: Final = 40


class Watchdog:
    """Watches the running loop between `start` and `stop`. `stalls` counts the stalls that were seen."""

    def __init__(self, stall_s: float = STALL_S, quiet_s: float = QUIET_S) -> None:
        self.stalls = 0
        self._log = structlog.get_logger(__name__)
        self._stall_s = stall_s
        self._quiet_s = quiet_s
        self._told_at = -quiet_s
        self._beaten_at = 0.0
        self._thread_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; the calling thread's loop is the one that is watched."""
        loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._beat(loop)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread has."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beaten_at = time.monotonic()
        self._timer = loop.call_later(BEAT_S, self._beat, loop)

    def _watch(self) -> None:
        while not self._ended.wait(BEAT_S):
            beat = self._beaten_at
            if time.monotonic() - beat > self._stall_s + BEAT_S:
                self._stalled(beat)

    def _stalled(self, beat: float) -> None:
        self.stalls += 1
        now = time.monotonic()
        told = now - self._told_at >= self._quiet_s
        if told:
            self._told_at = now
            # Taken now: the culprit may be gone when the log has been written.
            stack = _stack(sys._current_frames().get(self._thread_id))
            self._log.warning("the event loop stands still", ms=round((now - beat) * 1000), stack=stack)
        while self._beaten_at == beat and not self._ended.wait(BEAT_S / 5):
            pass
        if told:
            self._log.warning("the event loop runs again", ms=round((self._beaten_at - beat) * 1000))


def _stack(frame: FrameType | None) -> str:
    if frame is None:
        return "(no stack)"
    return "".join(traceback.format_list(traceback.extract_stack(frame, _FRAMES)))
