"""`gateway config`: the settings of a running node, with where each value comes from."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column, as_json, fields
from gateway.errors import GatewayError

Name = Annotated[str, typer.Argument(help="Dotted name, as in log.level.", show_default=False)]

COLUMNS = (
    Column("NAME", "name"),
    Column("VALUE", "value"),
    Column("DEFAULT", "default", wide=True),
    Column("RELOADABLE", "reloadable", wide=True),
    Column("HELP", "help", wide=True),
)
SOURCES = (*COLUMNS[:2], Column("SOURCE", "source"), Column("LOCKED", "locked"), *COLUMNS[2:])
HISTORY = (Column("REVISION", "revision"), Column("AT", "at"), Column("BY", "by"), Column("COMMENT", "comment"))


def attach(app: typer.Typer) -> None:
    group = application(help="The settings of a running node, with where each value comes from.")
    for command in (show, get, set_, unset, validate, schema, diff, history, rollback):
        register(group, command)
    app.add_typer(group, name="config")


def show(
    call: Query,
    prefix: Annotated[str, typer.Argument(help="Only those whose name begins so, as in limits.")] = "",
    sources: Annotated[bool, typer.Option("--sources", help="With where each value comes from.")] = False,
) -> None:
    """List the settings in force."""
    call.list(call.api.get("/config", prefix=prefix)["settings"], SOURCES if sources else COLUMNS)


def get(call: Query, name: Name) -> None:
    """Print the value of one setting, and nothing else; with -o json all that is known of it."""
    setting = _setting(call, name)
    if not call.for_people:
        fields(setting, call.output)
        return
    value = setting["value"]
    typer.echo(value if isinstance(value, str) else json.dumps(value))


def set_(
    call: Change,
    name: Name,
    value: Annotated[str, typer.Argument(help="The value; lists with commas.", show_default=False)],
) -> None:
    """Change a setting of the running node, for good. The environment and the command line go before it."""
    current = _setting(call, name)["value"]
    answer = _change(call, {name: _typed(value, current)})
    call.done(f"{name} = {value}, revision {answer['revision']}", answer)


def unset(call: Change, name: Name) -> None:
    """Take back what has been set here: the file's value, or the default, holds again."""
    _setting(call, name)
    answer = _change(call, {name: None})
    call.done(f"{name} is as the file or the default says, revision {answer['revision']}", answer)


def validate(
    call: Query,
    file: Annotated[Path, typer.Argument(help="TOML file with settings; - is standard input.", allow_dash=True)],
) -> None:
    """Say whether the node would take these settings, and which of them need a restart."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    call.show(call.api.send("POST", "/config/validate", {"toml": text}))


def schema(call: Query) -> None:
    """Print the JSON Schema of the settings."""
    typer.echo(as_json(call.api.get("/config/schema")))


def diff(
    call: Query,
    revision: Annotated[
        str, typer.Argument(help="Compare with this revision. [the defaults]", show_default=False)
    ] = "",
) -> None:
    """Show what differs from the defaults, or from an earlier revision."""
    if revision:
        old = call.api.get(f"/config/history/{revision}")["text"]
        latest = next(iter(call.api.entries("/config/history", 1)))["revision"]
        new = call.api.get(f"/config/history/{latest}")["text"]
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), f"revision {revision}", "now", lineterm="")
        for line in lines:
            typer.echo(line)
        return
    settings = call.api.get("/config")["settings"]
    call.list((each for each in settings if each["source"] != "default"), SOURCES)


def history(call: Listing) -> None:
    """List the revisions that have been in force, newest first."""
    call.pages("/config/history", HISTORY)


def rollback(call: Change, revision: Annotated[str, typer.Argument(help="Revision to go back to.")]) -> None:
    """Put an earlier revision into force."""
    call.confirm(f"Go back to the settings of revision {revision}?")
    answer = call.send("POST", f"/config/rollback/{revision}", match="*")
    call.done(f"revision {revision} is in force again, as {answer['revision']}", answer)


def _setting(call: Query, name: str) -> dict[str, Any]:
    """Raises GatewayError for what is no setting, with the nearest name."""
    settings: list[dict[str, Any]] = call.api.get("/config")["settings"]
    for setting in settings:
        if setting["name"] == name:
            return setting
    near = difflib.get_close_matches(name, [setting["name"] for setting in settings], n=1)
    raise GatewayError(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))


def _change(call: Change, values: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = call.send("PATCH", "/config", values, match="*")
    return answer


def _typed(text: str, current: Any) -> Any:
    """The text as the kind of value that the setting has; the node judges whether it can be."""
    if isinstance(current, list):
        return [item.strip() for item in text.split(",") if item.strip()]
    if isinstance(current, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
