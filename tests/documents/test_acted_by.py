"""A field of a document that nobody acts by is a promise that is not kept: each one is read somewhere."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType

import pytest

from gateway.policy import authorization, telemetry, traffic

GATEWAY = Path(__file__).parents[2] / "gateway"
#: They say what is meant, make it, or print it.
SAYING = {"documents", "cli"}
FIELDS = sorted(
    f"{module.__name__.rpartition('.')[2]}.{name}.{field.name}"
    for module in (traffic, authorization, telemetry)
    for name, kind in vars(module).items()
    if is_dataclass(kind) and isinstance(kind, type) and kind.__module__ == module.__name__
    for field in fields(kind)
)


def read_by(module: ModuleType) -> str:
    own = Path(str(module.__file__)).name
    return "".join(
        path.read_text()
        for path in sorted((*GATEWAY.rglob("*.py"), *GATEWAY.rglob("*.pyx")))
        if path.relative_to(GATEWAY).parts[0] not in SAYING and path.name != own
    )


SOURCES = {module.__name__.rpartition(".")[2]: read_by(module) for module in (traffic, authorization, telemetry)}


@pytest.mark.parametrize("field", FIELDS)
def test_somebody_acts_by_it(field: str) -> None:
    module, _, name = field.split(".")
    own = (GATEWAY / "policy" / f"{module}.py").read_text()
    assert re.search(rf"\.{name}\b", SOURCES[module]) or f"self.{name}" in own or f"other.{name}" in own
