"""`gateway document`: what documents can say, and what is wrong with those in files. But for `ls` it asks no node."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Listing, register
from gateway.cli.catalogue import application
from gateway.cli.document import COLUMNS, said
from gateway.cli.table import Column, Style, as_json, listing, printable
from gateway.errors import GatewayError

KINDS = (Column("KIND", "kind"), Column("WHAT IT SAYS", "what"))
FIELDS = (Column("FIELD", "field"), Column("TYPE", "type"), Column("DEFAULT", "default"), Column("", "what"))
FINDINGS = (
    Column("FILE", "file"),
    Column("LINE", "line"),
    Column("DOCUMENT", "document"),
    Column("CODE", "code"),
    Column("TEXT", "text"),
    Column("FIX", "fix"),
)
Output = Annotated[Style, typer.Option("-o", "--output", help="How to print.")]


def attach(app: typer.Typer) -> None:
    group = application(help="What documents can say, and what is wrong with them.")
    register(group, ls)
    for command in (check, kinds, explain, schema):
        group.command()(command)
    app.add_typer(group, name="document")


def ls(
    call: Listing,
    q: Annotated[str, typer.Option("-q", help="Only those that have this in them.", show_default=False)] = "",
) -> None:
    """List the documents of a node, of all kinds."""
    call.pages("/documents", COLUMNS, q=q)


def check(
    files: Annotated[list[Path], typer.Argument(help="YAML or JSON; - is standard input.", allow_dash=True)],
    output: Output = "table",
) -> None:
    """Say what is wrong with the documents of some files, taken together, as a node would.

    No node is asked; `gateway apply --dry-run` asks one what it says beside its own documents and its disk.
    """
    from gateway.documents.validation import examine

    texts = {str(file): _read(file) for file in files}
    documents = {name: examine(text).documents for name, text in texts.items()}
    found = []
    for name, text in texts.items():
        beside = [document for other, theirs in documents.items() if other != name for document in theirs]
        found += [(name, finding) for finding in examine(text, beside).findings]
    if output in ("table", "wide"):
        for name, finding in found:
            typer.echo(f"{'warning: ' if finding.warning else ''}{printable(name)}:{said(finding)}", err=True)
    else:
        rows = (_row(name, finding) for name, finding in found)
        listing(rows, FINDINGS, output)
    wrong = sum(not finding.warning for _, finding in found)
    if wrong:
        raise GatewayError(
            f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong: a node would take nothing of it"
        )
    if output in ("table", "wide"):
        count = sum(map(len, documents.values()))
        typer.echo(f"{count} document{'' if count == 1 else 's'}, nothing wrong")


def kinds(output: Output = "table") -> None:
    """List the kinds of document."""
    from gateway.documents.schema import schema_of_all

    shapes = schema_of_all()["$defs"]
    listing(({"kind": kind, "what": _first(shape)} for kind, shape in shapes.items()), KINDS, output)


def explain(
    path: Annotated[str, typer.Argument(help="A kind, or a part of one, as in service.routes.retries.")],
    output: Output = "table",
) -> None:
    """Say what a document of a kind can hold, field by field."""
    from gateway.documents.kinds import KINDS as MODELS
    from gateway.documents.schema import schema_of

    first, *steps = path.split(".")
    kind = {name.lower(): name for name in MODELS}.get(first.lower().removesuffix("s"))
    if kind is None:
        raise typer.BadParameter(f"{first!r} is no kind of document: {', '.join(map(str.lower, MODELS))}")
    whole = schema_of(kind)
    shape: dict[str, Any] = whole
    for step in steps:
        fields = shape.get("properties", {})
        if step not in fields:
            raise typer.BadParameter(f"{path!r}: there is no {step!r}; there are {', '.join(fields) or 'no fields'}")
        said_of_it = _first(fields[step])
        shape = _inner(whole, fields[step])
        if not _first(shape).startswith(said_of_it):
            shape = shape | {"description": f"{said_of_it} {_first(shape)}".strip()}
    rows = [
        {"field": name, "type": _type(whole, field), "default": _default(field), "what": _first(field)}
        for name, field in shape.get("properties", {}).items()
    ]
    if output in ("table", "wide"):
        typer.echo(f"{path}: {_first(shape) or _type(whole, shape)}")
    if rows:
        listing(rows, FIELDS, output)


def schema(
    kind: Annotated[str, typer.Argument(help="Of one kind alone. [all kinds in one]", show_default=False)] = "",
) -> None:
    """Print the JSON Schema of documents, for editors."""
    from gateway.documents.kinds import KINDS as MODELS
    from gateway.documents.schema import schema_of, schema_of_all

    named = {name.lower(): name for name in MODELS}
    if kind and kind.lower() not in named:
        raise typer.BadParameter(f"{kind!r} is no kind of document: {', '.join(named)}")
    typer.echo(as_json(schema_of(named[kind.lower()]) if kind else schema_of_all()))


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None


def _row(name: str, finding: Any) -> dict[str, Any]:
    names = ("line", "document", "pointer", "code", "text", "fix", "warning")
    return {"file": name, **{each: getattr(finding, each) for each in names}}


def _first(shape: dict[str, Any]) -> str:
    return " ".join(str(shape.get("description", "")).split())


def _inner(whole: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    """The shape that has the fields of a field: its own, or that of its items or values."""
    if "$ref" in field:
        found: dict[str, Any] = whole["$defs"][field["$ref"].rpartition("/")[2]]
        return found
    for key in ("items", "additionalProperties"):
        if isinstance(field.get(key), dict):
            return _inner(whole, field[key])
    for choice in field.get("anyOf", ()):
        inner = _inner(whole, choice)
        if "properties" in inner:
            return inner
    return field


def _type(whole: dict[str, Any], field: dict[str, Any]) -> str:
    """As a person would say it."""
    from gateway.documents.units import SHARE_PATTERN, SIZE_PATTERN, TIME_PATTERN

    if "$ref" in field:
        inner = whole["$defs"][field["$ref"].rpartition("/")[2]]
        return "map" if "properties" in inner else _type(whole, inner)
    if "anyOf" in field:
        types = dict.fromkeys(_type(whole, each) for each in field["anyOf"] if each.get("type") != "null")
        return " or ".join(types)
    if "enum" in field:
        return "|".join(map(str, field["enum"]))
    if "const" in field:
        return json.dumps(field["const"])
    if field.get("type") == "array":
        return f"list of {_type(whole, field.get('items', {}))}"
    for pattern, name in ((TIME_PATTERN, "time"), (SIZE_PATTERN, "size"), (SHARE_PATTERN, "share")):
        if field.get("pattern") == pattern:
            return name
    plain = str(field.get("type", ""))
    return {"object": "map", "string": "text", "boolean": "true|false"}.get(plain, plain)


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    if default in (None, [], "") or isinstance(default, dict):
        return ""
    return default if isinstance(default, str) else str(json.dumps(default))
