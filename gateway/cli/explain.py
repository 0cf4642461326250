"""`gateway explain SLUG`: what a name means that the API, a command or doctor has given to a problem."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer

from gateway.cli.diagnosis import CHECKS
from gateway.documents.findings import CODES
from gateway.errors import GatewayError
from gateway.problems import PROBLEMS


def attach(app: typer.Typer) -> None:
    app.command()(explain)


def explain(
    slug: Annotated[
        str,
        typer.Argument(
            help="Name of a problem or check, or a code of the validator. Without: a list of names.", show_default=False
        ),
    ] = "",
) -> None:
    """Tell more about a problem that the API or doctor has named."""
    slug = slug.rpartition("/")[2]
    if not slug:
        titles = {name: kind.title for name, kind in PROBLEMS.items()} | {
            name: kind.title for name, kind in CHECKS.items()
        }
        for name, title in sorted(titles.items()):
            typer.echo(f"{name:<24} {title}")
    elif slug in PROBLEMS:
        kind = PROBLEMS[slug]
        typer.echo(f"{kind.title} (HTTP {kind.status})\n\n{kind.explanation}\n\n{kind.remedy}")
    elif slug in CHECKS:
        check = CHECKS[slug]
        typer.echo(f"{check.title} (doctor: {check.group})\n\n{check.explanation}")
    elif slug.upper() in CODES:
        typer.echo(f"{slug.upper()} (documents)\n\n{CODES[slug.upper()]}\n\n`gateway document check` says where.")
    else:
        near = get_close_matches(slug, (*PROBLEMS, *CHECKS, *CODES), n=1)
        raise GatewayError(f"nothing is called {slug!r}" + (f"; did you mean {near[0]}?" if near else ""))
