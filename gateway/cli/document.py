"""`gateway apply`, `get`, `delete`: documents, which say what settings do not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Change, Query, register
from gateway.cli.table import Column, printable
from gateway.errors import GatewayError

COLUMNS = (
    Column("KIND", "kind"),
    Column("NAME", "name"),
    Column("VERSION", "version"),
    Column("ORIGIN", "origin"),
    Column("UPDATED", "updated_at"),
    Column("BY", "updated_by"),
)
KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="Kind of document, as in spool.", show_default=False)]


def attach(app: typer.Typer) -> None:
    for command in (apply, get, delete):
        register(app, command)


def apply(
    call: Change,
    file: Annotated[Path, typer.Option("-f", "--file", help="YAML or JSON; - is standard input.", allow_dash=True)],
) -> None:
    """Store the documents of a file, all of them or none.

    With --dry-run it only says what is wrong with them.
    """
    from gateway.documents.validation import examine

    name = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    # What needs no node is said without one.
    examined = examine(text)
    if not examined.good:
        raise GatewayError("\n".join(f"{name}:{said(finding)}" for finding in examined.findings if not finding.warning))
    answer = call.send("POST", "/documents:apply", {"text": text})
    for finding in answer["warnings"]:
        place = f"{finding['line']}: " if finding["line"] else ""
        typer.echo(printable(f"{name}:{place}{finding['code']} {finding['text']}"), err=True)
    lines = [f"{each['document']['kind']}/{each['document']['name']} {each['outcome']}" for each in answer["applied"]]
    call.done("\n".join(lines), answer)


def get(
    call: Query,
    kind: KindArgument,
    name: Annotated[str, typer.Argument(help="One of them, whole. [all]", show_default=False)] = "",
) -> None:
    """List the documents of a kind, or print one."""
    if not name:
        call.list(call.api.entries("/documents", kind=_kind(kind)), COLUMNS)
        return
    found = call.api.get(f"/documents/{_kind(kind)}/{name}")
    if call.for_people:
        import yaml

        body: dict[str, Any] = {"kind": found["kind"], "name": found["name"]} | found["body"]
        typer.echo(yaml.safe_dump(body, sort_keys=False, allow_unicode=True), nl=False)
    else:
        call.show(found)


def delete(
    call: Change,
    kind: KindArgument,
    name: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
) -> None:
    """Act by a document no longer."""
    call.confirm(f"Delete {kind} {name}?")
    call.send("DELETE", f"/documents/{_kind(kind)}/{name}", match="*")
    call.done(f"{_kind(kind)}/{name} deleted")


def _kind(text: str) -> str:
    from gateway.documents.kinds import KINDS

    named = {name.lower(): name for name in KINDS}
    found = named.get(text.lower()) or named.get(text.lower().removesuffix("s"))
    if found is None:
        raise typer.BadParameter(f"{text!r} is no kind of document: {', '.join(map(str.lower, KINDS))}")
    return found


def said(finding: Any) -> str:
    fix = f" (fix: {finding.fix})" if finding.fix else ""
    return printable(f"{finding}{fix}")
