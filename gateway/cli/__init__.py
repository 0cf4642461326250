"""The command line. One module a noun; a command parses, calls, prints, and exits with a stable code.

0 ok, 1 error, 2 usage, 3 unhealthy, 4 unreachable. What a command answers goes to standard output, everything else to
standard error. `catalogue` lists the commands, whose modules are imported when they are called: `gateway token` loads
no node, and `gateway --help` nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, NoReturn

import typer

from gateway.cli.catalogue import Catalogue, application
from gateway.errors import GatewayError

#: What typer raises for every wrong use; it exports no name for it.
WrongUse: Final[Any] = typer.BadParameter.__base__
_PREFIX: Final = "Invalid value: "


class ExitCode(IntEnum):
    """What the process ends with."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNHEALTHY = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


def program() -> typer.Typer:
    """Return the whole command line."""
    app = application(name="gateway", cls=Catalogue)
    app.callback()(gateway)
    return app


def gateway() -> None:
    """An RSocket gateway for the edge."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line: the entry point `gateway`. `arguments` are those of the process if none are given."""
    code: object = ExitCode.OK
    try:
        code = program()(arguments, prog_name=None if arguments is None else "gateway", standalone_mode=False)
        sys.stdout.flush()
    except WrongUse as error:
        _explain_use(error)
    except typer.Abort:
        _fail("nothing was done", ExitCode.ERROR)
    except GatewayError as error:
        _fail(str(error), ExitCode.UNREACHABLE if error.reason == "unreachable" else ExitCode.ERROR)
    except TimeoutError as error:
        _fail(str(error) or "timed out", ExitCode.ERROR)
    except BrokenPipeError:
        # Whoever read our output has gone (`gateway stream … | head`); the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.ERROR)
    except OSError as error:
        # The machine says no: a disk that is full or read-only, a file that is not there, no descriptors left.
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}", ExitCode.ERROR)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _explain_use(error: Any) -> NoReturn:
    """Say in one line what is wrong with the arguments, and where the right ones are."""
    text = error.format_message().removeprefix(_PREFIX)
    if error.ctx is None:
        _fail(text, ExitCode.USAGE)
    if text == error.ctx.get_help():  # of a group without a command
        print(text, file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    _fail(f"{text} (see {error.ctx.command_path} --help)", ExitCode.USAGE)


def _fail(text: str, code: ExitCode) -> NoReturn:
    print(f"gateway: {text}", file=sys.stderr)
    sys.exit(code)
