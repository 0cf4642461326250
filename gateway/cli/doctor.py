"""`gateway doctor`: what is wrong with this machine, these settings and this data directory, and what to do about it.

Looks, and changes nothing. Ends with 3 when something is broken (×); a warning (‼) alone does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import diagnosis, target
from gateway.cli.diagnosis import SIGNS, Finding, Level
from gateway.cli.lifecycle import ConfigFile, settled_settings
from gateway.cli.table import as_json, printable
from gateway.errors import ConfigError

UNHEALTHY = 3


def attach(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    data: target.Data = None,
    config: ConfigFile = None,
    dev: Annotated[bool, typer.Option("--dev", help="As the node is run: gateway run --dev.")] = False,
    against: Annotated[
        str,
        typer.Option(
            metavar="URL", help="An http or https URL whose clock is right, to compare with.", show_default=False
        ),
    ] = "",
    as_document: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """Look for what keeps a node from working, and say what to do about it.

    Ends with 3 when something is broken. gateway explain NAME tells more about a check.
    """
    findings = list(findings_of(data, config, dev, against))
    if as_document:
        typer.echo(as_json(document_of(findings)))
    else:
        _print(findings)
    raise typer.Exit(UNHEALTHY if diagnosis.worst(findings) is Level.ERROR else 0)


def findings_of(data: Path | None, config: Path | None, dev: bool, against: str = "") -> Iterator[Finding]:
    """What each check sees, in the order of the checks."""
    from gateway.cli import checks, links, reach

    try:
        settings = settled_settings(data, config, dev=dev).config
    except ConfigError as problem:
        yield diagnosis.error("config-valid", problem.text, "correct it; docs/settings.md lists every setting")
        return
    yield diagnosis.ok("config-valid", "the settings are good")
    scene = checks.Scene(settings, settings.node.data, against)
    steps: tuple[Callable[[checks.Scene], Iterator[Finding]], ...] = (
        checks.safe,
        checks.directory,
        checks.spool,
        checks.secrets,
        checks.backups,
        checks.clock,
        checks.certificate,
        reach.ports,
        reach.reachable,
        reach.advertised,
        reach.ready,
        links.links,
        checks.process,
    )
    for step in steps:
        yield from step(scene)


def _print(findings: list[Finding]) -> None:
    group = ""
    for finding in findings:
        if finding.check.group != group:
            group = finding.check.group
            typer.echo(group)
        typer.echo(f"  {SIGNS[finding.level]} {printable(finding.text)}")
        if finding.fix:
            typer.echo(f"      fix:  {printable(finding.fix)}")
            typer.echo(f"      more: gateway explain {finding.slug}")
    count = {level: sum(finding.level is level for finding in findings) for level in Level}
    typer.echo(f"\n{count[Level.ERROR]} broken, {count[Level.WARNING]} to look at, {count[Level.OK]} good")


def document_of(findings: Sequence[Finding]) -> dict[str, object]:
    return {"level": diagnosis.worst(findings), "checks": [_document(each) for each in findings]}


def _document(finding: Finding) -> dict[str, str]:
    return {
        "slug": finding.slug,
        "group": finding.check.group,
        "level": finding.level,
        "text": finding.text,
        "fix": finding.fix,
    }
