"""The one validator: of the command line before it asks a node, of the API before it stores, of the node at its start.

It says all that is wrong at once, and checks a document against what would stand beside it and against the node's disk,
not only against its own shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from gateway.documents.findings import Finding
from gateway.documents.kinds import KINDS
from gateway.documents.model import Document, Site
from gateway.documents.reading import Raw, read


@dataclass(frozen=True, slots=True)
class Examined:
    """`documents`: those that could be understood. `findings`: what is to be said of them, errors first."""

    documents: tuple[Document, ...]
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        return all(finding.warning for finding in self.findings)


def examine(text: str, standing: Iterable[Document] = (), site: Site | None = None) -> Examined:
    """`standing`: what is there already; a document of the text replaces the one of its kind and name."""
    raws, findings = read(text)
    if not raws and not findings:
        findings.append(Finding("GW0101", "there is no document in it"))
    return _examined(raws, findings, standing, site)


def examine_value(value: Any, standing: Iterable[Document] = (), site: Site | None = None) -> Examined:
    """The same of one document that was read already."""
    return _examined([Raw(value)], [], standing, site)


def examine_replacement(
    raws: Sequence[Raw], before: Iterable[Document], kept: Iterable[Document], site: Site | None = None
) -> Examined:
    """The same of documents that would stand together with `kept` alone: of what stood `before`, the rest goes."""
    return _examined(raws, [], kept, site, tuple(before))


def examine_removal(document: Document, standing: Iterable[Document], site: Site | None = None) -> tuple[Finding, ...]:
    """What would be wrong with others if a document that stands did not."""
    before = {each.id: each for each in standing}
    after = {key: each for key, each in before.items() if key != document.id}
    return tuple(_left_alone({document.kind}, before, after, frozenset({document.id}), site))


def understand(value: Any) -> Document:
    """A document that was stored. Raises ValueError when this program does not understand it any more."""
    document, findings = _understood(Raw(value))
    if document is None:
        raise ValueError("; ".join(map(str, findings)))
    return document


def _examined(
    raws: Sequence[Raw],
    findings: list[Finding],
    standing: Iterable[Document],
    site: Site | None,
    before: tuple[Document, ...] | None = None,
) -> Examined:
    """`before`: what stood, where that is not `standing` alone."""
    documents: dict[str, Document] = {}
    origin: dict[str, Raw] = {}
    for raw in raws:
        document, wrong = _understood(raw)
        findings += wrong
        if document is None:
            continue
        if document.id in documents:
            findings.append(Finding("GW0104", f"{document.id} is there twice", "", document.id, raw.line("")))
        documents[document.id] = document
        origin[document.id] = raw
    standing = tuple(standing)
    together = {document.id: document for document in standing} | documents
    beside = _by_name(together)
    for document in documents.values():
        for finding in KINDS[document.kind].check(document, beside, site):
            line = origin[document.id].line(finding.pointer)
            findings.append(replace(finding, document=document.id, line=line))
    before = standing if before is None else before
    gone = {document.kind for document in before if document.id not in together}
    findings += _left_alone(
        gone | {document.kind for document in documents.values()},
        {document.id: document for document in before},
        together,
        documents.keys(),
        site,
    )
    findings.sort(key=lambda finding: (finding.warning, finding.line))
    return Examined(tuple(documents.values()), tuple(findings))


def _left_alone(
    kinds: Set[str],
    before: Mapping[str, Document],
    after: Mapping[str, Document],
    changed: Set[str],
    site: Site | None,
) -> Iterator[Finding]:
    """What becomes wrong with documents that nobody changes, because one that they need does."""
    for document in after.values():
        kind = KINDS[document.kind]
        if document.id in changed or kind.needs.isdisjoint(kinds):
            continue
        known = set(kind.check(document, _by_name(before), site))
        for finding in kind.check(document, _by_name(after), site):
            if not finding.warning and finding not in known:
                yield replace(finding, document=document.id)


def _by_name(documents: Mapping[str, Document]) -> list[Document]:
    return sorted(documents.values(), key=lambda each: each.name)


def _understood(raw: Raw) -> tuple[Document | None, list[Finding]]:
    value = raw.value
    named = value.get("kind") if isinstance(value, dict) else None
    kind = KINDS.get(named) if isinstance(named, str) else None
    if kind is None:
        text = f"the kind {named!r} is not known" if named is not None else "a document is a map with a kind and a name"
        return None, [Finding("GW0102", text, "/kind", line=raw.line("/kind"), fix=f"one of {', '.join(KINDS)}")]
    label = f"{kind.name}/{ascii(value.get('name', '?'))[1:-1]}"
    try:
        spec = kind.model.model_validate(value)
    except ValidationError as error:
        return None, [_shape(each, label, raw) for each in error.errors()]
    return Document(kind.name, spec.name, value, spec), []


def _shape(error: Any, label: str, raw: Raw) -> Finding:
    pointer = "".join(f"/{step}" for step in error["loc"]).encode(errors="replace").decode()
    return Finding("GW0103", str(error["msg"]).removeprefix("Value error, "), pointer, label, raw.line(pointer))
