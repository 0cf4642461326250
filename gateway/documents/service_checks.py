"""What is wrong with a `Service` beyond what its own shape can say: what the data plane would do with it, and the other
documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.documents.findings import Finding
from gateway.documents.model import Document, Site
from gateway.documents.service import Route, Service


def check(document: Document, standing: Sequence[Document], site: Site | None) -> Iterator[Finding]:
    spec: Service = document.spec
    services = [each for each in standing if each.kind == document.kind]
    yield from _check_hosts(document, services)
    for at, route in enumerate(spec.routes):
        yield from _check_destinations(spec, route, f"/routes/{at}")


def _check_hosts(document: Document, services: Sequence[Document]) -> Iterator[Finding]:
    spec: Service = document.spec
    for at, host in enumerate(spec.hosts or (spec.name,)):
        pointer = f"/hosts/{at}" if spec.hosts else "/name"
        for other in services:
            if other.name != document.name and host in (other.spec.hosts or (other.name,)):
                text = f"{other.id} holds for {host}, too"
                yield Finding("GW0134", text, pointer, fix="one document of the two")
                break


def _check_destinations(spec: Service, route: Route, pointer: str) -> Iterator[Finding]:
    known = f"one of {', '.join(spec.subsets)}" if spec.subsets else "subsets: {NAME: {label: value}}"
    for at, each in enumerate(route.to):
        if each.subset is not None and each.subset not in spec.subsets:
            yield Finding("GW0131", f"there is no subset {each.subset!r}", f"{pointer}/to/{at}/subset", fix=known)
    if route.mirror is not None and route.mirror.subset not in spec.subsets:
        text = f"there is no subset {route.mirror.subset!r}"
        yield Finding("GW0131", text, f"{pointer}/mirror/subset", fix=known)
    missing = [at for at, each in enumerate(route.to) if each.weight is None]
    if len(route.to) > 1 and missing:
        text = "has no weight, and is not the only one"
        yield Finding("GW0133", text, f"{pointer}/to/{missing[0]}", fix="weight: 5")
    elif route.to and not missing and (whole := sum(each.weight or 0 for each in route.to)) != 100:
        yield Finding("GW0132", f"the weights sum to {whole}", f"{pointer}/to", fix="weights that sum to 100")
