"""How full the memory is that this process may have: a control group's limit, or a figure from the settings.

The watermarks are those of faults 2. Knows nothing of what is done at each.
"""

from __future__ import annotations

import resource
from enum import IntEnum
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
#: Above it a limit is none: the kernel's way of saying so in version 1.
_NO_LIMIT: Final = 1 << 60


class Pressure(IntEnum):
    """What the node gives up, in this order; each holds with those before it."""

    NONE = 0
    NO_NEW_CONNECTIONS = 85
    NO_DURABLE_WORK = 92
    NO_BUFFERS = 97


class MemoryGauge:
    """`limit` in bytes; None: the control group's; 0 or no such: there is no pressure ever."""

    def __init__(self, limit: int | None = None, *, proc: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> None:
        self.limit = _cgroup_limit(proc, cgroups) if limit is None else limit
        self._statm = proc / "self/statm"
        self._page = resource.getpagesize()

    def pressure(self) -> Pressure:
        """How it stands now; one small read."""
        if not self.limit:
            return Pressure.NONE
        percent = self.resident() * 100 / self.limit
        return max(mark for mark in Pressure if percent >= mark)

    def resident(self) -> int:
        """Bytes of memory that this process holds; 0 where the system does not say."""
        try:
            return int(self._statm.read_bytes().split()[1]) * self._page
        except OSError:
            return 0


def _cgroup_limit(proc: Path, cgroups: Path) -> int:
    """The lowest limit among this process's control group and those above it; 0 where there is none."""
    found = []
    for path in _limit_files(proc, cgroups):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_LIMIT:
            found.append(int(text))
    return min(found, default=0)


def _limit_files(proc: Path, cgroups: Path) -> list[Path]:
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be the host's: what is mounted is then the group itself.
        inner = root / path.strip("/")
        files += [folder / name for folder in (inner, *inner.parents) if folder == root or root in folder.parents]
    return files
