"""`python -m gateway.workers INDEX DESCRIPTOR`: a worker, as a node's first process starts it and nobody else."""

from __future__ import annotations

import signal
import socket
import sys
from contextlib import suppress

from gateway import front
from gateway.observe.loggers import structlog
from gateway.workers.worker import serve

_PR_SET_PDEATHSIG = 1


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("workers are started by a node with node.workers above 1")
    index, descriptor = map(int, sys.argv[1:])
    _end_with_parent()
    # A signal to the whole group is for the first process, which says what it means.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    structlog.contextvars.bind_contextvars(worker=index)
    sys.exit(front.run(serve(index, socket.socket(fileno=descriptor))))


def _end_with_parent() -> None:
    """Let the system end this process with the one that has started it, even where its loop stands still."""
    with suppress(ImportError, OSError, AttributeError, MemoryError):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


main()
