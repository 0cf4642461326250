"""What documents say of requests, brought from the control plane to the data plane of every process of the node.

Knows both planes and is known by the node alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from gateway.control.documents import Documents
from gateway.documents.governing import KINDS
from gateway.documents.model import Document


class Governing:
    """`documents`: those that stand. `tell` is given them at the start, and once a loop turn in which they changed."""

    def __init__(self, tell: Callable[[tuple[Document, ...]], None]) -> None:
        self._tell = tell
        self._standing: dict[str, tuple[Document, ...]] = {}
        self._scheduled = False
        self._open = False

    @property
    def documents(self) -> tuple[Document, ...]:
        return tuple(document for kind in KINDS for document in self._standing.get(kind, ()))

    def open(self, documents: Documents) -> None:
        """Before the listeners open: nobody is served by no rules."""
        for kind in KINDS:
            documents.subscribe(kind, partial(self._hear, kind))
        self._open = True
        self._tell(self.documents)

    def _hear(self, kind: str, standing: tuple[Document, ...]) -> None:
        self._standing[kind] = standing
        if self._open and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._changed)

    def _changed(self) -> None:
        self._scheduled = False
        self._tell(self.documents)
