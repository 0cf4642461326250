"""`gateway device`: who may connect, and with which credential."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway.cli import device_config, device_log, snippets, target
from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.durations import duration
from gateway.cli.table import Column, as_json, printable
from gateway.control.snippets import Credential
from gateway.errors import GatewayError

DEVICE_TTL_S = 86_400.0

Name = Annotated[str, typer.Argument(help="Id of the device.", show_default=False)]
Ttl = Annotated[float, typer.Option("--ttl", parser=duration, metavar="TIME", help="How long the token lives.")]
Group = Annotated[list[str] | None, typer.Option(help="Groups it is in. May repeat.", show_default=False)]
Label = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Labels. May repeat.", show_default=False)]
Service = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Services it may register; {sub} is its id. May repeat. [{sub} and {sub}.*]",
        show_default=False,
    ),
]
RoutePattern = Annotated[
    list[str] | None,
    typer.Option(
        "--route", metavar="PATTERN", help="Routes it may call, as in telemetry.*. May repeat.", show_default=False
    ),
]

COLUMNS = (
    Column("ID", "id"),
    Column("ONLINE", "online"),
    Column("ENABLED", "enabled"),
    Column("PROFILE", "profile"),
    Column("LAST SEEN", "last_seen_at"),
    Column("GROUPS", "groups"),
    Column("LABELS", "labels"),
    Column("FIRMWARE", "firmware"),
    Column("SERVICES", "services", wide=True),
    Column("ROUTES", "routes", wide=True),
    Column("CREATED", "created_at", wide=True),
)


def attach(app: typer.Typer) -> None:
    from gateway.cli.device_folder import sdk

    group = application(help="Devices: who may connect, and with which credential.")
    for command in (add, ls, show, rm, disable, enable, kick, rotate, token, sdk, import_, export):
        register(group, command)
    device_config.attach(group)
    group.command()(device_log.log)
    app.add_typer(group, name="device")


def add(
    call: Change,
    name: Name,
    profile: Annotated[str, typer.Option(help="What it is, as in thermostat.", show_default=False)] = "",
    group: Group = None,
    label: Label = None,
    service: Service = None,
    route: RoutePattern = None,
    ttl: Ttl = DEVICE_TTL_S,
    qr: Annotated[bool, typer.Option("--qr", help="Print the QR code of the credential, and no examples.")] = False,
    as_document: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
    env: Annotated[bool, typer.Option("--env", help="Print shell variables: GATEWAY_URL, GATEWAY_TOKEN, …")] = False,
    micropython: Annotated[
        bool, typer.Option("--micropython", help="Print a main.py for the board, and nothing else.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Even where its address is one that it cannot reach.")] = False,
) -> None:
    """Add a device and print its credential, once: the address, the token, a QR code and examples.

    Of --qr, --json, --env and --micropython, one chooses what is printed.
    """
    body: dict[str, object] = {"id": name, "issue": {"ttl_s": ttl}, "labels": target.tags(label)}
    body |= {"profile": profile} if profile else {}
    for field, values in (("groups", group), ("services", service), ("routes", route)):
        if values is not None:
            body[field] = values
    answer = call.send("POST", "/devices", body)
    issued = answer.get("credential")
    if as_document or not call.for_people:
        typer.echo(as_json(answer))
    elif issued is None or call.dry_run:
        call.done(f"{name} would be added", answer)
    else:
        given = Credential(name, issued["url"], issued["token"], issued["expires_at"], _ca(call))
        problem = given.unreachable
        if problem and not force:
            raise GatewayError(f"{name} is added, but {problem}; print its credential all the same with --force")
        chosen: snippets.Choice = "qr" if qr else "env" if env else "micropython" if micropython else "all"
        typer.echo(snippets.rendered(given, chosen), nl=False)


def ls(
    call: Listing,
    q: Annotated[str, typer.Option("-q", help="Only those whose id has this in it.", show_default=False)] = "",
    profile: Annotated[str, typer.Option(help="Only those of this profile.", show_default=False)] = "",
    group: Annotated[str, typer.Option(help="Only those of this group.", show_default=False)] = "",
    label: Annotated[str, typer.Option(help="Only those with this label, or KEY=VALUE.", show_default=False)] = "",
    online: Annotated[
        bool | None, typer.Option("--online/--offline", help="Only those that are.", show_default=False)
    ] = None,
    sort: Annotated[str, typer.Option(help="id, last_seen_at, …; - in front for descending.")] = "id",
) -> None:
    """List devices."""
    call.pages("/devices", COLUMNS, q=q, profile=profile, group=group, label=label, online=online, sort=sort)


def show(call: Query, name: Name) -> None:
    """Show all that is known of a device."""
    call.show(call.api.get(f"/devices/{name}"))


def rm(call: Change, name: Name) -> None:
    """Remove a device; its tokens end and its connection is closed."""
    call.confirm(f"Remove {name}, and end its tokens?")
    call.send("DELETE", f"/devices/{name}", match="*")
    call.done(f"{name} removed")


def disable(call: Change, name: Name) -> None:
    """Keep a device out, without forgetting it; its connection is closed."""
    call.confirm(f"Disable {name}? Its connection is closed.")
    call.done(f"{name} disabled", call.send("POST", f"/devices/{name}/disable"))


def enable(call: Change, name: Name) -> None:
    """Let a disabled device in again."""
    call.done(f"{name} enabled", call.send("POST", f"/devices/{name}/enable"))


def kick(call: Change, name: Name) -> None:
    """Close a device's connections; it may come back at once."""
    call.confirm(f"Close the connections of {name}?")
    answer = call.send("POST", f"/devices/{name}/kick")
    call.done(f"{answer['kicked']} connections of {name} closed", answer)


def rotate(
    call: Change,
    name: Name,
    ttl: Ttl = DEVICE_TTL_S,
    overlap: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="How long the old tokens stay valid.")
    ] = 300.0,
) -> None:
    """Give a device a new token and print it; the old ones end after --overlap."""
    call.confirm(f"End the tokens that {name} has?")
    _print_token(call, call.send("POST", f"/devices/{name}/rotate", {"ttl_s": ttl, "overlap_s": overlap}))


def token(call: Change, name: Name, ttl: Ttl = DEVICE_TTL_S) -> None:
    """Print a further token for a device; those it has stay valid."""
    _print_token(call, call.send("POST", f"/devices/{name}/credentials", {"ttl_s": ttl}))


def import_(
    call: Change,
    file: Annotated[
        Path, typer.Argument(help="CSV with a head line, or JSON lines; - is standard input.", allow_dash=True)
    ],
) -> None:
    """Add many devices. Those that are wrong are named, and the good ones are added all the same.

    --dry-run says what would be. Ends with 1 when one was wrong.
    """
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    media = "application/x-ndjson" if content.lstrip()[:1] == b"{" else "text/csv"
    answer = call.send("POST", "/devices:bulk", content=content, media=media)
    for row in answer["failures"]:
        typer.echo(f"gateway: row {row['row']} ({printable(row['id'])}): {row['detail']}", err=True)
    call.done(f"{answer['created']} devices added, {answer['failed']} not", answer)
    raise typer.Exit(1 if answer["failed"] else 0)


def export(
    call: Query,
    format_: Annotated[
        Literal["csv", "jsonl"], typer.Option("--format", help="How to write them; import reads both.")
    ] = "jsonl",
) -> None:
    """Write all devices to standard output, without their credentials."""
    sys.stdout.buffer.write(call.api.ask("GET", "/devices/export", params={"format": format_}).content)
    sys.stdout.buffer.flush()


def _print_token(call: Change, issued: dict[str, str]) -> None:
    """The token alone for people and shells, the document for programs."""
    typer.echo(issued["token"] if call.for_people else as_json(issued))


def _ca(call: Query) -> bytes | None:
    """The authority that a device must trust, where it is the node's own."""
    if call.context.data is not None:
        path = call.context.data / "identity" / "ca.pem"
        return path.read_bytes() if path.exists() else None
    try:
        return call.api.ask("GET", "./ca.pem").content
    except GatewayError:
        return None
