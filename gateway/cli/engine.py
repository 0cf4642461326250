"""`gateway engine`: the NATS cluster that holds the table of central nodes, made ready and looked at."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import target
from gateway.cli.catalogue import application
from gateway.cli.lifecycle import ConfigFile, settled_settings
from gateway.cli.printing import TextOrJson
from gateway.cli.table import as_json
from gateway.errors import FederationError

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.federation.nats import NatsClient

UNHEALTHY = 3
#: More watches than this for each node that lives, and somebody leaves them behind.
WATCHES_A_NODE = 4
_PUBLIC_KEY = re.compile(r"U[A-Z2-7]{55}\Z")

Key = Annotated[
    Path | None, typer.Option("--key", help="File with the seed of the nkey.", show_default=False, dir_okay=False)
]


def attach(app: typer.Typer) -> None:
    group = application(help="The engine that holds the table of central nodes: NATS JetStream.")
    for command in (init, check, key):
        group.command()(command)
    app.add_typer(group, name="engine")


def init(
    data: target.Data = None,
    config: ConfigFile = None,
    key: Key = None,
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="NAME=PUBLICKEY",
            help="A central node and its public nkey. May repeat. [this node]",
            show_default=False,
        ),
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(min=1, max=5, help="Copies of the table, as far as there are servers. [3]", show_default=False),
    ] = 3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what nodes are to be allowed; make nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print what nodes are to be allowed.")] = False,
) -> None:
    """Make the bucket, as the administrator whose key is given, and print what nodes are to be allowed.

    What is printed belongs into the configuration of every NATS server. Does nothing where the bucket exists.
    """
    from gateway.federation.nats import bucket

    settings = _settings(data, config)
    nodes = _nodes(settings, node or ())
    administrator = "" if key is None else _public_key(key)
    if not dry_run:
        replicas = min(replicas, max(1, len(settings.federation.nats_servers)))
        info, existed = asyncio.run(_made(settings, key, replicas))
        size = info["config"]["num_replicas"]
        copies = f"{size} replica{'s' if size > 1 else ''}"
        typer.echo(
            f"bucket {settings.federation.bucket!r} {'is there' if existed else 'made'}, with {copies}", err=True
        )
        for remark in bucket.remarks(info):
            typer.echo(f"  ‼ {remark}", err=True)
    if not quiet:
        typer.echo(bucket.users(settings.federation.bucket, nodes, administrator), nl=False)


def check(data: target.Data = None, config: ConfigFile = None, output: TextOrJson = "text") -> None:
    """Look at the engine as this node sees it: servers, bucket, table. Ends with 3 when it cannot hold the table."""
    settings = _settings(data, config)
    facts, faults, remarks = asyncio.run(_looked(settings))
    if output == "json":
        typer.echo(as_json({**facts, "faults": faults, "remarks": remarks}))
    else:
        for name, value in facts.items():
            typer.echo(f"{name:<10} {value}")
        for fault in faults:
            typer.echo(f"  × {fault}")
        for remark in remarks:
            typer.echo(f"  ‼ {remark}")
    raise typer.Exit(UNHEALTHY if faults else 0)


def key(
    data: target.Data = None,
    config: ConfigFile = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Where the seed is to be. [federation.nats_nkey_file]", show_default=False),
    ] = None,
) -> None:
    """Print the public nkey of this node; make the seed where there is none."""
    from gateway.federation.nats import credentials

    path = file or settled_settings(data, config, dev=False).config.federation.nats_nkey_file
    if path is None:
        raise typer.BadParameter("name the file: --file, or federation.nats_nkey_file in the settings")
    typer.echo(credentials.public_key(path) if path.exists() else credentials.make(path))


def _settings(data: Path | None, config: Path | None) -> Config:
    settings = settled_settings(data, config, dev=False).config
    if not settings.federation.nats_servers:
        raise typer.BadParameter("name the servers: federation.nats_servers in the settings")
    return settings


def _nodes(settings: Config, named: Any) -> list[tuple[str, str]]:
    nodes = []
    for each in named:
        name, _, public = each.partition("=")
        if not name or not _PUBLIC_KEY.match(public):
            raise typer.BadParameter(f"{each!r} is not NAME=PUBLICKEY; gateway engine key prints a node's key")
        nodes.append((name, public))
    seed = settings.federation.nats_nkey_file
    if not nodes and seed is not None and seed.exists():
        nodes.append((settings.node.name, _public_key(seed)))
    return nodes


def _public_key(file: Path) -> str:
    from gateway.federation.nats import credentials

    return credentials.public_key(file)


async def _client(settings: Config, **other: Any) -> NatsClient:
    from dataclasses import replace

    from gateway.federation.engines import nats_options
    from gateway.federation.nats import NatsClient

    client = NatsClient(replace(nats_options(settings.federation, settings.node.name), **other))
    await client.start()
    if not client.ready.is_set():
        await client.stop()
        raise FederationError(f"no NATS server can be reached: {client.why}", reason="unreachable")
    return client


async def _made(settings: Config, key: Path | None, replicas: int) -> tuple[dict[str, Any], bool]:
    from gateway.federation.nats import bucket

    client = await _client(settings, **({} if key is None else {"nkey_file": key, "name": "administrator"}))
    try:
        return await bucket.make(client, settings.federation.bucket, replicas)
    finally:
        await client.stop()


async def _looked(settings: Config) -> tuple[dict[str, Any], list[str], list[str]]:
    from gateway.federation.nats import bucket

    client = await _client(settings)
    try:
        began = time.perf_counter()
        info = await bucket.state(client, "n")
        took = time.perf_counter() - began
        version = client.version
    finally:
        await client.stop()
    config, state, cluster = info["config"], info["state"], info.get("cluster") or {}
    nodes = len(state.get("subjects") or ())
    facts = {
        "version": version,
        "answers": f"in {took * 1000:.1f} ms",
        "bucket": settings.federation.bucket,
        "replicas": config.get("num_replicas", 1),
        "leader": cluster.get("leader", ""),
        "nodes": nodes,
        "keys": state["messages"],
        "bytes": state["bytes"],
        "watches": state["consumer_count"],
    }
    remarks = bucket.remarks(info)
    if state["consumer_count"] > WATCHES_A_NODE * max(1, nodes):
        remarks.append(f"{state['consumer_count']} watches for {nodes} nodes: some are left behind")
    return facts, bucket.unfit(config), remarks
