"""CycloneDX' own schema of version 1.6, which a package for SBOMs brings along."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema_rs


@cache
def _validator() -> Any:
    folder = Path(str(distribution("cyclonedx-python-lib").locate_file("cyclonedx/schema/_res")))
    names = ("bom-1.6.SNAPSHOT.schema.json", "spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
    schema, *others = (json.loads((folder / name).read_text("utf-8")) for name in names)
    at = "http://cyclonedx.org/schema/"
    registry = jsonschema_rs.Registry([(f"{at}{name}", other) for name, other in zip(names[1:], others, strict=True)])
    return jsonschema_rs.validator_for(schema, registry=registry, validate_formats=True)


def judge(document: Any) -> None:
    """Raises jsonschema_rs.ValidationError for what is no SBOM."""
    _validator().validate(document)
