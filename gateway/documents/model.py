"""What every document has in common: a kind, a name, what was written and what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from gateway.documents.findings import Finding

#: A name that can be part of a path and of a metric's label.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]


class Part(BaseModel):
    """Of a document: names are in camelCase, and none is there that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Body(Part):
    """What every kind has."""

    kind: str
    name: Name = Field(description="Of its kind there is one of this name.")


@dataclass(frozen=True, slots=True)
class Site:
    """What a document is checked against where a node is known. Bytes; of the volume that holds its data."""

    free: int
    total: int
    spooled: int = 0
    spool_max: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """`body` is what was written, `spec` its meaning."""

    kind: str
    name: str
    body: dict[str, Any]
    spec: Any

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name}"


#: Findings on one document, among all that would stand, by their names; `Site` is None where none is known.
Check = Callable[[Document, Sequence[Document], Site | None], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A model of what a document of it says, and checks beyond what a model can hold. `needs`: kinds that it names
    documents of, without which it cannot act."""

    name: str
    model: type[Body]
    check: Check
    needs: frozenset[str] = frozenset()
