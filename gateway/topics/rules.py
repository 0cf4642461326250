"""The rules of one bridge, ready to be used: a message's topic → a route, a request's route → a topic.

The first rule that takes a topic has it; one whose exclusion the topic meets does not take it. `remote` and `local` are
put before the pattern, on the broker's side and on this one, as in Mosquitto's `topic` lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeVar

from gateway.errors import RequestInvalid
from gateway.policy.access import is_name, is_reserved
from gateway.policy.mqtt_filters import ONE, REST, SEPARATOR, SHARE, covers, is_topic, matches
from gateway.topics.patterns import WHOLE, Pattern, Template
from gateway.topics.tree import FilterTree

#: Topics whose rule is remembered, and how long one of them may be.
KNOWN = 8192
KNOWN_CHARACTERS = 256
_TAG = 127
_ROUTE = 255
_SEPARATORS = (".", "/")
_WHOLE = Template(f"{{{WHOLE}}}")


class Retain(StrEnum):
    """Of what goes out: whether it is retained."""

    PRESERVE = "preserve"
    """As whoever sent it says."""
    NEVER = "never"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Inward:
    """What in rules and rpc rules have in common. `number`: place in the document; `pattern`: of the broker's topics;
    `strip`: characters of the topic that `local` takes the place of. `select`: tags that choose who gets it."""

    number: int
    label: str
    pattern: Pattern
    route: Template
    tags: tuple[tuple[str, Template], ...] = ()
    select: frozenset[str] = frozenset()
    excludes: tuple[str, ...] = ()
    strip: int = 0
    local: str = ""
    timeout_s: float = 10.0

    @property
    def filter(self) -> str:
        """What the broker is asked for."""
        return self.pattern.filter

    @property
    def is_whole(self) -> bool:
        """Whether the local topic itself is the route."""
        return self.route == _WHOLE

    @property
    def local_filter(self) -> str:
        """The local topics that it leads to."""
        return self.local + self.filter[self.strip :]

    @property
    def reach(self) -> str:
        """The routes that it leads to, as far as they can be known: `*` stands for any text."""
        if self.is_whole:
            return self.local_filter.replace(ONE, "*").replace(REST, "*")
        return self.route.with_each("*")


@dataclass(frozen=True, slots=True)
class InRule(Inward):
    """`spool`: the document by which what comes waits on disk; None: nowhere. `both`: the same rule goes out, too.
    `share`: of a message only one of those comes here that share the filter under this name; "": each."""

    qos: int = 0
    spool: str | None = None
    both: bool = False
    share: str = ""

    @property
    def asked(self) -> str:
        """What to subscribe to."""
        return f"{SHARE}{self.share}/{self.filter}" if self.share else self.filter


@dataclass(frozen=True, slots=True)
class RpcRule(Inward):
    """A message with a response topic becomes a request."""


@dataclass(frozen=True, slots=True)
class OutRule:
    """`service`: what is registered for it. `routes`: which of its routes it takes, `.` and `/` both written as `/`.
    `topic`: of the broker; where the rule has no route of its own the topic is what follows `local` in the route.
    `range`: a filter of all that it can publish to."""

    number: int
    label: str
    service: str
    routes: Pattern
    topic: Template | None
    range: str
    strip: int = 0
    remote: str = ""
    qos: int = 0
    retain: Retain = Retain.PRESERVE
    expiry_s: int | None = None
    excludes: tuple[str, ...] = ()
    both: bool = False


@dataclass(frozen=True, slots=True)
class CallRule:
    """How a device of MQTT 3.1.1 answers: `reply` is a template of the captures of `topic`; `member` of its JSON
    names the call, "" where the next message is the answer."""

    number: int
    topic: Pattern
    reply: Template
    member: str = ""
    qos: int = 1


class Matched(NamedTuple):
    """`topic` as it came, `local` by this side's prefix. `selecting` are those of `tags` that choose a responder."""

    rule: InRule | RpcRule
    topic: str
    local: str
    captures: dict[str, str]
    route: str
    tags: tuple[tuple[str, str], ...]
    selecting: tuple[tuple[str, str], ...]


class Outgoing(NamedTuple):
    rule: OutRule
    topic: str


class Step(NamedTuple):
    """One rule's word on a topic. `took`: it is this rule that acts."""

    rule: str
    direction: str
    took: bool
    why: str


Rule = TypeVar("Rule", bound=Inward)


@dataclass(frozen=True)
class Rules:
    inbound: tuple[InRule, ...] = ()
    outbound: tuple[OutRule, ...] = ()
    rpc: tuple[RpcRule, ...] = ()
    calls: tuple[CallRule, ...] = ()
    publish: tuple[str, ...] = (REST,)
    subscribe: tuple[str, ...] = (REST,)
    _in: FilterTree[InRule] = field(init=False, repr=False, compare=False)
    _rpc: FilterTree[RpcRule] = field(init=False, repr=False, compare=False)
    _known: dict[str, Matched | None] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_in", _tree(self.inbound))
        object.__setattr__(self, "_rpc", _tree(self.rpc))

    @property
    def filters(self) -> tuple[tuple[str, int], ...]:
        """What the rules have to hear of, with which QoS."""
        return (*((rule.asked, rule.qos) for rule in self.inbound), *((rule.filter, 1) for rule in self.rpc))

    @property
    def services(self) -> tuple[str, ...]:
        """What out rules register."""
        return tuple(dict.fromkeys(rule.service for rule in self.outbound))

    def incoming(self, topic: str) -> Matched | None:
        """What a message of this topic is here; None where no rule takes it.

        Raises RequestInvalid ("mqtt_unmappable") when its topic makes no route.
        """
        try:
            return self._known[topic]
        except KeyError:
            pass
        found = _first(self._in, topic)
        if len(topic) <= KNOWN_CHARACTERS:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[topic] = found
        return found

    def near(self, pattern: str) -> list[InRule]:
        """Those in rules that may take a topic which a filter matches, in their order."""
        return sorted(self._in.near(pattern), key=_number)

    def calling(self, topic: str) -> Matched | None:
        """The same of a message that has a response topic."""
        return _first(self._rpc, topic)

    def outgoing(self, route: str, values: Mapping[str, str]) -> Outgoing | None:
        """Where a request goes; `values`: `sub`, `node`, and its tags, by name.

        Raises RequestInvalid when a value is missing or is no level of a topic.
        """
        for rule in self.outbound:
            topic = _topic_of(rule, route, values)
            if topic is not None and not any(matches(each, topic) for each in rule.excludes):
                return Outgoing(rule, topic)
        return None

    def call_for(self, topic: str) -> tuple[CallRule, str] | None:
        """How the answer to a call of this topic comes, and on which topic."""
        for rule in self.calls:
            if matches(rule.topic.filter, topic):
                return rule, rule.reply.fill(rule.topic.captures(topic.split(SEPARATOR)))
        return None

    def may_publish(self, topic: str) -> bool:
        """Whether the service `publish` may send there."""
        return is_topic(topic) and any(matches(each, topic) for each in self.publish)

    def may_subscribe(self, pattern: str) -> bool:
        """Whether the service `subscribe` may ask for it."""
        return any(covers(each, pattern) for each in self.subscribe)

    def explain(self, topic: str) -> list[Step]:
        """What each rule says of a topic of the broker's, and of the requests that lead to it."""
        found = _steps(self.rpc, "rpc", topic) + _steps(self.inbound, "in", topic)
        taken = False
        for rule in self.outbound:
            fits = matches(rule.range, topic)
            excluded = next((each for each in rule.excludes if matches(each, topic)), None)
            why = f"requests to {rule.service}" if fits else "no request leads there"
            if fits and excluded:
                why = f"excluded by {excluded}"
            took = fits and not excluded and not taken
            if fits and taken and not excluded:
                why = "an earlier rule has it where both fit"
            taken = taken or took
            found.append(Step(rule.label, "out", took, why))
        return found


def _tree(rules: Sequence[Rule]) -> FilterTree[Rule]:
    tree: FilterTree[Rule] = FilterTree()
    for rule in rules:
        tree.add(rule.filter, rule)
    return tree


def _number(rule: Inward) -> int:
    return rule.number


def _first(tree: FilterTree[Rule], topic: str) -> Matched | None:
    levels = topic.split(SEPARATOR)
    found = tree.find(levels)
    if len(found) > 1:
        found.sort(key=_number)
    for rule in found:
        if not rule.excludes or not any(matches(each, topic) for each in rule.excludes):
            return matched(rule, topic, levels)
    return None


def matched(rule: Inward, topic: str, levels: list[str]) -> Matched:
    """What a topic is by a rule that takes it. Raises RequestInvalid."""
    local = rule.local + topic[rule.strip :]
    values = rule.pattern.captures(levels)
    values[WHOLE] = local
    route = rule.route.fill(values)
    # One that is the same for every topic was looked at when the rule was made.
    if not rule.route.is_fixed and (not is_name(route) or is_reserved(route) or len(route.encode()) > _ROUTE):
        raise RequestInvalid(f"the topic {topic!a} makes no route: {route!a}", reason="mqtt_unmappable")
    tags = tuple([(name, template.fill(values)) for name, template in rule.tags])
    del values[WHOLE]
    if not rule.select:
        return Matched(rule, topic, local, values, route, tags, ())  # type: ignore[arg-type]
    selecting = tuple([tag for tag in tags if tag[0] in rule.select])
    if any(not 0 < len(value.encode()) <= _TAG for _, value in selecting):
        raise RequestInvalid(
            f"the topic {topic!a} makes a tag of 0 or more than {_TAG} bytes", reason="mqtt_unmappable"
        )
    return Matched(rule, topic, local, values, route, tags, selecting)  # type: ignore[arg-type]


def _topic_of(rule: OutRule, route: str, values: Mapping[str, str]) -> str | None:
    """None where the rule does not take the route."""
    if rule.topic is None:
        if not matches(rule.routes.filter, route):
            return None
        topic = rule.remote + route[rule.strip :]
    else:
        as_levels = route.replace(".", SEPARATOR)
        if not matches(rule.routes.filter, as_levels):
            return None
        known = {**values, **rule.routes.captures(as_levels.split(SEPARATOR))}
        for name in rule.topic.names:
            _check_level(name, known.get(name))
        topic = rule.topic.fill(known)
    # What begins with $ is the broker's: only a rule that names it may publish there.
    if not is_topic(topic) or not matches(rule.range, topic):
        raise RequestInvalid(f"the route {route!a} makes no topic: {topic!a}", reason="mqtt_unmappable")
    return topic


def _check_level(name: str, value: str | None) -> None:
    if value is None:
        raise RequestInvalid(f"the topic needs {name}, and the request has no such tag", reason="mqtt_unmappable")
    if not value or any(character in value for character in "/+#\0"):
        raise RequestInvalid(f"{name} is no level of a topic: {value!a}", reason="mqtt_unmappable")


def _steps(rules: Sequence[InRule] | Sequence[RpcRule], direction: str, topic: str) -> list[Step]:
    steps = []
    taken = False
    for rule in rules:
        excluded = next((each for each in rule.excludes if matches(each, topic)), None)
        if not matches(rule.filter, topic):
            took, why = False, f"{rule.filter} does not match"
        elif excluded is not None:
            took, why = False, f"excluded by {excluded}"
        elif taken:
            took, why = False, "an earlier rule has taken it"
        else:
            took, why = _taken(rule, topic)
            taken = True
        steps.append(Step(rule.label, direction, took, why))
    return steps


def _taken(rule: Inward, topic: str) -> tuple[bool, str]:
    try:
        found = matched(rule, topic, topic.split(SEPARATOR))
    except RequestInvalid as error:
        return False, str(error)
    tags = "".join(f" {name}={value}" for name, value in found.tags)
    return True, f"route {found.route}{tags}"


def service_of(route: str) -> str:
    """The service of a template: what stands before the first name, whole names only."""
    head = Template(route).head
    if head == route:
        return route
    at = max(head.rfind(separator) for separator in _SEPARATORS)
    return head[:at] if at > 0 else ""
