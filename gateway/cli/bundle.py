"""`gateway bundle`: documents for the nodes of a federation, as versions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.durations import duration
from gateway.cli.table import Column, printable

Version = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Which bundle.", show_default=False)]
Percent = Annotated[
    float, typer.Option(min=0, max=100, help="To how many of them, in percent; always the same ones first.")
]


def _selector(row: dict[str, Any]) -> list[str]:
    return row["labels"] or ["all"]


COLUMNS = (
    Column("VERSION", "version"),
    Column("STATE", "state"),
    Column("FOR", _selector),
    Column("PERCENT", "percentage"),
    Column("DOCUMENTS", lambda row: len(row["documents"])),
    Column("ACTIVE", lambda row: row["nodes"]["active"]),
    Column("WAITING", lambda row: row["nodes"]["waiting"]),
    Column("FAILED", lambda row: row["nodes"]["rejected"] + row["nodes"]["rolled_back"]),
    Column("MADE", "made_at"),
    Column("BY", "made_by"),
    Column("COMMENT", "comment"),
    Column("REASON", "reason", wide=True),
    Column("SHA-256", "digest", wide=True),
)
NODES = (
    Column("NODE", "name"),
    Column("ROLE", "role"),
    Column("WANTED", "wanted"),
    Column("ACTIVE", "active"),
    Column("OUTCOME", "outcome"),
    Column("REASON", "reason"),
    Column("SINCE", "at"),
    Column("LABELS", lambda row: [f"{key}={value}" for key, value in row["labels"].items()], wide=True),
    Column("ID", "node", wide=True),
)
HELD = (
    Column("VERSION", "version"),
    Column("STATE", "state"),
    Column("ON TRIAL", "trial"),
    Column("DOCUMENTS", "documents"),
    Column("SINCE", "at"),
    Column("REASON", "reason"),
)


def attach(app: typer.Typer) -> None:
    group = application(help="Documents for the nodes of a federation, as versions.")
    for command in (publish, ls, show, diff, status, held, percent, pause, resume, abort, rollback):
        register(group, command)
    app.add_typer(group, name="bundle")


def publish(
    call: Change,
    file: Annotated[
        list[Path], typer.Option("-f", "--file", help="YAML or JSON; - is standard input. May repeat.", allow_dash=True)
    ],
    comment: Annotated[str, typer.Option("--comment", "-m", help="What is new in it.", show_default=False)] = "",
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Only nodes with it. May repeat.", show_default=False),
    ] = None,
    percent: Percent = 100.0,
    max_failures: Annotated[int, typer.Option(min=0, help="It pauses when more nodes than this have failed.")] = 0,
    trial: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="How long a node watches itself; 0: not at all.")
    ] = 60.0,
) -> None:
    """Make a bundle of these documents, in place of the one before, and offer it to nodes.

    With --dry-run it only says what is wrong with them.
    """
    body = {
        "texts": [_read(each) for each in file],
        "comment": comment,
        "labels": label or [],
        "percentage": percent,
        "max_failures": max_failures,
        "trial_s": int(trial),
    }
    answer = call.send("POST", "/bundles", body)
    for finding in answer["warnings"]:
        typer.echo(printable(f"{finding['document']}: {finding['code']} {finding['text']}"), err=True)
    made = answer["bundle"]
    what = f"{len(made['documents'])} documents for {percent:g} % of {', '.join(_selector(made))}"
    call.done(f"bundle {made['version']}: {what}", answer)


def ls(
    call: Listing,
    q: Annotated[str, typer.Option("-q", help="Only those that have this in them.", show_default=False)] = "",
) -> None:
    """List the bundles, newest first."""
    call.pages("/bundles", COLUMNS, q=q)


def show(call: Query, version: Version) -> None:
    """Print the documents of a bundle, or with -o json all that is known of it."""
    found = call.api.get(f"/bundles/{version}")
    if not call.for_people:
        call.show(found)
        return
    import yaml

    typer.echo(yaml.safe_dump_all(found["bodies"].values(), sort_keys=False, allow_unicode=True), nl=False)


def diff(
    call: Query,
    before: Annotated[int, typer.Argument(metavar="VERSION", min=1, show_default=False)],
    after: Annotated[int, typer.Argument(metavar="OTHER", min=1, show_default=False)],
) -> None:
    """Show which documents differ between two bundles, and in which lines."""
    found = call.api.get(f"/bundles/{before}/diff", to=after)
    if not call.for_people:
        call.show(found)
        return
    from difflib import unified_diff

    for change in found["changes"]:
        name = change["document"]
        lines = unified_diff(
            _lines(change["before"]), _lines(change["after"]), f"{name} in {before}", f"{name} in {after}", lineterm=""
        )
        typer.echo("\n".join(map(printable, lines)))


def status(
    call: Listing, q: Annotated[str, typer.Option("-q", help="Only these nodes.", show_default=False)] = ""
) -> None:
    """Show how each node stands: what it should act by, what it acts by, and why not. For central nodes."""
    call.pages("/bundles/nodes", NODES, q=q)


def held(call: Listing) -> None:
    """List the bundles that this node was given itself, and what has come of each."""
    call.pages("/bundles/held", HELD)


def percent(
    call: Change,
    version: Version,
    percentage: Annotated[float, typer.Argument(metavar="PERCENT", min=0, max=100, show_default=False)],
) -> None:
    """Offer it to more nodes, or to no further ones. Those that act by it go on."""
    answer = call.send("PATCH", f"/bundles/{version}", {"percentage": percentage}, match="*")
    call.done(f"bundle {version} is for {percentage:g} %", answer)


def pause(call: Change, version: Version) -> None:
    """Offer it to no further node for now."""
    call.done(f"bundle {version} paused", call.send("POST", f"/bundles/{version}/pause"))


def resume(
    call: Change,
    version: Version,
    retry: Annotated[bool, typer.Option("--retry", help="Offer it again to nodes that have failed.")] = False,
) -> None:
    """Let it go on. What has failed until now is not counted any more."""
    call.done(f"bundle {version} goes on", call.send("POST", f"/bundles/{version}/resume", {"retry": retry}))


def abort(call: Change, version: Version) -> None:
    """End it for good: all nodes go back to what was for all before it."""
    call.confirm(f"Abort bundle {version}?")
    answer = call.send("POST", f"/bundles/{version}/abort")
    call.done(f"bundle {version} aborted; {answer['instead']['version']} takes its place", answer)


def rollback(call: Change, version: Version) -> None:
    """Make a new bundle with the documents of an older one, for all nodes."""
    call.confirm(f"Make all nodes act by the documents of bundle {version}?")
    answer = call.send("POST", f"/bundles/{version}/rollback")
    call.done(f"bundle {answer['version']} has the documents of {version}", answer)


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None


def _lines(body: dict[str, Any] | None) -> list[str]:
    return [] if body is None else json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
