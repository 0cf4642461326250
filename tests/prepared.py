"""A data directory as a node's first start leaves it, for others to copy: making one waits for the disk many times."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from gateway.control.archive import DATABASE
from gateway.control.identity import Identity
from gateway.control.plane import schema
from gateway.storage.file import prepare


class Place:
    """Where the first one is kept; a run of tests sets it to what is removed behind it."""

    root: Path | None = None


@cache
def _first() -> Path:
    data = Path(tempfile.mkdtemp(prefix="prepared-", dir=Place.root)) / "data"
    Identity.open(data, names=())
    prepare(data / DATABASE, schema())
    return data


def prepared(data: Path) -> Path:
    """`data`, with an identity and a database of this version in it unless it is there. All have the same identity."""
    if not data.exists():
        shutil.copytree(_first(), data)
    return data
