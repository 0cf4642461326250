"""Every kind of document as JSON Schema, for editors and for programs that write documents.

The shape alone: what a document would do, and what stands beside it, is for the validator.
"""

from __future__ import annotations

from typing import Any

from gateway.documents.kinds import KINDS
from gateway.documents.units import SHARE_PATTERN, SIZE_PATTERN, TIME_PATTERN, share_text, size_text, time_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXTS = {SIZE_PATTERN: size_text, TIME_PATTERN: time_text, SHARE_PATTERN: share_text}
_REFERENCE = "#/$defs/"


def schema_of(kind: str) -> dict[str, Any]:
    """Of one kind. Raises KeyError."""
    shape: dict[str, Any] = _plain(KINDS[kind].model.model_json_schema())
    return {"$schema": DIALECT, **shape}


def schema_of_all() -> dict[str, Any]:
    """Of any document, by its kind."""
    shapes = {kind: _plain(KINDS[kind].model.model_json_schema(), f"{kind}/$defs/") for kind in KINDS}
    return {
        "$schema": DIALECT,
        "title": "A document of the gateway",
        "type": "object",
        "required": ["kind", "name"],
        "properties": {"kind": {"description": "What the document is about.", "enum": list(KINDS)}},
        "allOf": [
            {"if": {"properties": {"kind": {"const": kind}}}, "then": {"$ref": f"{_REFERENCE}{kind}"}} for kind in KINDS
        ],
        "$defs": shapes,
    }


def _plain(shape: Any, within: str = "") -> Any:
    """Without the titles that the names say already, with defaults as a document would write them, and with references
    to where the shape is going to be."""
    if isinstance(shape, list):
        return [_plain(each, within) for each in shape]
    if not isinstance(shape, dict):
        return shape
    plain = {key: _plain(value, within) for key, value in shape.items() if key != "title" or isinstance(value, dict)}
    if "$ref" in plain:
        plain["$ref"] = plain["$ref"].replace(_REFERENCE, _REFERENCE + within)
    default = plain.get("default")
    if isinstance(default, int | float) and not isinstance(default, bool) and default:
        patterns = [plain.get("pattern"), *(each.get("pattern") for each in plain.get("anyOf", ()))]
        text = next((_TEXTS[each] for each in patterns if each in _TEXTS), None)
        if text is not None:
            plain["default"] = text(default)
    return plain
