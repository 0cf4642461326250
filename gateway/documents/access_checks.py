"""What is wrong with an `Access` beyond what its own shape can say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.documents.access import Access
from gateway.documents.findings import Finding
from gateway.documents.model import Document, Site
from gateway.policy.authorization import CONDITIONS, NAMED_CONDITIONS


def check(document: Document, standing: Sequence[Document], site: Site | None) -> Iterator[Finding]:
    spec: Access = document.spec
    for at, rule in enumerate(spec.rules_):
        for number, condition in enumerate(rule.when):
            if not _is_known(condition.key):
                known = ", ".join((*CONDITIONS, *(f"{each}[NAME]" for each in NAMED_CONDITIONS)))
                text = f"the key {condition.key!r} is not known"
                yield Finding("GW0161", text, f"/rules/{at}/when/{number}/key", fix=f"one of {known}")


def _is_known(key: str) -> bool:
    name, bracket, rest = key.partition("[")
    return key in CONDITIONS or (bool(bracket) and name in NAMED_CONDITIONS and len(rest) > 1 and rest.endswith("]"))
