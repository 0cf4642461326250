"""What a bridge keeps on disk between connections, and between runs: its session's filters and packet identifiers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.bridges.mqtt.arrivals import Arrivals
from gateway.bridges.mqtt.outgoing import Unreleased
from gateway.errors import BridgeError


class Memory:
    """Files below `directory`; one process has them."""

    def __init__(self, directory: Path, name: str) -> None:
        """Raises BridgeError."""
        self._filters = directory / f"{name}.json"
        self.arrivals = Arrivals.open(directory / f"{name}.in")
        self.unreleased = Unreleased.open(directory / f"{name}.out")

    def close(self) -> None:
        self.arrivals.close()
        self.unreleased.close()

    def filters(self) -> dict[str, list[int]]:
        """Those that the session may have, by topic, with their options."""
        try:
            found = json.loads(self._filters.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def note_filters(self, filters: Mapping[str, Sequence[int]]) -> None:
        """Raises BridgeError."""
        beside = self._filters.with_suffix(".new")
        try:
            with beside.open("wb") as file:
                file.write(json.dumps(filters).encode())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._filters)
        except OSError as error:
            raise BridgeError(f"{self._filters}: {error.strerror or error}", reason="mqtt_arrivals") from error
