"""Whether the node is well, and why not, as pure functions over figures: each says what it finds for a person, and
which page of the dashboard shows more.

`error`: something does not work; `warning`: it will not for long, or not for all; `info`: worth knowing. The node is
`down` when it takes no connections, `degraded` with an error or a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from gateway.observe.bridges import BridgeState

if TYPE_CHECKING:
    from gateway.admin.history import Step
    from gateway.control.plane import Alarm
    from gateway.observe.bridges import BridgeStatus
    from gateway.observe.guards import GuardFigures
    from gateway.observe.links import LinkFigures, TableFigures

Severity = Literal["error", "warning", "info"]
State = Literal["ok", "degraded", "down"]

DAY_S: Final = 86_400.0
LAG_S: Final = 10.0
OLD_MESSAGE_S: Final = 3600.0
NEARLY_FULL: Final = 0.9
CERTIFICATE_DAYS: Final = 14.0
BACKUP_DAYS: Final = 7.0
#: A disk is short of room below either, and out of it below either of the second.
LOW_SHARE, LOW_BYTES = 0.05, 512 * 1024 * 1024
LEAST_SHARE, LEAST_BYTES = 0.01, 64 * 1024 * 1024
#: Refused requests are worth a look from so many on, when they are this part of all.
MANY_REFUSED, REFUSED_SHARE = 20, 0.05
#: A wall clock that goes so much further than time does was set.
JUMP_S: Final = 2.0
#: No node of this version has run before: 2024-01-01.
BEFORE_ALL_S: Final = 1_704_067_200.0
NAMED: Final = 3


class Reason(NamedTuple):
    """`slug` names the kind of reason, `page` is a path of the dashboard."""

    severity: Severity
    slug: str
    text: str
    page: str


_RANK: Final[Mapping[str, int]] = {"error": 0, "warning": 1, "info": 2}
#: What keeps the node from taking connections.
NOT_READY: Final = "not-ready"


def state_of(reasons: Iterable[Reason]) -> State:
    worst: State = "ok"
    for reason in reasons:
        if reason.slug == NOT_READY:
            return "down"
        if reason.severity != "info":
            worst = "degraded"
    return worst


def ranked(reasons: Iterable[Reason]) -> list[Reason]:
    """The worst first."""
    return sorted(reasons, key=lambda reason: _RANK[reason.severity])


def readiness(failing: Mapping[str, str]) -> Iterator[Reason]:
    """`failing`: why not, by check."""
    for name, why in failing.items():
        if name == "draining":
            yield Reason("warning", "draining", "The node is draining: it takes no new connections.", "/diagnostics")
        else:
            yield Reason("error", NOT_READY, f"Not ready ({name}): {why}", "/diagnostics")


def alarms(raised: Iterable[Alarm]) -> Iterator[Reason]:
    for alarm in raised:
        yield Reason("error", alarm.slug.replace("_", "-"), alarm.text, "/diagnostics")


def federation(topology: Mapping[str, Any] | None, now: float) -> Iterator[Reason]:
    """`topology`: the nodes and links that this node knows; None where it stands alone."""
    if topology is None:
        return
    since = topology["uplink_down_since"]
    if since is not None:
        yield Reason("error", "uplink-down", f"No link to a central node for {_span(now - since)}.", "/federation")
    gone = [node for node in topology["nodes"] if node["place"] == "apart" and node["down_since"] is not None]
    if gone:
        names = _named([node["name"] for node in gone])
        yield Reason("warning", "node-away", f"{_many(len(gone), 'node')} away: {names}.", "/federation")
    ahead = [node for node in topology["nodes"] if node["ahead"] and node["place"] in ("itself", "child")]
    if ahead:
        names = _named([f"{node['name']} ({node['version']})" for node in ahead])
        text = f"{_many(len(ahead), 'edge')} newer than the central node: {names}. Central nodes are upgraded first."
        yield Reason("warning", "edge-ahead", text, "/federation")


def links(figures: Iterable[LinkFigures]) -> Iterator[Reason]:
    late = [link for link in figures if link.up and link.lag_s > LAG_S]
    if late:
        most = max(link.lag_s for link in late)
        names = _named([link.node for link in late])
        yield Reason("warning", "sync-lag", f"Routes reach {names} {_span(most)} late.", "/federation")


def table(figures: TableFigures | None) -> Iterator[Reason]:
    if figures is not None and not figures.fresh:
        yield Reason("error", "table-stale", f"The shared table is not followed: {figures.why}", "/federation")
    if figures is not None and figures.invalid:
        yield Reason(
            "warning", "table-invalid", f"{figures.invalid} values of the shared table cannot be read.", "/federation"
        )


def bridges(statuses: Iterable[BridgeStatus]) -> Iterator[Reason]:
    for bridge in statuses:
        why = f": {bridge.reason}" if bridge.reason else ""
        if bridge.state is BridgeState.FAILED:
            yield Reason("error", "bridge-failed", f"MQTT bridge {bridge.name} has given up{why}", "/mqtt")
        elif bridge.state in (BridgeState.WAITING, BridgeState.CONNECTING):
            yield Reason("warning", "bridge-down", f"MQTT bridge {bridge.name} is not connected{why}", "/mqtt")
        elif bridge.state is BridgeState.STOPPED:
            yield Reason("info", "bridge-stopped", f"MQTT bridge {bridge.name} was stopped.", "/mqtt")


class Waiting(NamedTuple):
    """One spool."""

    name: str
    messages: int
    bytes: int
    max_bytes: int
    oldest_age_s: float | None


def spools(waiting: Iterable[Waiting]) -> Iterator[Reason]:
    for spool in waiting:
        filled = spool.bytes / spool.max_bytes if spool.max_bytes else 0.0
        if filled >= NEARLY_FULL:
            text = f"Spool {spool.name} is {filled:.0%} full, {spool.messages} messages."
            yield Reason("error" if filled >= 0.99 else "warning", "spool-full", text, "/resilience")
        elif (spool.oldest_age_s or 0.0) > OLD_MESSAGE_S:
            text = f"{_many(spool.messages, 'message')} waiting in spool {spool.name}, the oldest for "
            yield Reason("warning", "spool-old", f"{text}{_span(spool.oldest_age_s or 0.0)}.", "/resilience")


def guards(figures: Mapping[str, GuardFigures]) -> Iterator[Reason]:
    """By service; of all processes of the node."""
    if broken := sorted(name for name, guard in figures.items() if guard.breaker == 2):
        yield Reason("warning", "breaker-open", f"Requests are kept back from {_named(broken)}.", "/resilience")
    if ejected := {name: guard.ejected for name, guard in sorted(figures.items()) if guard.ejected}:
        text = f"{_many(sum(ejected.values()), 'instance')} passed over: {_named(list(ejected))}."
        yield Reason("warning", "ejected", text, "/resilience")


def certificate(ends_at: float | None, now: float) -> Iterator[Reason]:
    """`ends_at`: the end of the listeners' certificate; None where none is shown."""
    if ends_at is None:
        return
    days = (ends_at - now) / DAY_S
    if days <= 0:
        yield Reason(
            "error", "certificate-ended", "The listeners' certificate does not hold any more.", "/certificates"
        )
    elif days < CERTIFICATE_DAYS:
        text = f"The listeners' certificate holds for {_span(ends_at - now)} more."
        yield Reason("warning", "certificate-ends", text, "/certificates")


def backup(made_at: float | None, now: float) -> Iterator[Reason]:
    """`made_at`: when the newest one was made."""
    if made_at is None:
        yield Reason("info", "no-backup", "No backup of this node was made yet.", "/backups")
    elif now - made_at > BACKUP_DAYS * DAY_S:
        yield Reason("warning", "backup-old", f"The newest backup is {_span(now - made_at)} old.", "/backups")


def disk(free: int, total: int) -> Iterator[Reason]:
    """Bytes of the file system that the data directory is on."""
    share = free / total if total else 1.0
    text = f"{free / 1024**2:,.0f} MiB of disk are free, {share:.0%}."
    if share < LEAST_SHARE or free < LEAST_BYTES:
        yield Reason("error", "disk-full", text, "/diagnostics")
    elif (share < LOW_SHARE and free < 20 * LOW_BYTES) or free < LOW_BYTES:
        yield Reason("warning", "disk-low", text, "/diagnostics")


def lateness(steps: Sequence[Step], warn_s: float, shed_s: float) -> Iterator[Reason]:
    """`steps`: of the last minute."""
    late = max((each.loop_lag_s or 0.0 for each in steps), default=0.0)
    if late >= warn_s:
        text = f"The event loop was {late * 1000:.0f} ms late within the last minute."
        yield Reason("error" if late >= shed_s else "warning", "loop-late", text, "/diagnostics")


def refusals(steps: Sequence[Step], step_s: float) -> Iterator[Reason]:
    """`steps`: of the last five minutes."""
    refused = sum(each.refused_s for each in steps) * step_s
    asked = sum(each.requests_s for each in steps) * step_s
    if refused >= MANY_REFUSED and refused > REFUSED_SHARE * asked:
        text = f"{refused:.0f} requests and registrations were refused within the last 5 minutes."
        yield Reason("warning", "many-refused", text, "/tap")


def clock(now: float, steps: Sequence[Step]) -> Iterator[Reason]:
    if now < BEFORE_ALL_S:
        yield Reason("error", "clock-wrong", "The clock of this machine stands years back.", "/diagnostics")
    jumped = max((each.jumped_s for each in steps), key=abs, default=0.0)
    if abs(jumped) > JUMP_S:
        way = "forward" if jumped > 0 else "back"
        text = f"The clock was set {way} by {_span(abs(jumped))} within the last 15 minutes."
        yield Reason("warning", "clock-set", text, "/diagnostics")


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def _many(count: int, noun: str) -> str:
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


def _span(seconds: float) -> str:
    for size, unit in ((DAY_S, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
