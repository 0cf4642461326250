"""`gateway rollout`: which devices get which firmware."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.durations import duration
from gateway.cli.table import Column

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the rollout.", show_default=False)]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY[=VALUE]", help="Only devices with it. May repeat.", show_default=False),
]
Groups = Annotated[
    list[str] | None, typer.Option("--group", help="Only devices that are in it. May repeat.", show_default=False)
]
Percent = Annotated[
    float, typer.Option(min=0, max=100, help="How many of them, in percent; always the same ones first.")
]


def _selector(row: dict[str, Any]) -> list[str]:
    profile = [f"profile:{row['profile']}"] if row["profile"] else []
    return [*row["labels"], *(f"group:{group}" for group in row["groups"]), *profile] or ["all"]


COLUMNS = (
    Column("ID", "id"),
    Column("STATE", "state"),
    Column("BOARD", "board"),
    Column("VERSION", "firmware_version"),
    Column("FOR", _selector),
    Column("PERCENT", "percentage"),
    Column("CONFIRMED", lambda row: row["devices"]["confirmed"]),
    Column("UNDER WAY", lambda row: sum(row["devices"][step] for step in ("downloading", "verified", "trial"))),
    Column("OFFERED", lambda row: row["devices"]["offered"]),
    Column("FAILED", "failures"),
    Column("STARTED", "created_at", wide=True),
    Column("FIRMWARE", "firmware_id", wide=True),
    Column("REASON", "reason", wide=True),
)
DEVICES = (
    Column("DEVICE", "device_id"),
    Column("STATE", "state"),
    Column("RECEIVED", "received"),
    Column("SINCE", "updated_at"),
    Column("REASON", "reason"),
    Column("OFFERED", "offered_at", wide=True),
    Column("BEGUN", "started_at", wide=True),
    Column("TRIAL", "trial_at", wide=True),
    Column("ENDED", "ended_at", wide=True),
)


def attach(app: typer.Typer) -> None:
    group = application(help="Which devices get which firmware, and how far each is.")
    for command in (start, ls, status, devices, percent, pause, resume, abort):
        register(group, command)
    app.add_typer(group, name="rollout")


def start(
    call: Change,
    firmware: Annotated[str, typer.Argument(metavar="FIRMWARE", help="Id of the firmware.", show_default=False)],
    label: Labels = None,
    group: Groups = None,
    profile: Annotated[str, typer.Option(help="Only devices of this profile.", show_default=False)] = "",
    percent: Percent = 100.0,
    max_failures: Annotated[int, typer.Option(min=0, help="It pauses when more devices than this have failed.")] = 3,
    confirm: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="A device that has it must confirm it within this.")
    ] = 600.0,
) -> None:
    """Offer a firmware to devices; those that are connected are told at once."""
    body = {
        "firmware": firmware,
        "labels": label or [],
        "groups": group or [],
        "profile": profile,
        "percentage": percent,
        "max_failures": max_failures,
        "confirm_s": confirm,
    }
    answer = call.send("POST", "/rollouts", body)
    what = f"{answer['board']} {answer['firmware_version']} for {percent:g} % of {', '.join(_selector(answer))}"
    call.done(f"{answer['id']}: {what}", answer)


def ls(
    call: Listing,
    q: Annotated[str, typer.Option("-q", help="Only those that have this in them.", show_default=False)] = "",
    board: Annotated[str, typer.Option(help="Only those for this board.", show_default=False)] = "",
    state: Annotated[
        str, typer.Option(help="Only those that are running, paused or aborted.", show_default=False)
    ] = "",
) -> None:
    """List rollouts, newest first."""
    call.pages("/rollouts", COLUMNS, q=q, board=board, state=state)


def status(call: Query, rollout: Id) -> None:
    """Show a rollout: how many devices are at which step, of how many that it is for."""
    call.show(call.api.get(f"/rollouts/{rollout}", count=True))


def devices(
    call: Listing,
    rollout: Id,
    state: Annotated[
        str, typer.Option(help="Only those at this step, as in failed or trial.", show_default=False)
    ] = "",
    q: Annotated[str, typer.Option("-q", help="Only those whose id has this in it.", show_default=False)] = "",
) -> None:
    """List the devices that have been offered it, and how far each is."""
    call.pages(f"/rollouts/{rollout}/devices", DEVICES, state=state, q=q)


def percent(
    call: Change,
    rollout: Id,
    percentage: Annotated[float, typer.Argument(metavar="PERCENT", min=0, max=100, show_default=False)],
) -> None:
    """Offer it to more of its devices, or to no further ones. Those that are in stay in."""
    answer = call.send("PATCH", f"/rollouts/{rollout}", {"percentage": percentage}, match="*")
    call.done(f"{rollout} is for {percentage:g} %", answer)


def pause(call: Change, rollout: Id) -> None:
    """Offer it to nobody for now. Downloads are broken off, and go on where they were."""
    call.done(f"{rollout} paused", call.send("POST", f"/rollouts/{rollout}/pause"))


def resume(
    call: Change,
    rollout: Id,
    retry: Annotated[bool, typer.Option("--retry", help="Offer it again to devices that have failed.")] = False,
) -> None:
    """Let it go on. What has failed until now is not counted any more."""
    call.done(f"{rollout} goes on", call.send("POST", f"/rollouts/{rollout}/resume", {"retry": retry}))


def abort(call: Change, rollout: Id) -> None:
    """End it for good. Devices that have it keep it."""
    call.confirm(f"Abort rollout {rollout}?")
    call.done(f"{rollout} aborted", call.send("POST", f"/rollouts/{rollout}/abort"))
