"""Settings: what holds and why, changing what a running node can take, and going back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any

from fastapi import Body, Path, Query, Response
from pydantic import Field

from gateway.admin.access import By, Operations
from gateway.admin.context import Context, Here
from gateway.admin.export import JSON
from gateway.admin.pages import DEFAULT_LIMIT, Cursor, Limit, PageOf, written
from gateway.admin.preconditions import IfMatch, etag, expected
from gateway.admin.problem import Problem
from gateway.admin.shapes import DryRun, Shown, Taken, Time, moment
from gateway.config import Change, Config, Locked, NotReloadable
from gateway.control.audit import Actor
from gateway.control.config_history import Revision
from gateway.control.roles import Action
from gateway.errors import ConfigError

operations = Operations("config", "config")

HIDDEN = "<hidden>"
Number = Annotated[int, Path(ge=1, le=2**53)]
SettingValue = str | int | float | bool | list[str] | None
Changes = Annotated[
    dict[str, SettingValue],
    Body(
        min_length=1,
        max_length=200,
        description="Dotted names with their new values; null takes back what was set here.",
        examples=[{"limits.drain_grace_s": 5}],
    ),
]


class SettingView(Shown):
    """`source`: cli, env, secrets, dev, api, file or default. `locked`: a stronger source than this API holds it.
    `secret`: its value is not shown."""

    name: str
    value: SettingValue
    default: SettingValue
    source: str
    locked: bool
    reloadable: bool
    secret: bool
    help: str


class ConfigView(Shown):
    revision: int
    settings: list[SettingView]


class Changed(Shown):
    revision: int
    changed: list[str]
    restart_needed: list[str]


class Candidate(Taken):
    """Either single changes, or the whole of what is set here as TOML."""

    changes: dict[str, SettingValue] | None = Field(None, max_length=200)
    toml: str | None = Field(None, max_length=100_000)


class Verdict(Shown):
    """`changed`: what would hold at once; `restart_needed`: what the settings file says and a restart would bring."""

    valid: bool
    changed: list[str]
    restart_needed: list[str]


class RevisionView(Shown):
    """`revision` counts the changes; `text` is what was set here from then on."""

    revision: int
    at: Time
    by: str
    comment: str
    digest: str


class RevisionText(RevisionView):
    text: str


async def revision(here: Context) -> int:
    """The number of the newest change; 0 before the first."""
    latest = await here.control.config_history.latest()
    return 0 if latest is None else latest.id


@operations.get("/config", response_model=ConfigView)
async def get_config(
    here: Here,
    response: Response,
    prefix: Annotated[str, Query(max_length=64, description="Only names that begin so, as `limits.`.")] = "",
) -> Any:
    """Every setting as it holds, with where it came from."""
    number = await revision(here)
    response.headers["etag"] = etag(number)
    return ConfigView(
        revision=number,
        settings=[
            SettingView(
                name=each.setting.dotted,
                value=HIDDEN if each.setting.secret and each.value else each.value,
                default=each.default,
                source=each.source,
                locked=each.locked,
                reloadable=each.setting.reloadable,
                secret=each.setting.secret,
                help=each.setting.help,
            )
            for each in here.settings.effective()
            if each.setting.dotted.startswith(prefix)
        ],
    )


@operations.get(
    "/config/schema",
    response_model=dict[str, Any],
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def get_config_schema() -> Any:
    """The settings file as JSON Schema."""
    return Response(await asyncio.to_thread(_schema), media_type=JSON)


@cache
def _schema() -> bytes:
    # It takes a third of a second: not in the loop, and once.
    return json.dumps(Config.model_json_schema(), separators=(",", ":")).encode()


@operations.patch("/config", problems=(409, 412, 428), response_model=Changed)
async def change_config(
    here: Here, by: By, response: Response, changes: Changes, if_match: IfMatch = None, dry_run: DryRun = False
) -> Any:
    """Change settings of the running node, and keep them. All of them or none."""
    await _match(here, if_match)
    return await _change(here, by, response, flat_change(here, changes), "", dry_run)


@operations.post("/config/validate", Action.READ, problems=(409,), response_model=Verdict)
async def validate_config(here: Here, candidate: Candidate) -> Any:
    """What a change would do. Nothing is changed."""
    if (candidate.changes is None) == (candidate.toml is None):
        raise Problem("invalid", errors=[{"pointer": "/", "detail": "either changes or toml"}])
    if candidate.changes is not None:
        change = flat_change(here, candidate.changes)
    else:
        toml = candidate.toml or ""
        change = _planned(lambda: here.settings.plan_text(toml), "/toml")
    return Verdict(valid=True, changed=list(change.changed), restart_needed=list(change.restart_needed))


@operations.get("/config/history", response_model=PageOf[RevisionView])
async def list_config_history(here: Here, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Any:
    """The changes that were made here, newest first."""
    page = await here.control.config_history.list(cursor=cursor, limit=limit)
    return await written(page.items, _view, limit, page.next)


@operations.get("/config/history/{revision}", response_model=RevisionText)
async def get_config_revision(here: Here, revision: Number) -> Any:
    """One of them, with what was set here from then on."""
    found = await here.control.config_history.get(revision)
    return RevisionText(**_view(found).model_dump(), text=found.text)


@operations.post("/config/rollback/{revision}", problems=(409, 412, 428), response_model=Changed)
async def roll_back_config(
    here: Here, by: By, response: Response, revision: Number, if_match: IfMatch = None, dry_run: DryRun = False
) -> Any:
    """Set here what was set from that change on. It is a change of its own."""
    await _match(here, if_match)
    found = await here.control.config_history.get(revision)
    change = _planned(lambda: here.settings.plan_text(found.text), "/")
    return await _change(here, by, response, change, f"rollback to {revision}", dry_run)


async def _match(here: Context, if_match: str | None) -> None:
    version = expected(if_match)
    if version is not None and version != await revision(here):
        raise Problem("precondition-failed", f"the settings are at revision {await revision(here)}")


async def _change(here: Context, by: Actor, response: Response, change: Change, comment: str, dry_run: bool) -> Changed:
    if dry_run:
        number = await revision(here)
    else:
        number = await apply(here, by, change, comment)
    response.headers["etag"] = etag(number)
    return Changed(revision=number, changed=list(change.changed), restart_needed=list(change.restart_needed))


async def apply(here: Context, by: Actor, change: Change, comment: str) -> int:
    """Make a change: first on the record, then in the file, then in the node. Returns its number."""
    recorded = await here.control.config_history.append(change.text, by=by, comment=comment)
    here.settings.commit(change)
    here.node.apply_settings()
    here.events.add("config.changed", by.id, changed=list(change.changed), revision=recorded.id)
    return recorded.id


def flat_change(here: Context, changes: Mapping[str, object]) -> Change:
    """What changes by dotted name would do. Raises Problem (409, 422)."""
    return _planned(lambda: here.settings.plan(changes), "/")


def _planned(plan: Callable[[], Change], pointer: str) -> Change:
    try:
        return plan()
    except Locked as error:
        at = {"pointer": f"/{error.name}", "detail": str(error), "source": error.source}
        raise Problem("config-locked", f"{error}", errors=[at]) from error
    except NotReloadable as error:
        raise Problem(
            "restart-needed", str(error), errors=[{"pointer": f"/{error.name}", "detail": str(error)}]
        ) from error
    except ConfigError as error:
        lines = str(error).splitlines()
        raise Problem("invalid", lines[0], errors=[_at(line, pointer) for line in lines]) from error


def _at(line: str, pointer: str) -> dict[str, str]:
    name, separator, detail = line.partition(": ")
    if separator and " " not in name:
        return {"pointer": f"/{name}", "detail": detail}
    return {"pointer": pointer, "detail": line}


def _view(revision: Revision) -> RevisionView:
    return RevisionView(
        revision=revision.id, at=moment(revision.at), by=revision.by, comment=revision.comment, digest=revision.digest
    )
