"""Which commands there are, and the module of each: nothing is imported before its command is run.

A name is that of a command or of a group of commands, whose module puts it into an application (`attach`); the text is
what `gateway --help` says of it: the beginning of the command's own help. Must not know: what a command does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

#: Command → (module of this package, its line in `gateway --help`), in the order of that list.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("lifecycle", "Make what a node needs: id, signing key, certificates."),
    "run": ("lifecycle", "Run a node until SIGTERM or Ctrl-C, then drain and end."),
    "stop": ("stop", "End the node of this data directory in order, and wait until it has gone."),
    "version": ("lifecycle", "Print versions, and whether the parts that make a node fast are in use."),
    "token": ("token", "Mint a token and print it, and nothing else."),
    "request": ("talk", "Send a request and print the answer."),
    "stream": ("talk", "Request a stream and print its items as they come."),
    "fnf": ("talk", "Send a fire-and-forget request."),
    "channel": ("talk", "Send the lines of standard input over a channel and print what comes back."),
    "routes": ("routes", "List the routes that this caller may call."),
    "simulate": ("simulate", "Run devices until Ctrl-C: thermostat-1, thermostat-2, …"),
    "demo": ("demo", "Run a development node, thermostats on MicroPython and a Python service, and say what to try."),
    "status": ("watch", "Say how the node is."),
    "top": ("watch", "Show rates and the busiest connections, again and again."),
    "events": ("watch", "List what has happened of late, or with --follow what happens."),
    "flow": ("flow", "What becomes of requests: who asked whom for what, and how that ended."),
    "graph": ("graph", "Show which services and kinds of callers call which services on this node."),
    "dashboard": ("dashboard", "Print a link that logs a browser into the node's dashboard, and open it."),
    "device": ("device", "Devices: who may connect, and with which credential."),
    "firmware": ("firmware", "Images that devices can be updated to."),
    "rollout": ("rollout", "Which devices get which firmware, and how far each is."),
    "enroll": ("enroll", "One-time tokens with which devices get their credential themselves."),
    "central": ("central", "A central node, to which edges link."),
    "join": ("join", "Make this node, which must be stopped, one of a federation."),
    "leave": ("join", "Make this node, which must be stopped, stand alone again."),
    "peer": ("peer", "The other nodes of the federation, and how new ones join."),
    "topology": ("topology", "Show the nodes of the federation and their links, as one node sees them."),
    "latency": ("topology", "Measure round trips between two nodes of the federation, over its links."),
    "user": ("user", "People who may use the admin API."),
    "key": ("key", "API keys, with which programs use the admin API."),
    "conn": ("connection", "Connections, open and closed."),
    "route": ("route", "Registrations, and where a request would go."),
    "service": ("route", "Services, and how their requests end."),
    "spool": ("spool", "Messages that wait for a service that is not there."),
    "mqtt": ("mqtt", "Bridges to MQTT brokers."),
    "policy": ("policy", "Who may do what, by Access documents."),
    "bundle": ("bundle", "Documents for the nodes of a federation, as versions."),
    "config": ("config", "The settings of a running node, with where each value comes from."),
    "document": ("declaring", "What documents can say, and what is wrong with them."),
    "apply": ("document", "Store the documents of a file, all of them or none."),
    "get": ("document", "List the documents of a kind, or print one."),
    "delete": ("document", "Act by a document no longer."),
    "reload": ("operation", "Read the settings and certificates again, and put into force what a running node can."),
    "drain": ("operation", "Send who is there elsewhere, let requests in flight finish, and end the node."),
    "undrain": ("operation", "Let connections in again."),
    "logs": ("operation", "The node's log."),
    "audit": ("audit", "List who has changed what, newest first."),
    "backup": ("backup", "Copies of all that a node is: identity, devices, users, audit."),
    "db": ("database", "The database of a node that is stopped."),
    "cert": ("certificate", "The certificates that a node shows."),
    "ca": ("certificate", "The node's own authority, which devices trust."),
    "engine": ("engine", "The engine that holds the table of central nodes: NATS JetStream."),
    "doctor": ("doctor", "Look for what keeps a node from working, and say what to do about it."),
    "support-bundle": (
        "support_bundle",
        "Put what those who help need to know of a node into one file, without secrets.",
    ),
    "healthcheck": ("healthcheck", "Ask the node of this data directory whether it takes connections."),
    "explain": ("explain", "Tell more about a problem that the API or doctor has named."),
    "context": ("context", "The nodes that you manage from here: where their admin API is, and your key for it."),
    "completion": ("completion", "Print what lets a shell complete this program's commands."),
    "bench": ("bench", "Measure how much a gateway takes."),
}


class Catalogue(TyperGroup):
    """The group of all commands; it holds a name and a line for each until one is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, line) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=line, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the arguments begin with, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None or command is None else load(name), rest


def load(name: str) -> Any:
    """The command, or group of commands, `name` with its options. Raises KeyError for what is not in the catalogue."""
    app = application()
    import_module(f"gateway.cli.{COMMANDS[name][0]}").attach(app)
    return typer.main.get_group(app).commands[name]


def application(**options: Any) -> typer.Typer:
    """An empty application with this program's ways; a module makes its group of commands with it."""
    return typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )
