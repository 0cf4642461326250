"""`runtime.json` in the data directory: which process has it, since when, and where it listens.

For whoever is on the same machine: the command line finds the admin API with it, and a clock that stands before the
last time the node wrote is wrong. Present while a node runs, or after one that was killed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "runtime.json"


@dataclass(frozen=True, slots=True)
class Runtime:
    """URLs are empty for what is not open. `started_at` is in seconds since the epoch, `birth` in what the kernel
    counts from its own start (`birth_of`)."""

    pid: int
    started_at: float
    admin: str = ""
    websocket: str = ""
    tcp: str = ""
    telemetry: str = ""
    birth: int = 0

    @classmethod
    def read(cls, data: Path) -> Runtime | None:
        """What a node has written, or None where there is nothing that can be read."""
        try:
            return cls(**json.loads((data / NAME).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, data: Path) -> None:
        """Put it there in one step. Raises OSError."""
        fresh = data / f".{NAME}.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)
        fresh.rename(data / NAME)

    @staticmethod
    def remove(data: Path) -> None:
        (data / NAME).unlink(missing_ok=True)

    @property
    def alive(self) -> bool:
        """Whether that process runs. Another one that has its number by now, or has it elsewhere, is not taken for
        it."""
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            pass
        except (ProcessLookupError, OverflowError):
            return False
        return birth_of(self.pid) in (self.birth, None) if self.birth else True


def birth_of(pid: int) -> int | None:
    """When a process began, in ticks since the kernel did, so that no clock can be wrong; None where the system does
    not say, 0 for one that has ended and that nobody has asked about yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name of the program comes second, in parentheses, and may hold anything.
    state, *fields = text.rpartition(")")[2].split()
    return 0 if state == "Z" else int(fields[18])
