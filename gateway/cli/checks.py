"""The checks of `gateway doctor` that need no network: settings, data directory, clock, certificate, process.

Each returns what it found and changes nothing: nothing is created, renewed or made private here.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.diagnosis import Finding, error, ok, skipped, warning
from gateway.config import Config, advertised_host
from gateway.control.runtime import Runtime

if TYPE_CHECKING:
    from cryptography import x509

PRIVATE = (
    "identity/signing-key.pem",
    "identity/ca-key.pem",
    "identity/listener.pem",
    "gateway.db",
    "spool.sqlite3",
    "first-run.txt",
)
FEW_BYTES, TOO_FEW_BYTES = 256 << 20, 16 << 20
SKEW_S, LARGE_SKEW_S = 5.0, 30.0
SOON_DAYS = 21
BACKUP_DAYS = 7
#: Descriptors that a node needs for itself.
OWN_FILES = 128
DAY_S = 86_400
SPOOL = "spool.sqlite3"


@dataclass(frozen=True)
class Scene:
    """What is looked at. `against` is an HTTP URL whose clock is taken for right."""

    config: Config
    data: Path
    against: str = ""
    now: float = field(default_factory=time.time)

    @property
    def runtime(self) -> Runtime | None:
        """The node that has the data directory, where one runs."""
        runtime = Runtime.read(self.data)
        return runtime if runtime is not None and runtime.alive else None

    @property
    def certificate_path(self) -> Path:
        return self.config.tls.certificate or self.data / "identity" / "listener.pem"


def safe(scene: Scene) -> Iterator[Finding]:
    config = scene.config
    if config.auth.mode == "off":
        yield error("config-safe", "auth.mode is off: everybody may do everything", 'set auth.mode = "token"')
    elif not config.tls.enabled and config.tls.insecure:
        yield warning("config-safe", "tls.insecure: tokens cross the network in the clear", "set tls.enabled = true")
    else:
        yield ok("config-safe", "tokens are asked for, and do not cross a network in the clear")


def directory(scene: Scene) -> Iterator[Finding]:
    data = scene.data
    standing = next(path for path in (data, *data.absolute().parents) if path.exists())
    owner = f"uid {os.geteuid()}"
    fix = f"chown {os.geteuid()} {standing} && chmod 700 {standing}, or name another directory with node.data"
    try:
        with tempfile.TemporaryFile(dir=standing):
            pass
    except OSError as problem:
        yield error("data-directory", f"{standing} cannot be written by {owner}: {problem.strerror}", fix)
        return
    mode = standing.stat().st_mode
    if standing == data and mode & 0o002:
        yield error("data-directory", f"{data} can be written by every user", f"chmod 700 {data}")
    elif standing == data:
        yield ok("data-directory", f"{data} can be written by {owner}")
    else:
        yield ok("data-directory", f"{data} does not exist yet and can be made in {standing}")
    free = shutil.disk_usage(standing).free
    inodes = os.statvfs(standing)
    room = f"{free >> 20} MiB free on {standing}"
    fix = f"free some, or move the data directory: du -sh {standing}"
    if free < TOO_FEW_BYTES or (inodes.f_files and not inodes.f_favail):
        yield error("disk-space", room if inodes.f_favail else f"no inode is free on {standing}", fix)
    elif free < FEW_BYTES:
        yield warning("disk-space", room, fix)
    else:
        yield ok("disk-space", room)


def spool(scene: Scene) -> Iterator[Finding]:
    """Room for what may wait; a node that lets nothing wait needs none."""
    path = scene.data / SPOOL
    if not path.exists():
        yield skipped("spool-space", "nothing waits on this node")
        return
    size, most = path.stat().st_size, scene.config.spool.max_bytes
    volume = shutil.disk_usage(scene.data)
    room = f"{size >> 20} of {most >> 20} MiB are in use, and {volume.free >> 20} MiB free on the volume"
    if volume.free < TOO_FEW_BYTES:
        yield error("spool-space", room, "free some, or gateway spool drop what nobody wants any more")
    elif volume.free < most - size:
        yield warning("spool-space", room, f"a smaller spool.max_bytes, or free some: du -sh {scene.data}")
    else:
        yield ok("spool-space", room)


def secrets(scene: Scene) -> Iterator[Finding]:
    named = dict(_named_secrets(scene.config))
    for setting, path in named.items():
        problem = _unreadable(path)
        if problem:
            yield error(
                "secrets-readable", f"{setting}: {path} {problem}", f"put it there, for uid {os.geteuid()} alone"
            )
            break
    else:
        yield ok("secrets-readable", "the files of secrets that the settings name are there")
    found = [*(scene.data / name for name in PRIVATE), *named.values()]
    open_to_others = []
    for path in found:
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                open_to_others.append(str(path))
        except OSError:
            continue
    if open_to_others:
        names = " ".join(open_to_others)
        yield error("secrets-private", f"others can read {names}", f"chmod 600 {names}")
    else:
        yield ok("secrets-private", "others can read none of the keys")


def _named_secrets(config: Config) -> Iterator[tuple[str, Path]]:
    """Setting and file of each secret that is a file of its own."""
    for setting, path in (
        ("tls.key", config.tls.key),
        ("tls.psk_file", config.tls.psk_file),
        ("federation.nats_nkey_file", config.federation.nats_nkey_file),
        ("federation.nats_tls_key", config.federation.nats_tls_key),
    ):
        if path is not None:
            yield setting, path


def _unreadable(path: Path) -> str:
    """What is wrong with a file that must hold something, or nothing."""
    try:
        with path.open("rb") as file:
            return "" if file.read(4096).strip() else "is empty"
    except FileNotFoundError:
        return "does not exist"
    except OSError as problem:
        return f"cannot be read by uid {os.geteuid()}: {problem.strerror}"


def backups(scene: Scene) -> Iterator[Finding]:
    if not (scene.data / "gateway.db").exists():
        yield skipped("backup-age", "there is nothing to back up yet")
        return
    made = [path.stat().st_mtime for path in (scene.data / "backups").glob("*") if path.is_file()]
    fix = "gateway backup create, and keep a copy elsewhere"
    if not made:
        yield warning("backup-age", f"there is no backup in {scene.data / 'backups'}", fix)
    elif scene.now - max(made) > BACKUP_DAYS * DAY_S:
        days = int((scene.now - max(made)) / DAY_S)
        yield warning("backup-age", f"the last backup is {days} days old", fix)
    else:
        yield ok("backup-age", f"the last backup is of {_day(max(made))}")


def clock(scene: Scene) -> Iterator[Finding]:
    fix = "set the clock: timedatectl set-ntp true, or: date -u -s 'YYYY-MM-DD hh:mm:ss'"
    for moment, witness in _witnesses(scene):
        if scene.now < moment - SKEW_S:
            behind = _span(moment - scene.now)
            yield error("clock", f"the clock says {_day(scene.now)}, {behind} before {witness}", fix)
            return
    if not scene.against:
        yield ok("clock", "the clock is after all that is known to have been; --against URL compares it with another")
        return
    theirs = _their_time(scene.against)
    if isinstance(theirs, str):
        yield warning("clock", f"{scene.against} does not say what time it is: {theirs}", "name another URL")
        return
    skew = scene.now - theirs
    text = f"the clock is {_span(abs(skew))} {'ahead of' if skew > 0 else 'behind'} that of {scene.against}"
    if abs(skew) > LARGE_SKEW_S:
        yield error("clock", text, fix)
    elif abs(skew) > SKEW_S:
        yield warning("clock", text, fix)
    else:
        yield ok("clock", f"the clock agrees with that of {scene.against}")


def certificate(scene: Scene) -> Iterator[Finding]:
    if not scene.config.tls.enabled:
        yield skipped("certificate-valid", "tls.enabled is false")
        return
    path, own = scene.certificate_path, scene.config.tls.certificate is None
    try:
        shown = _certificate(path)
    except FileNotFoundError:
        if own:
            yield skipped("certificate-valid", "the node issues its certificate when it first starts")
        else:
            yield error("certificate-valid", f"{path} does not exist", "correct tls.certificate")
        return
    except (OSError, ValueError) as problem:
        yield error("certificate-valid", f"{path} cannot be read: {problem}", "restore it from a backup")
        return
    fix = "gateway cert renew, or restart the node" if own else f"renew the certificate and put it into {path}"
    begins, ends = shown.not_valid_before_utc.timestamp(), shown.not_valid_after_utc.timestamp()
    if ends < scene.now:
        yield error("certificate-valid", f"{path} expired on {_day(ends)}", fix)
    elif begins > scene.now:
        yield error("certificate-valid", f"{path} is not valid before {_day(begins)}", "see whether the clock is right")
    elif ends - scene.now < SOON_DAYS * DAY_S:
        yield warning("certificate-valid", f"{path} expires on {_day(ends)}", fix)
    else:
        yield ok("certificate-valid", f"{path} is valid until {_day(ends)}")
    yield from _names(scene, shown, own)


def _names(scene: Scene, shown: x509.Certificate, own: bool) -> Iterator[Finding]:
    host = advertised_host(scene.config)
    if host is None:
        yield skipped("certificate-names", "node.advertised_url is not set")
        return
    names = _alternative_names(shown)
    wildcard = "*." + host.partition(".")[2]
    if host.lower() in names or wildcard.lower() in names:
        yield ok("certificate-names", f"the certificate names {host}")
        return
    fix = "restart the node, which issues it anew" if own else f"get a certificate for {host}"
    listed = ", ".join(sorted(names)) or "nothing"
    yield error("certificate-names", f"devices are told {host}, but the certificate is for {listed}", fix)


def process(scene: Scene) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = scene.config.limits.max_connections + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        fix = f"ulimit -n {wanted} in the shell, or LimitNOFILE={wanted} in the service, that starts the node"
        text = f"{soft} file descriptors (at most {hard}) for limits.max_connections = {wanted - OWN_FILES}"
        yield (error if soft < OWN_FILES * 2 else warning)("file-limit", text, fix)
    else:
        yield ok("file-limit", f"{soft} file descriptors")
    if os.geteuid() == 0:
        fix = "run it as a user of its own: useradd --system gateway; chown -R gateway " + str(scene.data)
        yield warning("root", "this is root; a node needs no such right", fix)
    else:
        yield ok("root", "this is not root")
    yield from _speed()


def _speed() -> Iterator[Finding]:
    from gateway import forwarding

    missing = [] if find_spec("uvloop") else ["uvloop (pip install uvloop)"]
    if not getattr(forwarding, "COMPILED", False):
        missing.append("the compiled hot path (install a wheel, or with a C compiler)")
    if missing:
        yield warning("speed", "the node runs without its fast parts", "install " + " and ".join(missing))
    else:
        yield ok("speed", "uvloop and the compiled hot path are there")


def _witnesses(scene: Scene) -> Iterator[tuple[float, str]]:
    """Moments that have been, and what says so."""
    runtime = Runtime.read(scene.data)
    if runtime is not None:
        yield runtime.started_at, "the node's last start"
    for name in ("gateway.db", "gateway.db-wal", "identity/listener.pem"):
        try:
            yield (scene.data / name).stat().st_mtime, f"{name} was last written"
        except OSError:
            continue
    try:
        yield _certificate(scene.certificate_path).not_valid_before_utc.timestamp(), "the certificate was issued"
    except (OSError, ValueError):
        return


def _their_time(url: str) -> float | str:
    """The time in an HTTP answer's `Date`, halfway through the exchange; or why it is not known."""
    import http.client
    import ssl
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "it is no http:// or https:// URL"
    if parts.scheme == "https":
        # Only a time is asked for, and a clock that is off makes every certificate look invalid.
        link: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=5, context=ssl._create_unverified_context()
        )
    else:
        link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        begun = time.monotonic()
        link.request("HEAD", parts.path or "/")
        date = link.getresponse().headers.get("Date")
        return "its answer has no Date" if date is None else _seconds(date) + (time.monotonic() - begun) / 2
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return str(problem)
    finally:
        link.close()


def _seconds(date: str) -> float:
    # The header counts whole seconds: half of one is the best guess at the rest.
    return parsedate_to_datetime(date).timestamp() + 0.5


def _certificate(path: Path) -> x509.Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes())


def _alternative_names(shown: x509.Certificate) -> set[str]:
    from cryptography import x509

    try:
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(item) for item in names.get_values_for_type(x509.IPAddress)}
    return {item.lower() for item in names.get_values_for_type(x509.DNSName)} | addresses


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(seconds: float) -> str:
    from gateway.cli.table import lasting

    return lasting(seconds)
