"""Which topics are which routes: the rules of a `Bridge` document, and what they mean."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from gateway.documents.model import Name, Part
from gateway.documents.units import Duration
from gateway.policy.access import is_name, is_reserved
from gateway.policy.mqtt_filters import ONE, REST, SEPARATOR, SHARE, is_filter, is_group
from gateway.routing.tags import HINTS, ROUTE_ID, SUB, canonical_key
from gateway.topics.patterns import WHOLE, Pattern, Template
from gateway.topics.rules import CallRule, InRule, OutRule, Retain, RpcRule, service_of
from gateway.wire.brokering import MAX_TAG_BYTES, WELL_KNOWN_KEYS

MAX_FILTERS = 64
#: What the routing entry of a request holds.
MAX_ROUTE_BYTES = 255
#: Tags that choose a responder wherever they are named.
_SELECTING = frozenset({SUB, ROUTE_ID, *WELL_KNOWN_KEYS.values(), *HINTS})

Qos = Annotated[int, Field(ge=0, le=2, strict=True)]


def _filter(text: str) -> str:
    if not is_filter(text):
        raise ValueError(f"{text!r} is no topic filter: + is a whole level, # the last one")
    return text


def _template(text: str) -> str:
    Template(text)
    return text


def plain_topic(text: str) -> str:
    """Raises ValueError for what is more than the text of a topic, or of a part of one."""
    if any(character in text for character in "+#{}\0"):
        raise ValueError("wildcards and names have no place here")
    return text


def _tag(text: str) -> str:
    if not 0 < len(text.encode()) <= MAX_TAG_BYTES or "=" in text or not text.isprintable():
        raise ValueError(f"the name of a tag has 1 to {MAX_TAG_BYTES} printable bytes, and no =")
    return text


def _group(text: str) -> str:
    if not is_group(text):
        raise ValueError("the name of a group has no / + #")
    return text


Filter = Annotated[str, AfterValidator(_filter)]
Filters = Annotated[tuple[Filter, ...], Field(max_length=MAX_FILTERS)]
TemplateText = Annotated[str, Field(max_length=1024), AfterValidator(_template)]
Prefix = Annotated[str, Field(max_length=1024), AfterValidator(plain_topic)]
Tags = Annotated[dict[Annotated[str, AfterValidator(_tag)], TemplateText], Field(max_length=32)]


class Direction(StrEnum):
    IN = "in"
    OUT = "out"
    BOTH = "both"


class TopicRule(Part):
    """Which topics are which routes. `pattern` is of both sides; `remote` stands before it at the broker, `local` here,
    as in Mosquitto's `topic` lines, whose defaults these are. Without `route` the local topic is the route. `share`:
    nodes whose rules share a filter under this name get each message once between them."""

    pattern: Annotated[str, Field(max_length=1024)] = ""
    direction: Direction = Direction.OUT
    qos: Qos = 0
    local: Prefix = ""
    remote: Prefix = ""
    route: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_template)] | None = None
    tags: Tags = Field(default_factory=dict)
    select: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    spool: Name | None = None
    share: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_group)] | None = None
    exclude: Filters = ()
    retain: Retain = Retain.PRESERVE
    expiry: Duration | None = None
    timeout: Duration = 10.0

    @model_validator(mode="after")
    def _makes_sense(self) -> TopicRule:
        if not self.pattern and not (self.local and self.remote):
            raise ValueError("without a pattern both local and remote name the one topic that is meant")
        pattern = self.remote_pattern
        if pattern.filter.startswith(SHARE):
            raise ValueError("a shared subscription is share: NAME beside the pattern")
        if self.share is not None and self.goes_out:
            raise ValueError("share is of a rule that goes in alone: what is shared comes back to who sent it")
        unknown = set(self.select) - set(self.tags)
        if unknown:
            raise ValueError(f"select names no tag of this rule: {', '.join(sorted(unknown))}")
        for each in self.exclude:
            _filter(self.remote + each)
        if self.goes_in:
            self._check_in(pattern)
        if self.goes_out:
            self._check_out()
        return self

    def _check_in(self, pattern: Pattern) -> None:
        route = self._route
        known = pattern.known | {WHOLE}
        for template in (route, *map(Template, self.tags.values())):
            if not template.names <= known:
                missing = ", ".join(sorted(template.names - known))
                raise ValueError(f"{template.text!r} needs {missing}, which the pattern does not name")
        shown = route.with_each("x") if self.route else "x"
        if not is_name(shown) or is_reserved(shown) or len(shown.encode()) > MAX_ROUTE_BYTES:
            raise ValueError(f"{self.route!r} is no route that anybody could serve")
        if self.expiry is not None and not self.goes_out:
            raise ValueError("expiry is of what goes out")

    def _check_out(self) -> None:
        if self.route is None:
            if not self.service:
                raise ValueError(
                    "a rule that goes out needs a route, or topics that begin with a name, as by local: plant/"
                )
        elif {ONE, REST} & set(self.pattern.split(SEPARATOR)):
            raise ValueError("a rule that goes out has names in place of + and #, where it has a route")
        if not is_name(self.service) or is_reserved(self.service):
            raise ValueError(f"{self.service!r} is no service that a bridge could be")

    @property
    def goes_in(self) -> bool:
        return self.direction is not Direction.OUT

    @property
    def goes_out(self) -> bool:
        return self.direction is not Direction.IN

    @property
    def remote_pattern(self) -> Pattern:
        """Of the broker's topics. Raises ValueError."""
        return Pattern(self.remote + self.pattern)

    @property
    def local_pattern(self) -> Pattern:
        return Pattern(self.local + self.pattern)

    @property
    def _route(self) -> Template:
        return Template(f"{{{WHOLE}}}" if self.route is None else self.route)

    @property
    def service(self) -> str:
        """What is registered for the way out: the route, or the local topic, as far as it has no names in it."""
        if self.route is not None:
            return service_of(self.route)
        levels = self.local_pattern.filter.split(SEPARATOR)
        fixed = next((at for at, level in enumerate(levels) if level in (ONE, REST)), len(levels))
        return SEPARATOR.join(levels[:fixed])

    def inward(self, number: int) -> InRule:
        return InRule(
            number=number,
            label=self.pattern or self.remote,
            pattern=self.remote_pattern,
            route=self._route,
            tags=tuple((name, Template(text)) for name, text in self.tags.items()),
            select=selecting(self.tags, self.select),
            excludes=tuple(self.remote + each for each in self.exclude),
            strip=len(self.remote),
            local=self.local,
            timeout_s=self.timeout,
            qos=self.qos,
            spool=self.spool,
            both=self.direction is Direction.BOTH,
            share=self.share or "",
        )

    def outward(self, number: int) -> OutRule:
        own = self.route is not None
        return OutRule(
            number=number,
            label=self.pattern or self.local,
            service=self.service,
            routes=Pattern(_as_levels(self.route or "")) if own else self.local_pattern,
            topic=Template(self.remote + self.pattern) if own else None,
            range=self.remote_pattern.filter,
            strip=len(self.local),
            remote=self.remote,
            qos=self.qos,
            retain=self.retain,
            expiry_s=None if self.expiry is None else int(self.expiry),
            excludes=tuple(self.remote + each for each in self.exclude),
            both=self.direction is Direction.BOTH,
        )


class Rpc(Part):
    """A message of these topics that names a response topic becomes a request to `route`; the answer goes there."""

    topic: Annotated[str, Field(min_length=1, max_length=1024)]
    route: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_template)]
    tags: Tags = Field(default_factory=dict)
    select: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    exclude: Filters = ()
    timeout: Duration = 10.0

    @model_validator(mode="after")
    def _makes_sense(self) -> Rpc:
        rule = TopicRule(
            pattern=self.topic,
            direction=Direction.IN,
            route=self.route,
            tags=self.tags,
            select=self.select,
            exclude=self.exclude,
        )
        assert rule.goes_in
        return self

    def inward(self, number: int) -> RpcRule:
        return RpcRule(
            number=number,
            label=self.topic,
            pattern=Pattern(self.topic),
            route=Template(self.route),
            tags=tuple((name, Template(text)) for name, text in self.tags.items()),
            select=selecting(self.tags, self.select),
            excludes=self.exclude,
            timeout_s=self.timeout,
        )


class Call(Part):
    """For devices of MQTT 3.1.1, which know no response topic: where the answer to a call of `topic` comes. `id`: the
    member of its JSON that tells calls apart; without it one call a reply topic is made at a time."""

    topic: Annotated[str, Field(min_length=1, max_length=1024)]
    reply: TemplateText
    id: Annotated[str, Field(max_length=64)] = ""
    qos: Qos = 1

    @model_validator(mode="after")
    def _makes_sense(self) -> Call:
        names = Pattern(self.topic).known
        missing = Template(self.reply).names - names
        if missing:
            raise ValueError(f"reply needs {', '.join(sorted(missing))}, which topic does not name")
        return self

    def rule(self, number: int) -> CallRule:
        return CallRule(number, Pattern(self.topic), Template(self.reply), self.id, self.qos)


def selecting(tags: dict[str, str], chosen: tuple[str, ...]) -> frozenset[str]:
    """Those tags of a rule that choose who gets a message."""
    return frozenset(name for name in tags if name in chosen or canonical_key(name) in _SELECTING)


def _as_levels(route: str) -> str:
    return route.replace(".", SEPARATOR)
