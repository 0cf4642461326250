"""`gateway mqtt`: bridges to MQTT brokers, what becomes of a topic, and bridges of a Mosquitto taken over."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.api import Problem
from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.mosquitto import set_up
from gateway.cli.table import Column, Document, printable
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.documents.bridge import Bridge

#: Of a bridge.
NAME = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
BRIDGES = (
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("BROKER", "address"),
    Column("LAST ACK", lambda row: None if row["last_ack_age_s"] is None else f"{row['last_ack_age_s']:.1f} s ago"),
    Column("IN", lambda row: sum(row["counters"]["received"].values())),
    Column("OUT", lambda row: sum(row["counters"]["published"].values())),
    Column("DROPPED", lambda row: sum(sum(row["counters"][name].values()) for name in ("dropped", "refused", "loops"))),
    Column("REASON", "reason"),
    Column("CLIENT ID", "client_id", wide=True),
    Column("VERSION", "version", wide=True),
    Column("QUEUED", "queued", wide=True),
    Column("IN FLIGHT", lambda row: row["in_flight_in"] + row["in_flight_out"], wide=True),
    Column("LOOPS", lambda row: sum(row["counters"]["loops"].values()), wide=True),
    Column("CONNECTS", lambda row: row["counters"]["connects"], wide=True),
)
MAPPINGS = (
    Column("ID", "id"),
    Column("DIRECTION", "direction"),
    Column("TOPIC", "topic"),
    Column("ROUTE", "route"),
    Column("QOS", "qos"),
    Column("SPOOL", "spool"),
    Column("MATCHED", "matched"),
    Column("REFUSED", "refused"),
)
Name = Annotated[str, typer.Argument(metavar="BRIDGE", help="Its name.", show_default=False)]
File = Annotated[
    Path | None,
    typer.Option("-f", "--file", help="Of the documents in this file; no node is asked.", show_default=False),
]


def attach(app: typer.Typer) -> None:
    group = application(help="Bridges to MQTT brokers.")
    bridge = application(help="The bridges of a node, and how they are.")
    for command in (ls, show, add, test, start, stop, restart):
        register(bridge, command)
    mapping = application(help="Which topic is which route.")
    register(mapping, map_ls, "ls")
    register(mapping, map_test, "test")
    group.add_typer(bridge, name="bridge")
    group.add_typer(mapping, name="map")
    register(group, import_)
    register(group, set_up, "setup")
    app.add_typer(group, name="mqtt")


def ls(
    call: Listing,
    q: Annotated[str, typer.Option("-q", help="Only those that have this in their name.", show_default=False)] = "",
) -> None:
    """List the bridges: LAST ACK says whether one works, STATE only whether it is connected."""
    call.pages("/mqtt/bridges", BRIDGES, q=q)


def show(call: Query, name: Name) -> None:
    """Show how one bridge is, with all that it counts."""
    call.show(call.api.get(f"/mqtt/bridges/{name}/status"))


def add(
    call: Change,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)],
    address: Annotated[
        list[str],
        typer.Argument(metavar="ADDRESS", help="Of the broker, as in mqtts://broker:8883.", show_default=False),
    ],
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            metavar="LINE",
            help="As a topic line of mosquitto.conf: 'sensors/# in 1'. May repeat.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[int, typer.Option(help="5, or 4 for MQTT 3.1.1.")] = 5,
    client_id: Annotated[str, typer.Option(help="What the broker knows it as.", show_default=False)] = "",
    username: Annotated[str, typer.Option(help="To log in with.", show_default=False)] = "",
    password_file: Annotated[str, typer.Option(help="File of the node with the password.", show_default=False)] = "",
    ca: Annotated[str, typer.Option(help="PEM file of the node: who may be the broker.", show_default=False)] = "",
) -> None:
    """Add a bridge. A document says more: gateway apply -f FILE."""
    if re.fullmatch(NAME, name) is None:
        raise typer.BadParameter(f"{name!r} is no name: small letters, digits, - and ., as in plant-a")
    mqtt: dict[str, object] = {"address": address, "version": version}
    given = (("clientId", client_id), ("username", username), ("passwordFile", password_file))
    mqtt |= {key: value for key, value in given if value}
    if ca:
        mqtt["tls"] = {"ca": ca}
    body = {"mqtt": mqtt, "topics": [_topic_line(line) for line in topic or ()]}
    try:
        answer = call.send("POST", "/mqtt/bridges", {"name": name, "body": body})
    except Problem as problem:
        if problem.slug != "precondition-failed":
            raise
        raise GatewayError(
            f"there is a bridge {name} already: gateway get bridge {name} shows it, gateway apply -f FILE changes it"
        ) from None
    for finding in answer["warnings"]:
        typer.echo(printable(f"{finding['pointer']}: {finding['code']} {finding['text']}"), err=True)
    call.done(f"Bridge/{name} added", answer)


def test(call: Query, name: Name) -> None:
    """Connect to a bridge's broker as it would, and say what the broker allows; nothing is published."""
    answer = call.api.send("POST", f"/mqtt/bridges/{name}/test")
    call.show(answer)
    if not answer["reachable"] or answer["refused"]:
        raise typer.Exit(3)


def start(call: Change, name: Name) -> None:
    """Let a bridge that was stopped connect again."""
    _tell(call, name, "start", "started")


def stop(call: Change, name: Name) -> None:
    """Let a bridge take leave of its broker, until it is started again, its document changes or the node starts."""
    call.confirm(f"Stop the bridge {name}?")
    _tell(call, name, "stop", "stopped")


def restart(call: Change, name: Name) -> None:
    """Let a bridge connect anew."""
    _tell(call, name, "restart", "restarted")


def _tell(call: Change, name: str, what: str, done: str) -> None:
    call.done(f"{name} {done}", call.send("POST", f"/mqtt/bridges/{name}/{what}"))


def map_ls(
    call: Listing,
    bridge: Annotated[str, typer.Option(help="Only the rules of this one.", show_default=False)] = "",
) -> None:
    """List the rules: which topic is which route."""
    call.pages("/mqtt/mappings", MAPPINGS, bridge=bridge or None)


def map_test(
    call: Query,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="A topic at the broker.", show_default=False)],
    bridge: Annotated[str, typer.Option(help="Only by this one.", show_default=False)] = "",
    answer: Annotated[bool, typer.Option("--answer", help="The message names a response topic.")] = False,
    file: File = None,
) -> None:
    """Say which rule takes a topic, to which route and with which tags, or why none does. Nothing is sent.

    Exits with 1 when no rule takes it.
    """
    if file is None:
        body: dict[str, object] = {"topic": topic, "answer": answer}
        if bridge:
            body["bridge"] = bridge
        found = call.api.send("POST", "/mqtt/mappings:test", body)["data"]
    else:
        found = [_tried(spec, topic, answer) for spec in _bridges_in(file) if not bridge or spec.name == bridge]
    if not call.for_people:
        call.show({"data": found})
    else:
        for each in found:
            _explain(each)
        if not found:
            typer.echo("there is no bridge")
    if not any(step["took"] for each in found for step in each["steps"]):
        raise typer.Exit(1)


def _explain(found: Document) -> None:
    bridge = found["bridge"]
    if found["route"] is not None:
        spool = f", by the spool {found['spool']}" if found["spool"] else ""
        typer.echo(printable(f"{bridge}: {found['rule']} → {found['route']}{spool}"))
        for name, value in found["tags"].items():
            chosen = "  (chooses who gets it)" if name in found["selecting"] else ""
            typer.echo(printable(f"  {name} = {value}{chosen}"))
    else:
        typer.echo(printable(f"{bridge}: no rule takes it in"))
    for step in found["steps"]:
        mark = "✓" if step["took"] else "–"
        typer.echo(printable(f"  {mark} {step['direction']:<4}{step['rule']}: {step['why']}"))


def _tried(spec: Bridge, topic: str, answer: bool) -> Document:
    from gateway.topics.trial import trial

    return trial(spec.name, spec.rules, topic, answer=answer).shown()


def _bridges_in(file: Path) -> list[Bridge]:
    from gateway.documents.validation import examine

    examined = examine(_text_of(file))
    found = [document.spec for document in examined.documents if document.kind == "Bridge"]
    if not found or not examined.good:
        wrong = [str(finding) for finding in examined.findings if not finding.warning]
        raise GatewayError("\n".join(wrong) or f"there is no bridge in {file}")
    return found


def import_(
    call: Change,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A mosquitto.conf.", show_default=False)],
    write: Annotated[bool, typer.Option("--print", help="Print the documents, and ask no node.")] = False,
) -> None:
    """Take over the bridges of a Mosquitto. What cannot be is said, by its line."""
    import yaml

    from gateway.bridges.mqtt.mosquitto_conf import read

    imported = read(_text_of(file))
    for note in imported.notes:
        typer.echo(printable(f"{file}:{note}" if note.line else f"{file}: {note.text}"), err=True)
    if not imported.good:
        raise GatewayError(f"{file} was not taken over: see above")
    text = yaml.safe_dump_all(imported.bodies, sort_keys=False, allow_unicode=True)
    if write:
        typer.echo(text, nl=False)
        return
    answer = call.send("POST", "/documents:apply", {"text": text})
    for finding in answer["warnings"]:
        typer.echo(
            printable(f"{finding['document']}{finding['pointer']}: {finding['code']} {finding['text']}"), err=True
        )
    lines = [f"{each['document']['kind']}/{each['document']['name']} {each['outcome']}" for each in answer["applied"]]
    call.done("\n".join(lines), answer)


def _topic_line(line: str) -> dict[str, Any]:
    from gateway.bridges.mqtt.mosquitto_conf import topic_line

    try:
        return topic_line(line)
    except ValueError as error:
        raise typer.BadParameter(f"--topic {line!r}: {error}") from None


def _text_of(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is no text") from None
