"""Who serves a request that a `Service` document governs: by the weights of its rule a part of the service, and of that
part one instance that is near and has not been ejected.

What depends on the address, the caller and the candidates is worked out once a decision (`Chooser`); a request costs a
draw and a pick. What must be shared by all decisions about one service, whoever asks, is in `Choices`: where the
sequence of draws stands, whose turn it is, who is ejected.

A part that is drawn and has nobody is an error that names document and subset: nothing goes elsewhere silently. Which
part was drawn goes along over a link (`entry`), so that the next node picks among those instances and draws nothing.
What can only go to the parent goes undrawn: the parent knows the instances and draws.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

from gateway.errors import NoRoute
from gateway.forwarding import leasing
from gateway.forwarding.judging import caller_of
from gateway.forwarding.links import LOCAL, UPLINK
from gateway.policy.split import Share, Split
from gateway.policy.traffic import Balance, RouteRule
from gateway.routing.balancer import Method, pick, shard
from gateway.routing.group import Group
from gateway.routing.locality import distance, tiers
from gateway.routing.tags import SERVICE_NAME, query_of
from gateway.wire.metadata import encode_composite, encode_routing
from gateway.wire.mimetypes import SUBSET

if TYPE_CHECKING:
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.plane import Plane
    from gateway.observe.metrics import ServiceStats
    from gateway.policy.traffic import ServiceRules
    from gateway.routing.route import Route
    from gateway.routing.tags import Query

_METHODS = {
    Balance.LEAST_REQUEST: Method.LEAST_PENDING,
    Balance.ROUND_ROBIN: Method.ROUND_ROBIN,
    Balance.RANDOM: Method.RANDOM,
}
#: For requests that no rule fits.
WHOLE_SERVICE = RouteRule("")
#: Names of a hash key that stand for who asks, and for the route that is asked for.
_CALLER = frozenset({"principal", "deviceId"})
_ROUTE = "route"
_MASK = 0xFFFFFFFF


class Choices:
    """What is remembered of one service, for all who ask for it. `out`: the route ids of the instances that are left
    out; `version` counts its changes."""

    __slots__ = ("_generation", "_groups", "_shares", "_splits", "_turn", "out", "version")

    def __init__(self) -> None:
        self._splits: dict[tuple[RouteRule, tuple[int, ...]], Split] = {}
        self._shares: dict[RouteRule, Share] = {}
        self._groups: dict[tuple[Route, ...], Group] = {}
        self._generation = -1
        self._turn = 0
        self.out: Collection[bytes] = frozenset()
        self.version = 0

    def leave_out(self, out: Collection[bytes]) -> None:
        """Send nothing to these instances from the next request on, while there are others."""
        self.out = out
        self.version += 1

    def split(self, rule: RouteRule, among: Sequence[int]) -> Split:
        """The draws of a rule among some of its destinations; raises ValueError when all of those weigh nothing."""
        key = (rule, tuple(among))
        found = self._splits.get(key)
        if found is None:
            weights = [rule.to[index].weight for index in among]
            found = self._splits[key] = Split(weights, crc32(rule.name.encode()))
        return found

    def mirrored(self, rule: RouteRule, share: float) -> Share:
        """The draws of a rule's mirror."""
        found = self._shares.get(rule)
        if found is None:
            found = self._shares[rule] = Share(share, crc32(rule.name.encode()))
        return found

    def group(self, routes: Sequence[Route], generation: int) -> Group:
        """One group for equal routes, so that who asks takes turns with all others who ask."""
        if generation != self._generation:
            self._generation = generation
            self._groups.clear()
        key = tuple(routes)
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = Group(routes)
            self._turn += 1
            found.turn = self._turn % len(key)
        return found


class Part:
    """A destination with those who may serve it. `tiers`: the nearest first. `group`: whom to pick from, None when
    there is nobody; `fixed`: the one whom the hash of the caller's key gives. `passes`: the parent governs it. `entry`:
    the metadata entry that tells the next node of the choice. `stats`: its counters by its `rule`, None where its
    members have different ones."""

    __slots__ = ("entry", "fixed", "group", "labels", "passes", "rule", "stats", "subset", "tiers")

    def __init__(self, subset: str, labels: Query, held: list[list[Route]], *, passes: bool, told: bool) -> None:
        self.subset = subset
        self.labels = labels
        self.tiers = held
        self.passes = passes
        self.entry = entry_of(subset, labels) if told and subset else b""
        self.group: Group | None = None
        self.fixed: Route | None = None
        self.rule = ""
        self.stats: ServiceStats | None = None


class Chooser:
    """Of one decision. `part`: the one of the latest request."""

    __slots__ = (
        "_address",
        "_choices",
        "_generation",
        "_key",
        "_leased",
        "_method",
        "_name",
        "_random",
        "_share",
        "_split",
        "_version",
        "mirror",
        "part",
        "parts",
    )

    def __init__(
        self,
        plane: Plane,
        requester: Endpoint,
        decision: Decision,
        rules: ServiceRules,
        choices: Choices,
        rule: RouteRule,
        routes: Sequence[Route],
    ) -> None:
        self._choices = choices
        self._address = decision.address
        self._leased = decision.leased
        self._random = plane.random
        self._name = rules.name
        self._generation = plane.table.generation
        balancer = rules.balancer
        self._method = decision.method
        #: By lease credit where the document does not say how.
        if balancer is not None and (balancer.method is not None or balancer.by_lease):
            self._method = _METHODS[balancer.method or Balance.LEAST_REQUEST]
        self._key = None if balancer is None else _key_of(balancer.hash_key, requester, decision)
        self.parts = _parts(plane, requester, decision, rules, rule, routes)
        self._split: Split | None = None
        self.part = self.parts[0]
        self._draw_by(choices, rules, rule)
        for part in self.parts:
            part.rule = rule.name
            counters = {
                plane.stats_of(route, requester, decision.identity, rule.name, part.subset)
                for tier in part.tiers
                for route in tier
            }
            part.stats = counters.pop() if len(counters) == 1 else None
        self.mirror: Part | None = None
        self._share: Share | None = None
        wanted = rule.mirror
        if wanted is not None and wanted.share > 0 and not self.part.passes and not decision.subset:
            self.mirror = _part(plane, requester, rules, wanted.subset, routes)
            self._share = choices.mirrored(rule, wanted.share)
        self._version = -1
        self._arrange()

    def draw_mirror(self) -> bool:
        """Whether a request belongs to the share of which a copy is sent."""
        return self._share is not None and self._share.draw()

    def pick_mirror(self, plane: Plane) -> Route | None:
        """Who gets the copy; None where there is nobody."""
        part = self.mirror
        return None if part is None or part.group is None else pick(part.group, self._method, self._random)

    def pick(self, plane: Plane) -> Route:
        """Choose an instance for a new request. Raises NoRoute where the part drawn has none, Overloaded where none of
        them has a lease left."""
        if self._choices.version != self._version:
            self._arrange()
        split = self._split
        if split is not None:
            self.part = self.parts[split.draw()]
        part = self.part
        if part.group is None:
            raise self._nobody(plane, part)
        if self._leased:
            return self._pick_leased(plane, part)
        if part.fixed is not None:
            return part.fixed
        return pick(part.group, self._method, self._random)

    def pick_again(self, plane: Plane, part: Part, tried: Collection[Route]) -> Route:
        """Choose another instance of the same part for a request that has been to some in vain; one of those where
        there is no other. Raises NoRoute when nobody is left, Overloaded where the one chosen has no lease left."""
        out = self._choices.out
        for avoided in (tried, ()):
            for tier in part.tiers:
                others = [route for route in tier if route not in avoided and route.route_id not in out]
                if others:
                    return self._one_of(plane, Group(others))
        if part.group is None:
            raise self._nobody(plane, part)
        return self._one_of(plane, part.group)

    def pick_elsewhere(self, plane: Plane, avoided: Endpoint) -> Route:
        """As `pick_again` for what has been over one link in vain; the uplink may be asked twice, because there are
        others behind it. Raises NoRoute."""
        routes = [route for tier in self.part.tiers for route in tier]
        behind = [route for route in routes if route.owner is avoided]
        if len(behind) == len(routes) and avoided.side != UPLINK:
            raise self._nobody(plane, self.part)
        return self.pick_again(plane, self.part, behind)

    def _one_of(self, plane: Plane, group: Group) -> Route:
        key = self._key
        route = pick(group, self._method, self._random) if key is None else shard(group, key)
        if self._leased and not leasing.may_send(route.owner, plane.monotonic()):  # type: ignore[arg-type]
            return leasing.pick(group, plane.monotonic())
        return route

    def _pick_leased(self, plane: Plane, part: Part) -> Route:
        group = part.group
        assert group is not None
        now = plane.monotonic()
        if part.fixed is not None:
            if not leasing.may_send(part.fixed.owner, now):  # type: ignore[arg-type]
                raise leasing.exhausted()
            return part.fixed
        if self._method is not Method.LEAST_PENDING:
            route = pick(group, self._method, self._random)
            if leasing.may_send(route.owner, now):  # type: ignore[arg-type]
                return route
        return leasing.pick(group, now)

    def _draw_by(self, choices: Choices, rules: ServiceRules, rule: RouteRule) -> None:
        """Settle how a part is drawn, if there are several: by a sequence, or by the caller's key, always the same."""
        if len(self.parts) == 1:
            return
        named = {part.subset for part in self.parts}
        among = [index for index, destination in enumerate(rule.to) if destination.subset in named]
        if not any(rule.to[index].weight for index in among):
            # A request that names what weighs nothing has asked for it.
            return
        split = choices.split(rule, among)
        if self._key is None:
            self._split = split
        else:
            self.part = self.parts[split.at(_mixed(crc32(self._key, crc32(rules.name.encode()))))]

    def _arrange(self) -> None:
        """See whom each part picks from: the nearest tier in which somebody is left; all of the nearest where everybody
        is ejected."""
        choices = self._choices
        self._version = choices.version
        out = choices.out
        for part in self.parts if self.mirror is None else (*self.parts, self.mirror):
            serving = None
            for tier in part.tiers:
                left = [route for route in tier if route.route_id not in out] if out else tier
                if left:
                    serving = left
                    break
            if serving is None and part.tiers:
                serving = part.tiers[0]
            part.group = None if serving is None else choices.group(serving, self._generation)
            part.fixed = None if part.group is None or self._key is None else shard(part.group, self._key)

    def _nobody(self, plane: Plane, part: Part) -> NoRoute:
        why = plane.links.why_not() if plane.links is not None else ""
        labels = ", ".join(f"{key}={value}" for key, value in part.labels)
        error = NoRoute(
            f"no route: Service/{self._name} sends this to subset {part.subset} ({labels}), and nobody is in it{why}",
            reason="empty_subset",
        )
        error.address = self._address.narrowed(part.labels)
        return error


def entry_of(subset: str, labels: Query) -> bytes:
    """The metadata entry by which a node tells the next one which part a request belongs to."""
    return encode_composite([(SUBSET, encode_routing([subset, *(f"{key}={value}" for key, value in labels)]))])


def _parts(
    plane: Plane,
    requester: Endpoint,
    decision: Decision,
    rules: ServiceRules,
    rule: RouteRule,
    routes: Sequence[Route],
) -> list[Part]:
    """The destinations of a rule with whoever may serve them; never none."""
    if all(route.owner.side == UPLINK for route in routes):  # type: ignore[attr-defined]
        return [Part("", (), [list(routes)], passes=True, told=False)]
    if decision.subset:
        return [_part(plane, requester, rules, "", routes, named=decision.subset)]
    found = [_part(plane, requester, rules, destination.subset, routes) for destination in rule.to]
    if any(key != SERVICE_NAME for key, _ in decision.address.tags):
        # Who names instances by their tags has chosen: weights hold among the parts that this leaves.
        found = [part for part in found if part.tiers] or [_part(plane, requester, rules, "", routes)]
    return found


def _part(
    plane: Plane, requester: Endpoint, rules: ServiceRules, subset: str, routes: Sequence[Route], named: str = ""
) -> Part:
    """A subset, or with "" all of them; `named`: what all of them are called, as a node before has said."""
    place = _place(plane, requester)
    labels: Query = next((query_of(each.labels) for each in rules.subsets if each.name == subset), ())
    distances = {route: _distance(rules.failover, place, requester, route) for route in routes if route.matches(labels)}
    return Part(subset or named, labels, tiers(distances, distances), passes=False, told=bool(subset))


def _place(plane: Plane, requester: Endpoint) -> Mapping[str, str]:
    """Where a request comes from. A caller's own labels say what its node's do not."""
    if requester.side != LOCAL:
        return requester.place or plane.labels
    return {**dict(requester.grant.principal.labels), **plane.labels}


def _distance(levels: Sequence[str], place: Mapping[str, str], requester: Endpoint, route: Route) -> int:
    side: int = route.owner.side  # type: ignore[attr-defined]
    if not levels:
        return side
    if side == UPLINK:
        return len(levels) + 1
    if side == LOCAL == requester.side and not any(level in route.tags for level in levels):
        return 0
    return distance(levels, place, route.tags)


def _key_of(name: str, requester: Endpoint, decision: Decision) -> bytes | None:
    """What the instance goes by; None where the request has no such thing, and is balanced."""
    if decision.shard_key is not None:
        return decision.shard_key
    if not name:
        return None
    if name in _CALLER:
        return caller_of(requester, decision.identity).subject.encode()
    if name == _ROUTE:
        return decision.address.route.encode()
    return None if decision.hashed is None else decision.hashed.encode()


def _mixed(hash: int) -> int:
    """CRC-32 of similar keys is similar: MurmurHash3's 32-bit finaliser."""
    hash = ((hash ^ (hash >> 16)) * 0x85EBCA6B) & _MASK
    hash = ((hash ^ (hash >> 13)) * 0xC2B2AE35) & _MASK
    return hash ^ (hash >> 16)
