"""What the links of a node must know of who belongs to the federation."""

from __future__ import annotations

from typing import Any, Protocol


class Member(Protocol):
    """A node that belongs to the same federation."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...


class Roster(Protocol):
    """The nodes that belong to it."""

    def find(self, node_id: str) -> Member | None: ...
    def document(self) -> list[dict[str, Any]]:
        """All that another member must know of them."""

    def digest(self, without: str) -> bytes:
        """What all of them but one come to; begins with `=`, as no document does."""

    def adopt(self, document: object, told_by: str) -> None:
        """Another member has told of them."""
