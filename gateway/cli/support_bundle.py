"""`gateway support-bundle`: what those who help need to know of a node, in one file, without secrets.

From the admin API where the node runs, from the data directory where that is on this machine; what cannot be had is in
the manifest, with why. Changes nothing. What the parts are and how they are packed: `gateway.observe.support_bundle`.
"""

from __future__ import annotations

import os
import platform
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway import __version__
from gateway.cli import target
from gateway.cli.call import Query, register
from gateway.cli.lifecycle import ConfigFile, settled_settings
from gateway.control.runtime import Runtime
from gateway.errors import ConfigError, GatewayError
from gateway.observe.redaction import HIDDEN, Redaction
from gateway.observe.support_bundle import ASKED, MAX_PART_BYTES, NAMES, SupportBundle

if TYPE_CHECKING:
    from gateway.config import LiveSettings

#: For all questions to the node together, and how long to wait when it says that there were too many, in seconds.
PATIENCE_S, PAUSE_S = 45.0, 1.0
TOO_MANY = 429
#: Names that are to be hidden, as the API's are.
PEOPLE = ("SELECT id FROM devices LIMIT 100000", "SELECT name FROM users")
#: Tables of gateway.db that hold no secret, and what of them is wanted; without these, of every table how many rows.
WANTED = {
    "documents": "SELECT kind, name, body, updated_at, updated_by, version FROM documents LIMIT 500",
    "bundles-held": "SELECT id, attempt, state, reason, trial, deaths, at FROM held_bundles ORDER BY id DESC LIMIT 50",
    "audit": "SELECT id, at, actor_type, actor_id, ip, action, object, outcome, reason FROM audit "
    "ORDER BY id DESC LIMIT 200",
}
_KEY_MARK = re.compile(r"-----(BEGIN|END) [A-Z ]*PRIVATE KEY-----")


def attach(app: typer.Typer) -> None:
    register(app, support_bundle)


def support_bundle(
    call: Query,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to. [gateway-support-TIME.tar.gz, here]", show_default=False, dir_okay=False),
    ] = None,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact/--no-redact",
            help="Replace names of devices and people, and addresses, by pseudonyms. Secrets are never in it.",
        ),
    ] = True,
    config: ConfigFile = None,
    dev: Annotated[bool, typer.Option("--dev", help="As the node is run: gateway run --dev.")] = False,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="A file with the node's log; its end is taken.", show_default=False, dir_okay=False),
    ] = None,
) -> None:
    """Put what those who help need to know of a node into one file, without secrets.

    Works when the node is down, with what the data directory says. Look through the file before you send it: it is a
    tar.gz of texts, and MANIFEST.json says what is in it and what was hidden.
    """
    now = time.time()
    data = _directory(call)
    settings, why = _settings(data, config, dev) if data is not None else (None, "")
    redaction = Redaction(personal=redact, known=[] if settings is None else _secrets(settings))
    bundle = SupportBundle(redaction, {"version": __version__, "made_by": "gateway support-bundle"}, now)
    _ask(call, redaction, bundle)
    if data is None:
        bundle.missing("doctor", "the node is on another machine: run this there")
    else:
        _look(data, settings, why, bundle)
        _examine(data, config, dev, bundle)
        runtime = Runtime.read(data)
        if runtime is None or not runtime.alive:
            _part(bundle, "database", lambda: _database(data, redaction, bundle))
    bundle.add("versions", _versions(), plain=True)
    if log is not None:
        _part(bundle, "log", lambda: bundle.add_text("log", _end_of(log)))
    path = out or Path(f"gateway-support-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    size = _write(path, bundle.archive())
    call.show(
        {"file": str(path), "bytes": size, "hidden": sum(redaction.counted.values()), "missing": len(bundle.lacks)}
    )


def _directory(call: Query) -> Path | None:
    """The data directory that is meant, where it is on this machine."""
    try:
        return call.context.data
    except typer.BadParameter:
        # A directory in which nothing has ever started, or that another user has: settings and versions are left.
        if call.named_data is None:
            raise
        return call.named_data


def _settings(data: Path, config: Path | None, dev: bool) -> tuple[LiveSettings | None, str]:
    """The settings; where there are none, why."""
    try:
        return settled_settings(data, config, dev=dev), ""
    except ConfigError as problem:
        return None, problem.text


def _secrets(settings: LiveSettings) -> list[str]:
    return [str(each.value) for each in settings.effective() if each.setting.secret and each.value]


def _ask(call: Query, redaction: Redaction, bundle: SupportBundle) -> None:
    """The parts that the node itself has to say."""
    until = time.monotonic() + PATIENCE_S
    down = ""
    for name, ask in NAMES:
        try:
            for entry in _answer(call, ask.path, dict(ask.parameters), until)["data"]:
                redaction.learn_name(str(entry[name]))
        except GatewayError as problem:
            down = _if_down(problem)
            if down:
                break
    for ask in ASKED:
        if down:
            bundle.missing(ask.name, down)
            continue
        try:
            bundle.add(ask.name, ask.wanted(_answer(call, ask.path, dict(ask.parameters), until)))
        except GatewayError as problem:
            down = _if_down(problem)
            bundle.missing(ask.name, problem.text)


def _answer(call: Query, path: str, parameters: dict[str, Any], until: float) -> Any:
    from gateway.cli.api import Problem

    while True:
        if time.monotonic() > until:
            raise GatewayError(f"the node took longer than {PATIENCE_S:.0f} s")
        try:
            return call.api.get(path, **parameters)
        except typer.BadParameter as problem:
            raise GatewayError(problem.message, reason="unreachable") from problem
        except Problem as problem:
            if problem.status != TOO_MANY:
                raise
            time.sleep(PAUSE_S)


def _if_down(problem: GatewayError) -> str:
    return problem.text if problem.reason == "unreachable" else ""


def _look(data: Path, settings: LiveSettings | None, why: str, bundle: SupportBundle) -> None:
    """The parts that are on this machine's disk, and its telemetry port."""
    if settings is None:
        bundle.missing("settings", why)
    else:
        bundle.add("settings", _sources(settings))
    _part(bundle, "files", lambda: bundle.add("files", list(_files(data))))
    _part(bundle, "metrics", lambda: bundle.add_text("metrics", _metrics(data)))


def _examine(data: Path, config: Path | None, dev: bool, bundle: SupportBundle) -> None:
    from gateway.cli import doctor

    def examined() -> None:
        bundle.add("doctor", doctor.document_of(list(doctor.findings_of(data, config, dev))))

    _part(bundle, "doctor", examined)


def _sources(settings: LiveSettings) -> list[dict[str, Any]]:
    return [
        {
            "name": each.setting.dotted,
            "value": HIDDEN if each.setting.secret and each.value else each.value,
            "source": each.source,
        }
        for each in settings.effective()
    ]


def _files(data: Path) -> Iterator[dict[str, Any]]:
    """What is in the directory, by name, size, mode and age; what is in the files is not looked at."""
    for path in sorted(data.glob("*")) + sorted(data.glob("*/*")):
        found = path.lstat()
        yield {
            "path": str(path.relative_to(data)),
            "bytes": found.st_size,
            "mode": stat.filemode(found.st_mode),
            "uid": found.st_uid,
            "changed_at": round(found.st_mtime, 3),
        }


def _metrics(data: Path) -> str:
    import httpx

    runtime = Runtime.read(data)
    if runtime is None or not runtime.telemetry:
        raise GatewayError("no node runs here, or its telemetry port is not open")
    return httpx.get(f"{target.from_here(runtime.telemetry)}/metrics", timeout=10, trust_env=False).text


def _database(data: Path, redaction: Redaction, bundle: SupportBundle) -> None:
    """What a stopped node has on disk. Raises StorageError where a node has it after all."""
    from gateway.control.archive import DATABASE
    from gateway.control.plane import schema
    from gateway.storage.file import FileLock, damage_of, plain
    from gateway.storage.schema import version_of

    path = data / DATABASE
    if not path.exists():
        raise GatewayError(f"there is no {path}")
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        damage = damage_of(path, schema())
        about: dict[str, Any] = {"damage": damage, "bytes": path.stat().st_size, "program_version": schema().version}
        bundle.add("database", about)
        if damage:
            return
        with plain(path, read_only=True) as connection:
            about["version"] = version_of(connection)
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            about["rows"] = {
                name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in sorted(tables)
            }
            for wanted in PEOPLE:
                for row in connection.execute(wanted):
                    redaction.learn_name(row[0])
            for name, wanted in WANTED.items():
                rows = [dict(row) for row in connection.execute(wanted)]
                bundle.add(name, {"from": "disk", "data": rows})
    finally:
        lock.release()


def _versions() -> dict[str, Any]:
    packages = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    return {
        "gateway": __version__,
        "python": sys.version,
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "packages": dict(sorted(packages.items())),
    }


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        begin = max(0, path.stat().st_size - MAX_PART_BYTES)
        file.seek(begin)
        text = file.read(MAX_PART_BYTES).decode(errors="replace")
    # Half of a secret would not be known for one: neither half of a line nor the end of a key.
    mark = _KEY_MARK.search(text)
    if mark is not None and mark[1] == "END":
        return text[mark.end() :]
    return text.partition("\n")[2] if begin else text


def _part(bundle: SupportBundle, name: str, add: Callable[[], None]) -> None:
    with _said(bundle, name):
        add()


@contextmanager
def _said(bundle: SupportBundle, name: str) -> Iterator[None]:
    """What goes wrong with one part is no reason to have none."""
    try:
        yield
    except Exception as problem:
        bundle.missing(name, str(problem) or type(problem).__name__)


def _write(path: Path, data: bytes) -> int:
    """For the owner alone, and whole or not at all. Raises GatewayError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        part.rename(path)
    except OSError as problem:
        raise GatewayError(f"{path}: {problem.strerror}") from problem
    return len(data)
