"""`gateway enroll`: one-time tokens with which devices get their credential, and the use of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import target
from gateway.cli.call import Change, Listing, Output, register
from gateway.cli.catalogue import application
from gateway.cli.contexts import checked_url
from gateway.cli.device import Group, Label, RoutePattern, Service
from gateway.cli.durations import duration
from gateway.cli.table import Column, as_json
from gateway.errors import ConfigError

COLUMNS = (
    Column("ID", "id"),
    Column("DEVICE", "device_id"),
    Column("PROFILE", "profile"),
    Column("USED", lambda entry: f"{entry['used']} of {entry['uses']}"),
    Column("EXPIRES", "expires_at"),
    Column("REVOKED", "revoked_at"),
    Column("BY", "created_by", wide=True),
    Column("GROUPS", "groups", wide=True),
    Column("LABELS", "labels", wide=True),
)


def attach(app: typer.Typer) -> None:
    group = application(help="One-time tokens with which devices get their credential themselves.")
    for command in (create, ls, rm):
        register(group, command)
    group.command()(claim)
    app.add_typer(group, name="enroll")


def create(
    call: Change,
    device: Annotated[str, typer.Option(help="For this device alone. [whoever comes]", show_default=False)] = "",
    profile: Annotated[str, typer.Option(help="What enrolled devices are.", show_default=False)] = "",
    group: Group = None,
    label: Label = None,
    service: Service = None,
    route: RoutePattern = None,
    uses: Annotated[int, typer.Option(min=1, help="How many devices may use it.")] = 1,
    ttl: Annotated[float, typer.Option(parser=duration, metavar="TIME", help="How long it can be used.")] = 900.0,
    line: Annotated[
        bool, typer.Option("--line", help="Print the line for a device's first boot: address, token, authority.")
    ] = False,
) -> None:
    """Make an enrolment token and print it, and nothing else. It is shown this once."""
    body: dict[str, object] = {"uses": uses, "ttl_s": ttl, "labels": target.tags(label), "profile": profile}
    body |= {"device_id": device} if device else {}
    for field, values in (("groups", group), ("services", service), ("routes", route)):
        if values is not None:
            body[field] = values
    answer = call.send("POST", "/enrollments", body)
    if call.dry_run:
        call.done("an enrolment token would be made", answer)
    else:
        typer.echo(answer["line" if line else "token"] if call.for_people else as_json(answer))


def ls(call: Listing) -> None:
    """List enrolments."""
    call.pages("/enrollments", COLUMNS)


def rm(call: Change, name: Annotated[str, typer.Argument(metavar="ID", help="Id of an enrolment.")]) -> None:
    """End an enrolment token. Devices that have used it stay."""
    call.confirm(f"End the enrolment {name}?")
    call.send("DELETE", f"/enrollments/{name}", match="*")
    call.done(f"{name} ended")


def claim(
    token: Annotated[str, typer.Argument(help="An enrolment token: ge_…", show_default=False)],
    admin: Annotated[str, typer.Argument(help="Address of the admin API, as in https://host:9878.")],
    device: Annotated[
        str, typer.Option(help="The id to take, where the token is not for one device.", show_default=False)
    ] = "",
    ca: target.Authority = None,
    ca_out: Annotated[
        Path | None,
        typer.Option("--save-ca", help="Write the authority that the device must trust here.", show_default=False),
    ] = None,
    output: Output = "table",
) -> None:
    """Use an enrolment token, as a device does, and print the credential that it gives as shell variables."""
    from gateway.cli.api import Api
    from gateway.cli.contexts import Context

    try:
        context = Context("enrolment", checked_url(admin), "", ca)
    except ConfigError as error:
        raise typer.BadParameter(error.text) from None
    with Api(context) as api:
        answer = api.send("POST", "/enroll", {"token": token, **({"device_id": device} if device else {})})
    if ca_out is not None:
        ca_out.write_text(answer["ca_pem"])
    if output in ("json", "jsonl"):
        typer.echo(as_json(answer))
        return
    for name, value in (("URL", "url"), ("DEVICE_ID", "device_id"), ("TOKEN", "token"), ("SECRET", "secret")):
        if answer.get(value):
            typer.echo(f"GATEWAY_{name}={answer[value]}")
