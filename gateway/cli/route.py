"""`gateway route` and `gateway service`: who is registered, and where a request would go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli import target
from gateway.cli.call import Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.table import Column, listing, printable

ROUTES = (
    Column("SERVICE", "service"),
    Column("SUBJECT", "subject"),
    Column("CONNECTION", "connection"),
    Column("PENDING", "pending"),
    Column("TAGS", "tags"),
    Column("ID", "id"),
)
CANDIDATES = (
    Column("CHOSEN", "chosen"),
    Column("SERVICE", "service"),
    Column("SUBJECT", "subject"),
    Column("NODE", "node"),
    Column("OVER", "link"),
    Column("CONNECTION", "connection", wide=True),
    Column("PENDING", "pending"),
    Column("PERMITTED", "permitted"),
    Column("WHY", "why"),
)
SERVICES = (
    Column("NAME", "name"),
    Column("INSTANCES", "instances"),
    Column("OPEN", "open"),
    Column("REQUESTS", "requests"),
    Column("OK", "ok"),
    Column("FAILED", "failed"),
    Column("CANCELED", "canceled"),
    Column("REFUSED", "refused"),
)


EJECTED = (
    Column("INSTANCE", "instance"),
    Column("SUBJECT", "subject"),
    Column("CAUSE", "cause"),
    Column("BACK IN", "back_in_s"),
    Column("TIMES", "times"),
)


def attach(app: typer.Typer) -> None:
    route = application(help="Registrations, and where a request would go.")
    register(route, ls)
    register(route, resolve)
    app.add_typer(route, name="route")
    service = application(help="Services, and how their requests end.")
    register(service, services, "ls")
    register(service, health)
    register(service, reset)
    app.add_typer(service, name="service")


def ls(
    call: Listing,
    service: Annotated[str, typer.Option(help="Only those of this service.", show_default=False)] = "",
    subject: Annotated[str, typer.Option(help="Only those of this device or service.", show_default=False)] = "",
    q: Annotated[str, typer.Option("-q", help="Only those that have this in them.", show_default=False)] = "",
) -> None:
    """List who is registered."""
    call.pages("/routes", ROUTES, service=service, subject=subject, q=q)


def resolve(
    call: Query,
    route: Annotated[str, typer.Argument(help="Route, as in thermostat-1.set_target.")] = "",
    tag: target.Tags = None,
    as_: Annotated[
        str, typer.Option("--as", metavar="SUBJECT", help="Who would ask. [whoever may do everything]")
    ] = "",
    multicast: Annotated[bool, typer.Option("--multicast", help="To all of them in place of one.")] = False,
    came_from: Annotated[
        str, typer.Option(help="A client, or over which link it comes: downlink, peer, uplink.", metavar="WHENCE")
    ] = "client",
) -> None:
    """Say where a request would go, and why. Ends with 1 when it would go nowhere."""
    body: dict[str, object] = {"multicast": multicast, "came_from": came_from}
    body |= {name: value for name, value in (("route", route), ("tags", target.tags(tag)), ("caller", as_)) if value}
    answer = call.api.send("POST", "/routes:resolve", body)
    if call.for_people:
        said = answer["reason"] or f"{answer['service'] or answer['address']} by {answer['method']}"
        typer.echo(printable(f"{answer['verdict']}: {said}"))
        marked = [{**entry, "chosen": entry["route"] == answer["chosen"]} for entry in answer["candidates"]]
        if marked:
            listing(marked, CANDIDATES, call.output)
        for entry in answer["unused"]:
            name = entry["service"] or entry["subject"]
            typer.echo(printable(f"not used: {name} on {entry['node']}: {entry['why']}"))
    else:
        call.show(answer)
    raise typer.Exit(0 if answer["verdict"] == "ok" else 1)


def services(
    call: Listing,
    q: Annotated[str, typer.Option("-q", help="Only those that have this in their name.", show_default=False)] = "",
) -> None:
    """List services, their instances, and how requests to them have ended."""
    call.pages("/services", SERVICES, q=q)


Service = Annotated[str, typer.Argument(help="The service's name.")]


def health(call: Query, name: Service) -> None:
    """Say what protects a service, and how that stands: breaker, ejected instances, limits, rates."""
    answer = call.api.get(f"/services/{quote(name, safe='')}/health")
    if not call.for_people:
        call.show(answer)
        return
    if not answer["processes"]:
        typer.echo(printable(f"no document governs {name}"))
    for each in answer["processes"]:
        for line in _told(each, several=len(answer["processes"]) > 1):
            typer.echo(printable(line))
        if each["ejected"]:
            listing(each["ejected"], EJECTED, call.output)


def _told(each: dict[str, Any], *, several: bool) -> Iterator[str]:
    yield each["document"] + (f", worker {each['worker']}" if several else "")
    if breaker := each["breaker"]:
        tries = f", tries again in {breaker['tries_in_s']:g} s" if breaker["tries_in_s"] else ""
        yield f"breaker: {breaker['state']}, {breaker['failures']} of {breaker['requests']} failed{tries}"
    limit = "" if each["limit"] is None else f" of {each['limit']}"
    yield f"open: {each['open']}{limit}"
    if rate := each["rate"]:
        whose = f", {rate['least_left_of']}" if rate["least_left_of"] else ""
        yield f"rate: {rate['least_left']:g} left at least (per {rate['per']}{whose})"
    for name in ("refused", "ejections", "faults", "retries"):
        if each[name]:
            yield f"{name}: " + ", ".join(f"{word} {count}" for word, count in sorted(each[name].items()))


def reset(
    call: Query,
    name: Service,
    instance: Annotated[str, typer.Option(help="Only this ejected instance, by its id.", show_default=False)] = "",
) -> None:
    """Let ejected instances come back now; without --instance close the service's breaker and fill its rates, too."""
    answer = call.api.send(
        "POST", f"/services/{quote(name, safe='')}:reset", {"instance": instance} if instance else {}
    )
    if call.for_people:
        typer.echo(f"{answer['returned']} back")
    else:
        call.show(answer)
