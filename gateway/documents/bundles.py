"""A bundle: the documents of a whole federation as one version, each with the nodes that it is for.

What is signed is the manifest, canonical JSON (RFC 8785):

    {"version": 7, "maker": node id, "madeAt": ms, "madeBy": who, "comment": "…", "trial": seconds,
     "documents": [{"id": "Service/thermostat", "sha256": of its canonical JSON, "nodes": {…}}, …]}

So a node is sent the manifest and those documents that are for it, and sees by the manifest alone that it has got all
of them, as they were made, by whom. Of two bundles the one with the higher version is the newer one; of two of one
version, which two centrals have made at once, the one whose maker's id is higher.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from gateway.documents.canonical import canonical
from gateway.documents.findings import Finding
from gateway.documents.model import Part
from gateway.documents.reading import Raw, read

MAX_DOCUMENTS: Final = 1000
#: Of all documents of one bundle, as canonical JSON.
MAX_BYTES: Final = 1024 * 1024
MAX_COMMENT: Final = 4096
MAX_TRIAL_S: Final = 600
#: What the signature is of, before the manifest: the key signs tokens, too.
SIGNED: Final = b"gateway bundle\n"
#: Kinds that a node has connections of its own for: on two nodes at once they would do everything twice.
PLACED: Final = frozenset({"Bridge"})

_MAKER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENTRY = re.compile(r"[A-Z][A-Za-z]{0,31}/[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_FIELDS = frozenset({"version", "maker", "madeAt", "madeBy", "comment", "trial", "documents"})

Word = Annotated[str, Field(min_length=1, max_length=255)]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node is chosen by. `id`: a UUID."""

    id: str
    name: str
    role: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Nodes(Part):
    """Which nodes a document is for: one of the names, one of the roles, all of the labels; what is left out fits."""

    names: Annotated[tuple[Word, ...], Field(max_length=1000)] = ()
    roles: tuple[Literal["edge", "central"], ...] = ()
    labels: Annotated[dict[Word, Annotated[str, Field(max_length=255)]], Field(max_length=32, default_factory=dict)]

    def fit(self, node: Facts) -> bool:
        named = not self.names or node.name in self.names
        cast = not self.roles or node.role in self.roles
        return named and cast and all(node.labels.get(key) == value for key, value in self.labels.items())

    @property
    def written(self) -> dict[str, Any]:
        """As it is in a manifest: without what is not there."""
        return {name: value for name, value in self.model_dump(mode="json").items() if value}


@dataclass(frozen=True, slots=True)
class Entry:
    """One document of a manifest. `digest`: SHA-256, hexadecimal. `nodes` is None where it is for all."""

    id: str
    digest: str
    nodes: Nodes | None = None

    def is_for(self, node: Facts) -> bool:
        return self.nodes is None or self.nodes.fit(node)


@dataclass(frozen=True, slots=True)
class Manifest:
    """`made_at`: Unix ms. `trial_s`: for how long a node watches itself after it acts by it; 0: not at all."""

    version: int
    maker: str
    made_at: int
    made_by: str
    comment: str
    trial_s: int
    entries: tuple[Entry, ...]

    @property
    def key(self) -> str:
        """Its place among all bundles: the later text is the newer bundle."""
        return key_of(self.version, self.maker)

    @property
    def text(self) -> str:
        documents = [
            {"id": entry.id, "sha256": entry.digest} | ({} if entry.nodes is None else {"nodes": entry.nodes.written})
            for entry in self.entries
        ]
        return canonical(
            {
                "version": self.version,
                "maker": self.maker,
                "madeAt": self.made_at,
                "madeBy": self.made_by,
                "comment": self.comment,
                "trial": self.trial_s,
                "documents": documents,
            }
        )

    def entries_for(self, node: Facts) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.is_for(node))


@dataclass(frozen=True, slots=True)
class Source:
    """A document as it was written into a bundle: `raw` without its `nodes`."""

    raw: Raw
    nodes: Nodes | None

    @property
    def id(self) -> str:
        return f"{self.raw.value.get('kind')}/{self.raw.value.get('name')}"

    @property
    def text(self) -> str:
        return canonical(self.raw.value)


def key_of(version: int, maker: str) -> str:
    return f"{version:012d}:{maker}"


def version_of(key: str) -> int:
    """Of a key as `key_of` makes them; 0 for none."""
    return int(key.partition(":")[0] or 0)


def digest_of(text: str) -> str:
    """Of a manifest or a document. Hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def signed(text: str) -> bytes:
    """What the signature of a manifest is of."""
    return SIGNED + text.encode()


def parse(text: str) -> Manifest:
    """Raises ValueError unless it is a manifest, and in its one form."""
    try:
        said = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(said, dict) or said.keys() != _FIELDS:
        raise ValueError("it has not the fields of a manifest")
    version, maker, documents = said["version"], said["maker"], said["documents"]
    if type(version) is not int or not 0 < version < 10**12:
        raise ValueError("its version is no number")
    if not isinstance(maker, str) or not _MAKER.fullmatch(maker):
        raise ValueError("its maker is no node")
    if type(said["madeAt"]) is not int or type(said["trial"]) is not int or not 0 <= said["trial"] <= MAX_TRIAL_S:
        raise ValueError("its times are none")
    if not isinstance(said["madeBy"], str) or not isinstance(said["comment"], str):
        raise ValueError("it does not say who made it")
    if not isinstance(documents, list) or len(documents) > MAX_DOCUMENTS:
        raise ValueError(f"it has no list of at most {MAX_DOCUMENTS} documents")
    entries = tuple(map(_entry, documents))
    if len({entry.id for entry in entries}) < len(entries):
        raise ValueError("a document is there twice")
    manifest = Manifest(version, maker, said["madeAt"], said["madeBy"], said["comment"], said["trial"], entries)
    if manifest.text != text:
        raise ValueError("it is not in canonical form")
    return manifest


def _entry(said: Any) -> Entry:
    if not isinstance(said, dict) or not {"id", "sha256"} <= said.keys() <= {"id", "sha256", "nodes"}:
        raise ValueError("a document of it is none")
    name, digest = said["id"], said["sha256"]
    texts = isinstance(name, str) and isinstance(digest, str)
    if not texts or not _ENTRY.fullmatch(name) or not _DIGEST.fullmatch(digest):
        raise ValueError("a document of it is none")
    # Raises ValidationError, which is a ValueError.
    nodes = Nodes.model_validate(said["nodes"]) if "nodes" in said else None
    if nodes is not None and not nodes.written:
        raise ValueError("a selector of it names nothing")
    return Entry(name, digest, nodes)


def contents(entries: Iterable[Entry], texts: Iterable[str]) -> dict[str, Any]:
    """The documents that entries name, by their ids, out of texts among which each has to be as it was signed.

    Raises ValueError.
    """
    found = {digest_of(text): text for text in texts}
    documents: dict[str, Any] = {}
    for entry in entries:
        text = found.get(entry.digest)
        if text is None:
            raise ValueError(f"{entry.id} is not in it as it was signed")
        value = json.loads(text)
        if not isinstance(value, dict) or f"{value.get('kind')}/{value.get('name')}" != entry.id:
            raise ValueError(f"{entry.id} is another document than it says")
        documents[entry.id] = value
    return documents


def sources(texts: Sequence[str]) -> tuple[list[Source], list[Finding]]:
    """The documents of the texts of a bundle, and what is wrong with them as parts of one."""
    found: list[Source] = []
    findings: list[Finding] = []
    for text in texts:
        raws, wrong = read(text)
        findings += wrong
        for raw in raws:
            source, why = _source(raw)
            findings += why
            if source is not None:
                found.append(source)
    if not findings:
        findings += _too_much(found)
    return found, findings


def _source(raw: Raw) -> tuple[Source | None, list[Finding]]:
    value = raw.value
    if not isinstance(value, dict):
        return None, [Finding("GW0102", "a document is a map with a kind and a name", "", line=raw.line(""))]
    label = f"{value.get('kind', '?')}/{ascii(value.get('name', '?'))[1:-1]}"
    body = {name: part for name, part in value.items() if name != "nodes"}
    nodes = None
    if "nodes" in value:
        try:
            nodes = Nodes.model_validate(value["nodes"])
        except ValidationError as error:
            return None, [
                Finding("GW0191", each["msg"], pointer := _pointer(each["loc"]), label, raw.line(pointer))
                for each in error.errors()
            ]
        if not nodes.written:
            text = "a selector that names nothing; leave it out for all nodes"
            return None, [Finding("GW0191", text, "/nodes", label, raw.line("/nodes"))]
    elif value.get("kind") in PLACED:
        text = "every node would run it, beside all others; say which one does"
        return None, [Finding("GW0192", text, "", label, raw.line(""), fix="nodes: {names: [edge-1]}")]
    try:
        canonical(body)
    except ValueError as error:
        return None, [Finding("GW0103", str(error), "", label, raw.line(""))]
    return Source(Raw(body, raw.lines), nodes), []


def _pointer(steps: Iterable[Any]) -> str:
    return "/nodes" + "".join(f"/{step}" for step in steps)


def _too_much(found: Sequence[Source]) -> list[Finding]:
    if len(found) > MAX_DOCUMENTS:
        return [Finding("GW0193", f"a bundle has at most {MAX_DOCUMENTS} documents")]
    size = sum(len(source.text.encode()) for source in found)
    return [Finding("GW0193", f"a bundle has at most {MAX_BYTES} bytes, not {size}")] if size > MAX_BYTES else []
