"""`gateway policy`: what `Access` documents say of a request, and a draft of some from what was seen."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Query, register
from gateway.cli.catalogue import application
from gateway.cli.table import printable
from gateway.errors import GatewayError

_TOPIC_ACTS = ("publish", "subscribe")
Pairs = list[str] | None


def attach(app: typer.Typer) -> None:
    group = application(help="Who may do what, by Access documents.")
    for command in (check, draft):
        register(group, command)
    app.add_typer(group, name="policy")


def check(
    call: Query,
    target: Annotated[
        str,
        typer.Argument(
            help="SERVICE or SERVICE/ROUTE; a topic, with --interaction publish or subscribe.", show_default=False
        ),
    ],
    as_: Annotated[str, typer.Option("--as", help="Who asks: a subject.", show_default=False)],
    groups: Annotated[
        str, typer.Option(help="In which groups, with commas; [those the node knows].", show_default=False)
    ] = "",
    kind: Annotated[str, typer.Option(help="device, service, user, node or admin.", show_default=False)] = "",
    label: Annotated[Pairs, typer.Option("--label", help="KEY=VALUE. May repeat.", show_default=False)] = None,
    interaction: Annotated[
        str, typer.Option(help="requestResponse, fireAndForget, …, register, publish, subscribe.")
    ] = "requestResponse",
    tag: Annotated[
        Pairs, typer.Option("--tag", help="KEY=VALUE of the request. May repeat.", show_default=False)
    ] = None,
    tls: Annotated[bool | None, typer.Option("--tls/--no-tls", help="How it is connected.", show_default=False)] = None,
    ip: Annotated[str, typer.Option(help="From which address.", show_default=False)] = "",
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="By the documents of this file, without a node.", show_default=False),
    ] = None,
) -> None:
    """Say whether somebody may do something, and which rule says so.

    Exit status 1 where it is refused.
    """
    service, _, route = target.partition("/")
    body: dict[str, Any] = {"subject": as_, "interaction": interaction, "tags": _pairs(tag)}
    body |= {"topic": target} if interaction in _TOPIC_ACTS else {"service": service, "route": route}
    given = {"kind": kind, "ip": ip, "tls": tls, "groups": groups.split(",") if groups else None}
    body |= {name: value for name, value in given.items() if value not in ("", None)}
    if label:
        body["labels"] = _pairs(label)
    answer = _offline(body, file) if file is not None else call.api.send("POST", "/policy:check", body)
    if call.for_people:
        for line in _said(answer):
            typer.echo(printable(line))
        if not route and "." in service and interaction not in _TOPIC_ACTS:
            text = (
                "while nobody serves it, or by a file, all of it is taken for the service's name: write service/route"
            )
            typer.echo(text, err=True)
    else:
        call.show(answer)
    if not answer["allowed"]:
        raise typer.Exit(1)


def draft(
    call: Query,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Flow records, a JSON object a line; - is standard input. [those that the node remembers]",
            allow_dash=True,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write Access documents that allow what was seen, and nothing else of it.

    Look through them, apply them with `dryRun: true` first, and see what they would refuse.
    """
    from gateway.documents.access_draft import Flow
    from gateway.documents.access_draft import draft as drafted

    if file is None:
        answer = call.api.get("/policy:draft")
        _drafted(call, answer["documents"], f"{answer['flows']} records", answer["flows"])
        return
    try:
        lines = (sys.stdin.read() if str(file) == "-" else file.read_text()).splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
        flows = [flow for record in records if (flow := Flow.of(record)) is not None]
    except (OSError, ValueError, AttributeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    _drafted(call, drafted(flows), f"{len(flows)} of {len(records)} records", len(flows))


def _drafted(call: Query, documents: list[dict[str, Any]], source: str, flows: int) -> None:
    import yaml

    if call.for_people:
        typer.echo(f"# from {source}")
        if documents:
            typer.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)
    else:
        call.show({"flows": flows, "documents": documents})


def _pairs(texts: Pairs) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or ()]
    if any(not separator for _, separator, _ in pairs):
        raise typer.BadParameter("write KEY=VALUE")
    return {key: value for key, _, value in pairs}


def _offline(body: dict[str, Any], file: Path) -> dict[str, Any]:
    from gateway.documents.governing import governance
    from gateway.documents.validation import examine
    from gateway.policy.asking import Ask, Caller
    from gateway.policy.authorization import Act
    from gateway.policy.explanation import explain
    from gateway.policy.judgement import Judgement

    try:
        examined = examine(file.read_text())
        act = Act(body["interaction"])
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    if not examined.good:
        raise GatewayError("\n".join(f"{file}:{finding}" for finding in examined.findings if not finding.warning))
    caller = Caller(
        body["subject"],
        body.get("kind", "device"),
        tuple(body.get("groups", ())),
        tuple(body.get("labels", {}).items()),
        tls=body.get("tls"),
        ip=body.get("ip"),
    )
    topic = body.get("topic", "")
    wide = act is Act.SUBSCRIBE and any(level in ("+", "#") for level in topic.split("/"))
    ask = Ask(act, body.get("service", ""), body.get("route", ""), tuple(body["tags"].items()), topic, wide)
    return explain(Judgement(governance(examined.documents).access), caller, ask).shown()


def _said(answer: dict[str, Any]) -> list[str]:
    lines = [answer["text"]]
    if answer["granted"] is not None:
        lines.append(f"its token {'allows' if answer['granted'] else 'does not allow'} it")
    if answer["dry_run_denied"]:
        lines.append(f"Access/{answer['dry_run_denied']}, a dry run, would have refused it")
    for step in answer["steps"]:
        rule = f" rule {step['rule']}" if step["rule"] >= 0 else ""
        dry = ", dry run" if step["dry_run"] else ""
        lines.append(f"  {step['action']} {step['policy']}{rule}{dry}: {'fits' if step['fits'] else step['why']}")
    return lines
