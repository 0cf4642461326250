"""`gateway peer`: the other nodes of the federation, and the tokens with which nodes join it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.call import Change, Listing, Query, register
from gateway.cli.catalogue import application
from gateway.cli.durations import duration
from gateway.cli.table import Column, Document, as_json
from gateway.cli.topology import measured

COLUMNS = (
    Column("NAME", "name"),
    Column("ROLE", "role"),
    Column("VERSION", "version"),
    Column("DEVICES", "devices"),
    Column("LINKS", lambda peer: str(_links(peer))),
    Column("ROUTES IN", lambda peer: sum(link["routes_in"] for link in peer["links"])),
    Column("RTT", lambda peer: str(_rtt(peer))),
    Column("WHY DOWN", "why"),
    Column("ID", "id"),
    Column("URLS", "urls", wide=True),
    Column("SERVICES", "services", wide=True),
    Column("CALLS", "routes", wide=True),
)
TOKENS = (
    Column("ID", "id"),
    Column("ROLE", "role"),
    Column("USED", lambda entry: f"{entry['used']} of {entry['uses']}"),
    Column("EXPIRES", "expires_at"),
    Column("REVOKED", "revoked_at"),
    Column("BY", "created_by", wide=True),
)


Node = Annotated[str, typer.Argument(metavar="NODE", help="Name or id of a node.", show_default=False)]


def attach(app: typer.Typer) -> None:
    group = application(help="The other nodes of the federation, and how new ones join.")
    for command in (ls, show, rm, move, reconnect, ping):
        register(group, command)
    tokens = application(help="The lines with which nodes join.")
    register(tokens, token_create, "create")
    register(tokens, token_ls, "ls")
    register(tokens, token_rm, "rm")
    group.add_typer(tokens, name="token")
    app.add_typer(group, name="peer")


def ls(call: Listing) -> None:
    """List the nodes, this one among them, with the links that this one has."""
    call.pages("/peers", COLUMNS)


def show(call: Query, node: Node) -> None:
    """Show one node, and each link to it: what was told, how far behind, what the other side may do."""
    peer = call.api.get(f"/peers/{_id(call, node)}")
    links = peer.pop("links")
    if not call.for_people:
        call.show({**peer, "links": links})
        return
    call.show(peer)
    for link in links:
        typer.echo("")
        call.show(link)


def rm(call: Change, node: Node) -> None:
    """End a node's membership: its links close, and tokens of who enrolled with it are refused."""
    number = _id(call, node)
    call.confirm(f"End the membership of {node}?")
    call.send("DELETE", f"/peers/{number}")
    call.done(f"{node} is no member any more")


def move(call: Change, node: Node) -> None:
    """Ask an edge to take another of its parents; on an edge, leave this parent."""
    number = _id(call, node)
    if call.dry_run:
        call.done(f"the link to {node} would be left")
        return
    call.send("POST", f"/peers/{number}/move")
    call.done(f"the link to {node} is left")


def reconnect(call: Change, node: Node) -> None:
    """Close the links to a node, so that they are dialled again. Requests that cross them end."""
    number = _id(call, node)
    call.confirm(f"Close the links to {node}?")
    answer = call.send("POST", f"/peers/{number}/reconnect")
    call.done(f"links closed: {answer['links']}", answer)


def ping(
    call: Query,
    node: Node,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=200, help="How often.")] = 20,
) -> None:
    """Measure round trips from the node that is asked to another one. Ends with 1 when there is no way."""
    measured(call, {"target": node, "count": count})


def _id(call: Query, node: str) -> str:
    """The id of a node that is given by its name or id."""
    return next((str(peer["id"]) for peer in call.api.entries("/peers", 0) if node in (peer["name"], peer["id"])), node)


def token_create(
    call: Change,
    role: Annotated[str, typer.Option(help="edge or central")] = "edge",
    service: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of services that it may offer elsewhere. May repeat. [*]", show_default=False),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of routes that it may call elsewhere. May repeat. [*]", show_default=False),
    ] = None,
    uses: Annotated[int, typer.Option(min=1, help="How many nodes may use it.")] = 1,
    ttl: Annotated[float, typer.Option(parser=duration, metavar="TIME", help="How long it can be used.")] = 900.0,
) -> None:
    """Make the line with which a node joins and print it, and nothing else. It is shown this once."""
    body: dict[str, object] = {"role": role, "uses": uses, "ttl_s": ttl}
    for field, values in (("services", service), ("routes", route)):
        if values:
            body[field] = values
    answer = call.send("POST", "/join-tokens", body)
    if call.dry_run:
        call.done("a join token would be made", answer)
    else:
        typer.echo(answer["token"] if call.for_people else as_json(answer))


def token_ls(call: Listing) -> None:
    """List join tokens."""
    call.pages("/join-tokens", TOKENS)


def token_rm(call: Change, name: Annotated[str, typer.Argument(metavar="ID", help="Id of a join token.")]) -> None:
    """End a join token. Nodes that have used it stay."""
    call.confirm(f"End the join token {name}?")
    call.send("DELETE", f"/join-tokens/{name}")
    call.done(f"{name} ended")


def _links(peer: Document) -> str:
    if peer["itself"]:
        return "this node"
    return ", ".join(f"{link['kind']} {link['state']}" for link in peer["links"]) or "none"


def _rtt(peer: Document) -> str:
    times = [link["rtt_ms"] for link in peer["links"] if link["rtt_ms"] is not None]
    return f"{min(times):.1f} ms" if times else ""
