"""The command line. One module a command group; a command parses, calls, prints, and exits with a stable code.

0 ok, 1 error, 2 usage, 3 unhealthy, 4 unreachable. What a command answers goes to standard output, everything else to
standard error. Commands import what they need when they run, so that `gateway token` does not load a node.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import NoReturn

import typer

from gateway.cli import bench, demo, lifecycle, routes, simulate, talk, token
from gateway.errors import GatewayError


class ExitCode(IntEnum):
    """What the process ends with."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNHEALTHY = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


def program() -> typer.Typer:
    """Return the whole command line, put together from its groups."""
    app = typer.Typer(
        name="gateway",
        help="An RSocket gateway for the edge.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for group in (lifecycle, token, talk, routes, simulate, demo, bench):
        group.attach(app)
    return app


def main() -> NoReturn:
    """Run the command line: the entry point `gateway`."""
    try:
        program()()
    except GatewayError as error:
        _fail(str(error), ExitCode.UNREACHABLE if error.reason == "unreachable" else ExitCode.ERROR)
    except TimeoutError as error:
        _fail(str(error) or "timed out", ExitCode.ERROR)
    except BrokenPipeError:
        # Whoever read our output has gone (`gateway stream … | head`); the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.ERROR)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(ExitCode.OK)


def _fail(text: str, code: ExitCode) -> NoReturn:
    print(f"gateway: {text}", file=sys.stderr)
    sys.exit(code)
