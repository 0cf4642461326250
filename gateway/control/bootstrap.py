"""A file that says which users, devices, API keys and issuers a node has, for nodes that nobody sets up by hand.

TOML, with a table for each: `[[users]]`, `[[devices]]`, `[[keys]]`, `[[issuers]]`, with the fields of the admin API.
What is not there is made, what differs is changed, what is not in the file is left alone; so it can be applied again.
The whole file is checked before anything is written, and every mistake is named with its line.

Passwords and keys that are made on the way are in the outcome, this once.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.issuers import NewIssuer
from gateway.control.paging import Page
from gateway.control.plane import ControlPlane
from gateway.errors import ConfigError, ControlError, InvalidChange, NotFound

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry. `result`: created, updated or unchanged; `secret`: a password or key made for it."""

    kind: str
    name: str
    result: str
    secret: str = ""


@dataclass(frozen=True, slots=True)
class _Kind:
    """`key` is the field that names an entry; `apply` brings one entry about."""

    key: str
    fields: tuple[str, ...]
    apply: Callable[[_Change], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class _Entry:
    section: str
    index: int
    values: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.values[_KINDS[self.section].key])


@dataclass(frozen=True, slots=True)
class _Change:
    """One entry on its way into a control plane."""

    control: ControlPlane
    entry: _Entry
    by: Actor
    dry_run: bool

    @property
    def values(self) -> dict[str, Any]:
        return self.entry.values

    def outcome(self, result: str, secret: str | None = None) -> Outcome:
        return Outcome(self.entry.section, self.entry.name, result, "" if self.dry_run else secret or "")

    async def settled(self, record: object, update: Callable[..., Awaitable[Any]], key: str) -> Outcome:
        """Change what differs in a record that is there."""
        names = {field.name for field in dataclasses.fields(record)}  # type: ignore[arg-type]
        changes = {
            name: value
            for name, value in self.values.items()
            if name in names and name != _KINDS[self.entry.section].key and _differ(getattr(record, name), value)
        }
        if not changes:
            return self.outcome("unchanged")
        await update(key, changes, by=self.by, dry_run=self.dry_run)
        return self.outcome("updated")


class Bootstrap:
    """One file that was read and whose names are right."""

    def __init__(self, path: Path, text: str, entries: tuple[_Entry, ...]) -> None:
        self._path = path
        self._text = text
        self.entries = entries

    @classmethod
    def read(cls, path: Path) -> Bootstrap:
        """Raises ConfigError, with a line for each mistake: `file:line: what is wrong`."""
        try:
            text = path.read_text()
            document = tomllib.loads(text)
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from error
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))
            raise ConfigError(f"{path}:{line[1] if line else 1}: {error}") from error
        mistakes = [f"{path}:{line}: {what}" for line, what in sorted(_mistakes(document, text))]
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        entries = (
            _Entry(section, index, _prepared(entry, path.parent))
            for section in _KINDS
            for index, entry in enumerate(document.get(section, ()))
        )
        # An administrator first: others can only be disabled while there is one.
        return cls(path, text, tuple(sorted(entries, key=lambda entry: not _manages_users(entry))))

    async def apply(self, control: ControlPlane, by: Actor, *, dry_run: bool = False) -> list[Outcome]:
        """Bring it about. Raises ConfigError, with a line for each value that cannot be, before anything is written."""
        would_be = await self._go(control, by, dry_run=True)
        await self._somebody_can_log_in(control)
        return would_be if dry_run else await self._go(control, by, dry_run=False)

    async def _somebody_can_log_in(self, control: ControlPlane) -> None:
        """The users of a new node are those of the file: with any, the node makes no administrator of its own."""
        users = [entry for entry in self.entries if entry.section == "users"]
        if users and not (await control.users.list(limit=1)).items and not any(map(_manages_users, users)):
            line = _line_of(self._text, "users", users[0].index)
            raise ConfigError(
                f'{self._path}:{line}: users: one of them needs role = "admin" and the scope "users", since with this '
                "file nobody else could manage users"
            )

    async def _go(self, control: ControlPlane, by: Actor, *, dry_run: bool) -> list[Outcome]:
        outcomes: list[Outcome] = []
        wrong: list[str] = []
        for entry in self.entries:
            try:
                outcomes.append(await _KINDS[entry.section].apply(_Change(control, entry, by, dry_run)))
            except ControlError as error:
                field = error.pointer.strip("/").partition("/")[0] if isinstance(error, InvalidChange) else ""
                line = _line_of(self._text, entry.section, entry.index, field)
                where = f"{entry.section}.{entry.name}" + (f".{field}" if field else "")
                wrong.append(f"{self._path}:{line}: {where}: {error.text}")
        if wrong:
            raise ConfigError("\n".join(wrong))
        return outcomes


def _manages_users(entry: _Entry) -> bool:
    values = entry.values
    is_admin = values.get("role") == "admin" and "users" in values.get("scopes", ())
    return entry.section == "users" and is_admin and values.get("enabled", True) is True


async def _user(change: _Change) -> Outcome:
    users, values = change.control.users, change.values
    try:
        return await change.settled(await users.get(values["name"]), users.update, values["name"])
    except NotFound:
        _, password = await users.create(
            values["name"],
            values.get("password"),
            role=values.get("role", ""),
            scopes=values.get("scopes", ()),
            by=change.by,
            dry_run=change.dry_run,
        )
        await _as_enabled(change, users.update, values["name"])
        return change.outcome("created", password)


async def _device(change: _Change) -> Outcome:
    devices, values = change.control.devices, change.values
    try:
        return await change.settled(await devices.get(values["id"]), devices.update, values["id"])
    except NotFound:
        await devices.create(NewDevice(**values), by=change.by, dry_run=change.dry_run)
        return change.outcome("created")


async def _key(change: _Change) -> Outcome:
    keys, values = change.control.api_keys, change.values
    async for standing in _all(keys.list):
        if standing.name == values["name"]:
            return await change.settled(standing, keys.update, standing.id)
    made, text = await keys.create(
        values["name"],
        role=values.get("role", ""),
        scopes=values.get("scopes", ()),
        expires_at=values.get("expires_at"),
        by=change.by,
        dry_run=change.dry_run,
    )
    await _as_enabled(change, keys.update, made.id)
    return change.outcome("created", text)


async def _as_enabled(change: _Change, update: Callable[..., Awaitable[Any]], key: str) -> None:
    """What is made is enabled; disable it where the file says so."""
    if change.values.get("enabled") is False and not change.dry_run:
        await update(key, {"enabled": False}, by=change.by)


async def _issuer(change: _Change) -> Outcome:
    issuers, values = change.control.issuers, change.values
    async for standing in _all(issuers.list):
        if standing.issuer == values["issuer"]:
            return await change.settled(standing, issuers.update, standing.id)
    await issuers.create(NewIssuer(**values), by=change.by, dry_run=change.dry_run)
    return change.outcome("created")


_KINDS: dict[str, _Kind] = {
    "users": _Kind("name", ("name", "role", "scopes", "enabled", "password", "password_file"), _user),
    "devices": _Kind("id", tuple(field.name for field in dataclasses.fields(NewDevice)), _device),
    "keys": _Kind("name", ("name", "role", "scopes", "expires_at", "enabled"), _key),
    "issuers": _Kind("issuer", tuple(field.name for field in dataclasses.fields(NewIssuer)), _issuer),
}


async def _all(listed: Callable[..., Awaitable[Page[Any]]]) -> AsyncIterator[Any]:
    cursor = None
    while True:
        page = await listed(cursor=cursor, limit=_PAGE)
        for record in page.items:
            yield record
        cursor = page.next
        if cursor is None:
            return


def _differ(stands: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return set(stands) != set(wanted)
    return bool(stands != wanted)


def _mistakes(document: Mapping[str, Any], text: str) -> Iterator[tuple[int, str]]:
    """Names that are none, shapes that are wrong, and entries that are there twice: (line, what)."""
    for section, entries in document.items():
        if section not in _KINDS:
            yield _line_of(text, section), f"{section} is not a section{_meant(section, _KINDS)}"
            continue
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            yield _line_of(text, section), f"{section} is a list of tables: [[{section}]]"
            continue
        kind = _KINDS[section]
        seen: set[object] = set()
        for index, entry in enumerate(entries):
            for name in entry.keys() - kind.fields:
                line = _line_of(text, section, index, name)
                yield line, f"{section}: {name} is not a field{_meant(name, kind.fields)}"
            own = entry.get(kind.key)
            if not isinstance(own, str) or not own:
                yield _line_of(text, section, index), f"{section}: {kind.key} is missing"
            elif own in seen:
                yield _line_of(text, section, index, kind.key), f"{section}: {own} is there twice"
            seen.add(own)
            if "password" in entry and "password_file" in entry:
                yield _line_of(text, section, index, "password"), "password or password_file, not both"


def _meant(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    near = get_close_matches(name, tuple(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _prepared(entry: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The values as the control plane takes them: a moment in seconds, a password that was in a file."""
    entry = {name: value.timestamp() if isinstance(value, datetime) else value for name, value in entry.items()}
    named = entry.get("password_file")
    if named is None:
        return entry
    path = directory / str(named)
    try:
        password = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return {name: value for name, value in entry.items() if name != "password_file"} | {"password": password}


def _line_of(text: str, section: str, index: int = 0, field: str = "") -> int:
    """The line where an entry begins, or where one of its fields is set."""
    name = re.escape(section)
    head = re.compile(rf"\s*\[{{1,2}}\s*{name}\s*[\].]")
    # As `field = …`, as `field.part = …`, or as a table of its own.
    own = re.escape(field)
    sets = re.compile(rf"\s*[\"']?{own}[\"']?\s*[=.]|\s*\[\s*{name}\.{own}\s*\]") if field else None
    count, begins = -1, 0
    lines = list(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if re.match(r"\s*\[\[", line):
            if begins:
                break
            count += 1 if head.match(line) else 0
            begins = number if head.match(line) and count == index else 0
        elif begins and sets is not None and sets.match(line):
            return number
    if begins:
        return begins
    bare = re.compile(rf"\s*{name}\s*=|\s*\[\s*{name}\s*\]")
    return next((number for number, line in lines if bare.match(line)), 1)


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> ConfigError:
    why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
    return ConfigError(f"{path} cannot be read: {why}")
