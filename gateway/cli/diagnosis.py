"""What `gateway doctor` looks at: the checks by name, each with what it is about, and what one has found.

A slug is stable: `gateway explain SLUG` and programs that read `doctor --json` hang on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


SIGNS = {Level.OK: "√", Level.WARNING: "‼", Level.ERROR: "×", Level.SKIPPED: "-"}


@dataclass(frozen=True, slots=True)
class Check:
    """`explanation` says why it matters; how to mend what was found is in the finding."""

    slug: str
    group: str
    title: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw; `fix` is what to do about it: something to type, wherever there is such a thing."""

    slug: str
    level: Level
    text: str
    fix: str = ""

    @property
    def check(self) -> Check:
        return CHECKS[self.slug]


def ok(slug: str, text: str) -> Finding:
    return Finding(slug, Level.OK, text)


def warning(slug: str, text: str, fix: str) -> Finding:
    return Finding(slug, Level.WARNING, text, fix)


def error(slug: str, text: str, fix: str) -> Finding:
    return Finding(slug, Level.ERROR, text, fix)


def skipped(slug: str, text: str) -> Finding:
    return Finding(slug, Level.SKIPPED, text)


def worst(findings: Iterable[Finding]) -> Level:
    """The gravest level that was found."""
    order = (Level.SKIPPED, Level.OK, Level.WARNING, Level.ERROR)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def _table(*checks: Check) -> Mapping[str, Check]:
    return MappingProxyType({check.slug: check for check in checks})


CHECKS = _table(
    Check(
        "config-valid",
        "settings",
        "The settings can be read",
        "A node refuses to start with a setting that it does not know or a value that cannot be, and keeps its old "
        "settings when such a file is reloaded. `gateway run --check` says the same.",
    ),
    Check(
        "config-safe",
        "settings",
        "Nothing is open to everybody",
        '`auth.mode = "off"` lets everybody who reaches the node do everything, and `tls.insecure` or `admin.insecure` '
        "send tokens and passwords over the network where others can read them.",
    ),
    Check(
        "data-directory",
        "data directory",
        "The data directory can be written",
        "The node keeps its identity, devices, users and audit in it, and refuses a change that it cannot keep. It "
        "must belong to the user that runs the node; a container's volume, to the user inside the container.",
    ),
    Check(
        "disk-space",
        "data directory",
        "There is room on the disk",
        "Without room for its database a node answers reads, goes on forwarding, and refuses changes.",
    ),
    Check(
        "spool-space",
        "data directory",
        "What may wait has room",
        "Messages that wait for a service lie in spool.sqlite3, which may grow to `spool.max_bytes`. On a volume with "
        "less room they are refused, or others dropped, before that; the documents say which.",
    ),
    Check(
        "secrets-private",
        "data directory",
        "Keys are for their owner alone",
        "Whoever can read the signing key can make tokens for everybody and everything. A backup that was restored "
        "with wider modes, or a volume shared with others, gives it away.",
    ),
    Check(
        "secrets-readable",
        "data directory",
        "The files of secrets are there",
        "Secrets are given as files that settings name. Compose mounts one as it is on the host: the user inside of "
        "the container must be able to read it.",
    ),
    Check(
        "backup-age",
        "data directory",
        "There is a backup of late",
        "The data directory is all that a node is. `gateway backup create` copies it while the node runs; a copy "
        "elsewhere is what helps when the disk is gone.",
    ),
    Check(
        "clock",
        "clock",
        "The clock is right",
        "Tokens and certificates hold from one time to another. With a clock that is off, valid tokens are refused as "
        "expired or as issued in the future. A machine without a battery for its clock starts in the past until it has "
        "reached a time server.",
    ),
    Check(
        "certificate-valid",
        "certificate",
        "The certificate is valid for some time",
        "A device refuses a certificate that has expired. The node renews the one of its own authority 30 days before; "
        "one from elsewhere is yours to renew, and is taken up without a restart when its file changes.",
    ),
    Check(
        "certificate-names",
        "certificate",
        "The certificate names the advertised host",
        "A device checks that the certificate is for the host it was told to connect to, and goes away otherwise.",
    ),
    Check(
        "ports",
        "network",
        "The ports are the node's",
        "A node that does not get a port that its settings name does not start.",
    ),
    Check(
        "reachable",
        "network",
        "Others can reach the listeners",
        "What listens on a loopback address is reached from this machine alone; in a container, from that container "
        "alone. That is right for development and wrong for devices.",
    ),
    Check(
        "advertised-url",
        "network",
        "The advertised URL leads to a gateway",
        "`node.advertised_url` is what devices are told with their credential. It is dialed from here: name "
        "resolution, port, TLS with the authority that devices trust, and an answer. What a firewall does to others is "
        "not seen.",
    ),
    Check(
        "node-ready",
        "network",
        "The node is ready",
        "The node's own word (`/readyz` on the telemetry port) on whether it takes connections.",
    ),
    Check(
        "links-up",
        "federation",
        "The links to other nodes are up",
        "An edge without an uplink serves what is local and nothing else. A central node that lacks a link to another "
        "one cannot reach what is behind that. `gateway topology` shows who is linked to whom, and why a link is down.",
    ),
    Check(
        "revocations-heard",
        "federation",
        "What is revoked elsewhere is known",
        "A token that was revoked at one node is refused by every node that has heard of it, within seconds where they "
        "are linked. A node that was cut off goes by what it has heard before, and hears the rest when it links.",
    ),
    Check(
        "table-followed",
        "federation",
        "The shared table is followed",
        "Central nodes know from it what is behind the others. While its engine is away, routing goes on with what was "
        "known last. `gateway engine check` looks at the engine.",
    ),
    Check(
        "file-limit",
        "process",
        "There are file descriptors for all connections",
        "Each connection takes a descriptor, and the node's own files some more. Beyond the limit nobody is let in. "
        "The limit is that of the user and shell, or service, that starts the node.",
    ),
    Check(
        "root",
        "process",
        "It does not run as root",
        "The node needs no right of root: its ports are above 1024, and a low one can be had by a capability.",
    ),
    Check(
        "speed",
        "process",
        "The fast parts are in use",
        "The event loop uvloop and the compiled hot path make a node several times as fast. Both have fallbacks, which "
        "serve for trying things and on platforms without them.",
    ),
)
