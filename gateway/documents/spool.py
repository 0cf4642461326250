"""`kind: Spool`: which messages wait for a service that is not there, how many of them, and how they are delivered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from gateway.documents.findings import Finding
from gateway.documents.model import Body, Document, Part, Site
from gateway.documents.units import Duration, Share, Size
from gateway.documents.words import Names, told
from gateway.policy.access import Pattern, is_reserved
from gateway.spool.rules import DEFAULT_PRIORITY, PRIORITIES, SpoolRules, WhenFull

#: What a message costs beyond its data: who sent it, and its metadata.
ENVELOPE_BYTES = 72 * 1024
_DEFAULTS = SpoolRules()


class Interaction(StrEnum):
    FIRE_AND_FORGET = "fireAndForget"
    REQUEST_RESPONSE = "requestResponse"


class Key(StrEnum):
    """Messages of one key are delivered in the order in which they were accepted."""

    DEVICE = "device"
    """Who sent it."""
    ROUTE = "route"
    TOPIC = "topic"
    """The tag `topic`, where it has one; else the route."""
    NONE = "none"
    """In any order."""


class Order(StrEnum):
    REPLAY_FIRST = "replayFirst"
    """What is new waits behind what is old, so that keys keep their order."""
    LIVE_FIRST = "liveFirst"
    """What is new is delivered at once, what is old beside it, marked as historical."""


class Match(Part):
    """All that is given must fit. `service`: a name, or a pattern with `*`; a route below it counts as its own.
    `route`: the whole route."""

    service: Names
    route: Names | None = None
    interaction: tuple[Interaction, ...] = Field(default=(Interaction.FIRE_AND_FORGET,), min_length=1)

    @cached_property
    def _service(self) -> Pattern:
        return Pattern(self.service, "")

    @cached_property
    def _route(self) -> Pattern | None:
        return None if self.route is None else Pattern(self.route, "")

    def target(self, name: str, route: str) -> str | None:
        """Which service a request is for: by its tags (`name`), or by its route; None: for none of these."""
        if self._route is not None and not self._route.matches(route):
            return None
        if name:
            return name if self._service.matches(name) else None
        end = 0
        while end < len(route):
            end += 1
            if (end == len(route) or route[end] in "./") and self._service.matches(route[:end]):
                return route[:end]
        return None

    def covers(self, other: Match) -> bool:
        """Whether it takes everything that `other` would."""
        return (
            self._service.matches(other.service)
            and (self._route is None or (other.route is not None and self._route.matches(other.route)))
            and set(other.interaction) <= set(self.interaction)
        )


class QueueWhileOffline(Part):
    """For request/response: the caller gets a receipt in place of an answer. `onlyIdempotent`: only requests that carry
    an idempotency key."""

    ttl: Duration
    only_idempotent: bool = True


class Spool(Body):
    """Messages that wait on disk for a service that is not there."""

    kind: Literal["Spool"]
    match: tuple[Match, ...] = told("Which messages; the first that fits counts.", min_length=1, max_length=64)
    when_full: WhenFull = told("What happens when there is no room.", WhenFull.REJECT)
    max_bytes: Size = told("For each service.", _DEFAULTS.max_bytes)
    max_age: Duration = told("Older ones leave.", _DEFAULTS.max_age_s)
    max_message: Size = told("Larger ones are refused.", _DEFAULTS.max_message_bytes)
    min_free: Share = told("Of the volume, left to others.", _DEFAULTS.min_free)
    priority: Annotated[int, Field(ge=0, lt=PRIORITIES, strict=True)] = told("0 goes first, 9 last.", DEFAULT_PRIORITY)
    key: Key = told("What keeps its order.", Key.DEVICE)
    order: Order = told("What goes first when the service is back.", Order.REPLAY_FIRST)
    acknowledge: bool = told("Deliver fire-and-forget as request/response; the service must answer.", False)
    queue_while_offline: QueueWhileOffline | None = told("How requests with an answer may wait.", None)

    def target(self, name: str, route: str, interaction: Interaction | None = None) -> str | None:
        """Which service a request would wait for; None where this document says nothing of it."""
        for match in self.match:
            if interaction is None or interaction in match.interaction:
                target = match.target(name, route)
                if target is not None:
                    return target
        return None

    @property
    def rules(self) -> SpoolRules:
        return SpoolRules(
            when_full=self.when_full,
            max_bytes=self.max_bytes,
            max_age_s=self.max_age,
            max_message_bytes=self.max_message + ENVELOPE_BYTES,
            min_free=self.min_free,
        )


def check(document: Document, standing: Sequence[Document], site: Site | None) -> Iterator[Finding]:
    spec: Spool = document.spec
    standing = [each for each in standing if each.kind == document.kind]
    if site is not None:
        room = max(0, site.free + site.spooled - int(site.total * spec.min_free))
        if spec.max_bytes > room:
            yield Finding(
                "GW0111",
                f"{spec.max_bytes >> 20} MiB, and the volume leaves {room >> 20} MiB to it",
                "/maxBytes",
                fix="a smaller maxBytes, a smaller minFree, or a larger volume",
            )
        elif site.spool_max and spec.max_bytes > site.spool_max:
            yield Finding(
                "GW0111",
                f"{spec.max_bytes >> 20} MiB, and spool.max_bytes gives all spools {site.spool_max >> 20} MiB",
                "/maxBytes",
                fix="a smaller maxBytes, or a larger spool.max_bytes",
            )
    if not spec.max_age > 0:
        yield Finding("GW0112", "maxAge is 0", "/maxAge", fix="maxAge: 7d")
    if spec.max_message > spec.max_bytes:
        yield Finding("GW0115", "maxMessage is more than maxBytes", "/maxMessage")
    if spec.when_full is WhenFull.CONFLATE and spec.key is Key.NONE:
        yield Finding("GW0118", "whenFull: conflate without a key", "/whenFull", fix="key: device, route or topic")
    yield from _check_offline(spec)
    for at, match in enumerate(spec.match):
        yield from _check_match(document, standing, at, match)


def _check_offline(spec: Spool) -> Iterator[Finding]:
    answered = any(Interaction.REQUEST_RESPONSE in match.interaction for match in spec.match)
    offline = spec.queue_while_offline
    if offline is None:
        if answered:
            fix = "queueWhileOffline: {ttl: 60s}, or leave requestResponse out of the match"
            yield Finding("GW0119", "requestResponse is matched, and nothing says how it may wait", "/match", fix=fix)
        return
    if not answered:
        yield Finding("GW0119", "no match names requestResponse", "/queueWhileOffline", fix="add it to an interaction")
    if not offline.ttl > 0:
        yield Finding("GW0112", "ttl is 0", "/queueWhileOffline/ttl", fix="ttl: 60s")
    elif offline.ttl >= spec.max_age:
        yield Finding("GW0114", "ttl is not below maxAge, which ends it", "/queueWhileOffline/ttl", warning=True)


def _check_match(document: Document, standing: Sequence[Document], at: int, match: Match) -> Iterator[Finding]:
    pointer = f"/match/{at}"
    if is_reserved(match.service):
        yield Finding("GW0116", f"{match.service} is served by the node", f"{pointer}/service")
    if not match.service.strip("*") and match.route is None:
        yield Finding("GW0117", "every service, every route", f"{pointer}/service", fix="name services", warning=True)
    for earlier in document.spec.match[:at]:
        if earlier.covers(match):
            yield Finding("GW0113", "an earlier match of this document takes all of it", pointer, fix="remove it")
            return
    for other in standing:
        if other.name == document.name:
            return
        if any(each.covers(match) for each in other.spec.match):
            text = f"{other.id} takes all of it: documents act in the order of their names"
            yield Finding("GW0113", text, pointer, fix=f"a name before {other.name}, or a narrower match there")
            return
