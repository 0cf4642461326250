"""What the operating system knows about this process: CPU, memory, file descriptors.

prometheus_client's ProcessCollector lists ``/proc/self/fd``, which held the loop for 11 ms with 10,000 connections
open; since Linux 6.2 the size of that directory is their number. Values that the system does not give are left out.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")


class ProcessUsage(NamedTuple):
    cpu_seconds: float
    """User and system time since the start."""
    resident_bytes: int | None
    open_fds: int | None
    max_fds: int | None
    """None where there is no limit."""
    start_time_seconds: float | None
    """Since the Unix epoch."""


def process_usage(proc: Path = _PROC) -> ProcessUsage:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ProcessUsage(
        cpu_seconds=time.process_time(),
        resident_bytes=_resident_bytes(proc),
        open_fds=_open_fds(proc),
        max_fds=None if soft == resource.RLIM_INFINITY else soft,
        start_time_seconds=_start_time(proc),
    )


def _resident_bytes(proc: Path) -> int | None:
    try:
        return int((proc / "self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return None


def _open_fds(proc: Path) -> int | None:
    try:
        # A listing holds the descriptor that it is read through.
        return os.stat(proc / "self/fd").st_size or len(os.listdir(proc / "self/fd")) - 1
    except OSError:
        return None


def _start_time(proc: Path) -> float | None:
    try:
        # The command name, field 2, may hold spaces and brackets.
        fields = (proc / "self/stat").read_text().rpartition(")")[2].split()
        for line in (proc / "stat").read_text().splitlines():
            if line.startswith("btime "):
                return int(line.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        pass
    return None
