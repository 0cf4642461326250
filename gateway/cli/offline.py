"""Changes to a data directory whose node is stopped, by whoever owns it."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from gateway.control.audit import Actor
    from gateway.control.plane import ControlPlane

Result = TypeVar("Result")


def changed(data: Path, change: Callable[[ControlPlane, Actor], Awaitable[Result]]) -> Result:
    """Open the data directory's control plane without its node, and do one thing with it.

    Raises:
        StorageError: a node has it, or it cannot be used.
    """
    from gateway.control.audit import Actor
    from gateway.control.plane import ControlPlane

    async def done() -> Result:
        async with await ControlPlane.offline(data) as control:
            return await change(control, Actor("cli", _user()))

    return asyncio.run(done())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
