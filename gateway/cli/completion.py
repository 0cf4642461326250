"""`gateway completion`: the script with which a shell completes commands and options."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def attach(app: typer.Typer) -> None:
    app.command()(completion)


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Which shell.", show_default=False)],
) -> None:
    """Print what lets a shell complete this program's commands.

    eval "$(gateway completion bash)" in ~/.bashrc, the same with zsh, gateway completion fish | source.
    """
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="gateway", complete_var="_GATEWAY_COMPLETE", shell=shell))
