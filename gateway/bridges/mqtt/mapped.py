"""A file that is memory: a note costs a store, and is there after a kill. A power cut may take the last seconds."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from gateway.errors import BridgeError


def mapped(path: Path, size: int) -> mmap.mmap:
    """The file's `size` bytes, zeros where it was not there or had another size. Raises BridgeError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(handle).st_size != size:
                os.ftruncate(handle, 0)
                # Written, not only promised: a full disk must be an error now and not a signal later.
                os.write(handle, bytes(size))
            return mmap.mmap(handle, size)
        finally:
            os.close(handle)
    except OSError as error:
        raise BridgeError(f"{path}: {error.strerror or error}", reason="mqtt_arrivals") from error
