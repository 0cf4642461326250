"""The API's reference as Markdown, made from its OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

#: The OpenAPI description, written by `tools/openapi_doc.py`.
DOCUMENT: Final = Path(__file__).with_name("openapi.json")


def reference(document: Mapping[str, Any]) -> str:
    """One page: every operation with what it needs, takes and answers, then the shapes."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield f"# {info['title']}"
    yield ""
    yield info["description"]
    tag = None
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield ""
                yield f"## {tag}"
            yield ""
            yield from _operation(method.upper(), path, operation)
    yield ""
    yield "## Shapes"
    for name, schema in document["components"]["schemas"].items():
        yield ""
        yield f"### {name}"
        yield ""
        if "description" in schema:
            yield schema["description"].replace("\n", " ")
            yield ""
        required = schema.get("required", ())
        for field, its in schema.get("properties", {}).items():
            optional = "" if field in required else ", optional"
            yield f"- `{field}`: {_type(its)}{optional}{_about(its)}"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method} {path}"
    yield ""
    if "description" in operation:
        yield operation["description"].replace("\n", " ")
        yield ""
    if "x-open" in operation:
        yield f"Open to everybody: {operation['x-open']}"
    else:
        yield f"Scope `{operation['x-scope']}`, to {operation['x-action']}; roles: {', '.join(operation['x-roles'])}."
    for parameter in operation.get("parameters", ()):
        optional = "" if parameter.get("required") else ", optional"
        about = f": {parameter['description']}" if "description" in parameter else ""
        yield f"- {parameter['in']} `{parameter['name']}`, {_type(parameter['schema'])}{optional}{about}"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"- body `{media_type}`: {_type(content['schema'])}"
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            shapes = [_type(content.get("schema", {})) for content in answer.get("content", {}).values()]
            yield f"- answers {status}{': ' if shapes else ''}{', '.join(shapes)}"
    refusals = [status for status in operation["responses"] if not status.startswith("2")]
    if refusals:
        yield f"- problems: {', '.join(refusals)}"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"table of {_type(schema['additionalProperties'])}"
    return str(schema.get("format", kind))


def _about(schema: Mapping[str, Any]) -> str:
    return f". {schema['description']}" if "description" in schema else ""
