"""The cached answer for one request metadata on one connection: allowed or not, and to which candidates.

A decision holds while the routing table's generation stands. When that moves, the address is located again, which is a
few dictionary lookups; only when another group answers, or the group has changed, are permissions asked again. Grants
change by a new snapshot, which drops every connection's decisions whole (`Plane.publish`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gateway.errors import NoRoute, NotPermitted, RequestInvalid
from gateway.forwarding import judging, leasing
from gateway.forwarding.governed import govern
from gateway.forwarding.links import DOWNLINK, LOCAL, UPLINK, toward
from gateway.forwarding.stamp import Deciding, Form, rewrite
from gateway.routing.address import Address, address_from
from gateway.routing.balancer import Method, fan_out, pick, shard
from gateway.routing.group import Group
from gateway.routing.locator import locate
from gateway.routing.route import Route
from gateway.routing.tags import Tag, canonical_tag, query_of
from gateway.wire import brokering
from gateway.wire.brokering import Cast
from gateway.wire.metadata import decode_routing

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.endpoint import Endpoint
    from gateway.forwarding.governed import Governed
    from gateway.forwarding.plane import Plane
    from gateway.forwarding.sampling import Sampler
    from gateway.observe.metrics import ServiceStats

#: Decisions kept a connection; a client that addresses more at random pays for the misses itself.
CAPACITY = 256
#: Kept a link, over which the requests of many callers come.
LINK_CAPACITY = 16_384


class Decision:
    """`generation`: the table's when this was last known to hold. `leased`: some candidates take requests by lease.
    `stats`: the counters of the service asked for, or None when the candidates belong to several services. `sections`:
    by target form, the metadata section that goes out (its length, then the metadata), for requests whose metadata is
    nothing but what decides. `told`: who takes the request is one of the node's own and is told of each stream
    (`Endpoint.spread`), of fire-and-forget too: multicast, or the spool. `posted`: it is for requests that are to go
    through the spool, if a document takes them. `identity`: the content of the principal entry of a request that came
    over a link. `governed`: what a `Service` document says of the requests; None: nothing. `variants`: where documents
    make a difference between interactions, a decision for each (`interaction`: its request's frame type; 0: it is for
    all). `tags`: all that its requests carry, as access rules ask for them. `noted`: an access rule wants to be told of
    each request, so each is decided anew. `subset`: the part of the service that the node before has drawn; `hashed`:
    the value of the tag that a document balances by. `sampler`: which are recorded as parts of a trace; None: none."""

    __slots__ = (
        "_candidates",
        "_follows",
        "_group",
        "_version",
        "address",
        "generation",
        "governed",
        "hashed",
        "identity",
        "interaction",
        "leased",
        "method",
        "multicast",
        "noted",
        "posted",
        "sampler",
        "sections",
        "shard_key",
        "stats",
        "subset",
        "tags",
        "told",
        "variants",
    )

    def __init__(
        self,
        address: Address,
        default: Method,
        identity: bytes | None = None,
        *,
        posted: bool = False,
        interaction: int = 0,
        tags: tuple[Tag, ...] = (),
        subset: str = "",
        hashed: str | None = None,
    ) -> None:
        self.address = address
        self.posted = posted
        self.identity = identity
        self.multicast = address.cast is Cast.MULTICAST
        self.method = address.balancer or default
        self.shard_key = address.shard_key
        self.generation = -1
        self.leased = False
        self.told = self.multicast
        self.stats: ServiceStats | None = None
        self.sections: list[bytes | None] = [None] * len(Form)
        self.interaction = interaction
        self.tags = tags
        self.noted = False
        self.subset = subset
        self.hashed = hashed
        self.governed: Governed | None = None
        self.variants: dict[int, Decision] | None = None
        self.sampler: Sampler | None = None
        self._group: Group | None = None
        self._version = -1
        self._follows = False
        self._candidates = Group()

    @property
    def first(self) -> Route:
        """Any candidate: they share the counters of a multicast request."""
        return self._candidates.routes[0]

    def spread(self) -> list[Route]:
        """One route for each connection that a multicast request goes to."""
        return fan_out(self._candidates)

    def refresh(self, plane: Plane, requester: Endpoint) -> None:
        """Make the decision hold again. Raises NoRoute or NotPermitted; it is then asked again at the next request."""
        table = plane.table
        if plane.links is not None:
            if requester.side != LOCAL:
                plane.links.vouch(cast("Connection", requester), self.identity)
            if requester.side <= DOWNLINK:
                plane.links.look(self.address)
        try:
            group = self._locate(plane, requester)
        except NoRoute as error:
            raise self._nobody(plane) from error
        if group is not self._group or group.version != self._version:
            self._permit(group, requester, plane)
            self._group = group
            self._version = group.version
        if self._follows:
            self.told = True
        self.generation = table.generation

    def variant(self, interaction: int, plane: Plane, requester: Endpoint) -> Decision:
        """The decision for requests of one interaction. Raises NoRoute or NotPermitted."""
        assert self.variants is not None
        found = self.variants.get(interaction)
        if found is None:
            found = Decision(
                self.address,
                plane.balancing,
                self.identity,
                posted=self.posted,
                interaction=interaction,
                tags=self.tags,
                subset=self.subset,
                hashed=self.hashed,
            )
        if found.generation != plane.table.generation:
            found.refresh(plane, requester)
        if not found.noted:
            self.variants[interaction] = found
        return found

    def names(self, responder: Endpoint) -> list[str]:
        """The names by which who serves a stream may have been chosen; of multicast, those of all who were."""
        routes = self._candidates.routes
        if not self.multicast:
            # Who has left, or is none of them, may have been any.
            routes = [route for route in routes if route.owner is responder] or routes
        return list(dict.fromkeys(route.service or route.subject for route in routes))

    def _locate(self, plane: Plane, requester: Endpoint) -> Group:
        """Who serves the address; the spool where nobody does, as far as can be known, or where others wait already.

        Never the spool for what came over a link: its caller's node has decided whether it waits.
        """
        intake = plane.intake
        if intake is None or self.multicast or requester.side != LOCAL:
            self.told = self.multicast
            return locate(plane.table, self.address)
        self.told = True
        if self.posted:
            kept = intake.candidates_of_posts(self.address)
            if kept is not None:
                return kept
        try:
            group = locate(plane.table, self.address)
        except NoRoute:
            kept = intake.candidates(self.address, here=True)
            if kept is not None:
                return kept
            links = plane.links
            if links is not None and not requester.asking_again and links.would_ask(self.address):
                raise
            kept = intake.candidates(self.address, here=False)
            if kept is None:
                raise
            return kept
        kept = intake.candidates(self.address, here=True)
        if kept is not None:
            return kept
        self.told = False
        return group

    def pick(self, plane: Plane) -> Route:
        """Choose one candidate. Raises NoRoute when the last one has left, Overloaded when none has a lease left."""
        if self.leased:
            return self._pick_leased(plane)
        if self.shard_key is not None:
            return shard(self._candidates, self.shard_key)
        return pick(self._candidates, self.method, plane.random)

    def pick_by(self, plane: Plane, key: bytes) -> Route:
        """Choose as for a shard: the same one for the same key while it is there. Raises NoRoute."""
        return shard(self._candidates, key)

    def pick_other(self, plane: Plane, avoided: Endpoint) -> Route:
        """Choose a candidate elsewhere, for a request that has been there in vain. Raises NoRoute where there is none.

        The uplink may be asked twice: there are others behind it.
        """
        others = [route for route in self._candidates.routes if route.owner is not avoided]
        if not others and avoided.side == UPLINK:
            return self.pick(plane)
        if not others:
            raise self._nobody(plane)
        return pick(Group(others), self.method, plane.random)

    def _nobody(self, plane: Plane) -> NoRoute:
        why = plane.links.why_not() if plane.links is not None else ""
        error = NoRoute(f"no route to {self.address}{why}")
        error.address = self.address
        return error

    def _pick_leased(self, plane: Plane) -> Route:
        now = plane.monotonic()
        if self.shard_key is None:
            return leasing.pick(self._candidates, now)
        route = shard(self._candidates, self.shard_key)
        if not leasing.may_send(route.owner, now):  # type: ignore[arg-type]
            raise leasing.exhausted()
        return route

    def _permit(self, group: Group, requester: Endpoint, plane: Plane) -> None:
        route = self.address.route
        grant = requester.grant
        verdicts: dict[str, bool] = {}
        judgement = plane.judgement
        caller = judging.caller_of(requester, self.identity) if judgement else None
        denied = None
        noted = False
        if plane.links is not None:
            # Where a document splits, subsets are looked for everywhere, and who is near is seen then.
            everywhere = self.multicast or self.shard_key is not None or plane.governs(group.routes[0].service)
            ahead = toward(requester, group.routes, everywhere=everywhere)
            if not ahead:
                raise self._nobody(plane)
            if len(ahead) < len(group):
                group = Group(ahead)
            if any(candidate.owner.side != LOCAL for candidate in ahead):  # type: ignore[attr-defined]
                plane.links.announce()
        for candidate in group.routes:
            name = candidate.service or candidate.subject
            if name not in verdicts:
                if not self.interaction and (plane.governance.by_interaction(name) or judgement.by_interaction):
                    # Each interaction is judged by itself.
                    self._candidates = group
                    self.variants = {}
                    self.governed = None
                    self.sampler = None
                    return
                verdicts[name] = grant.may_call(name, route)
                if caller is not None and verdicts[name]:
                    verdict = judging.judge(plane, caller, self, name)
                    if not verdict.allowed:
                        verdicts[name] = False
                        denied = verdict
                    elif judging.note(plane, verdict):
                        noted = True
                        judging.tell(requester, self, candidate, verdict)
        if not any(verdicts.values()):
            if caller is not None and denied is not None:
                raise judging.refusal(plane, caller, f"call {self.address}", denied)
            raise NotPermitted(f"{grant.principal.subject} may not call {self.address}")
        if all(verdicts.values()):
            self._candidates = group
        else:
            # Only what the caller may reach is a candidate; the group's own members stay hidden from it.
            self._candidates = Group(c for c in group.routes if verdicts[c.service or c.subject])
        self.variants = None
        self.noted = noted
        self._follows = judgement.topics and any(
            candidate.owner.judges_topics  # type: ignore[attr-defined]
            for candidate in self._candidates.routes
        )
        self.sampler = None if plane.tracing is None else plane.tracing.sampler(self._candidates.routes[0])
        # They hold what the rule before allowed, too.
        self.sections = [None] * len(Form)
        self.leased = any(map(leasing.is_leased, self._candidates.routes))
        self.governed = govern(plane, requester, self, self._candidates)
        rule = "" if self.governed is None or self.governed.rule is None else self.governed.rule.name
        labels = {plane.stats_of(each, requester, self.identity, rule) for each in self._candidates.routes}
        self.stats = labels.pop() if len(labels) == 1 else None


def decide(plane: Plane, deciding: Deciding, requester: Endpoint, max_route_bytes: int) -> Decision:
    """Answer a metadata that the cache does not know.

    Raises RequestInvalid when it names nobody or breaks a limit, NoRoute, NotPermitted, or FrameError when malformed.
    """
    tags: tuple[str, ...] = ()
    if deciding.routing is not None:
        tags = decode_routing(deciding.routing)
        if tags and len(tags[0].encode()) > max_route_bytes:
            raise RequestInvalid(f"route is over the limit of {max_route_bytes} bytes", reason="max_route_bytes")
    broker_address = None
    if deciding.broker is not None:
        frame = brokering.decode(deciding.broker)
        if isinstance(frame, brokering.Address):
            broker_address = frame
    address = address_from(tags, broker_address)
    pairs = [tag.partition("=") for tag in tags[1:]]
    carried = [(key, value) for key, separator, value in pairs if separator]
    if broker_address is not None:
        carried += broker_address.tags
    subset, hashed = "", None
    if deciding.subset is not None:
        subset, *labels = decode_routing(deciding.subset) or ("",)
        address = address.narrowed(query_of(canonical_tag(*label.partition("=")[::2]) for label in labels))
    if plane.governor is not None:
        address, hashed = plane.governor.keyed(plane.table, address)
    decision = Decision(
        address,
        plane.balancing,
        deciding.identity,
        posted=deciding.posted,
        tags=tuple(dict.fromkeys(carried)),
        subset=subset,
        hashed=hashed,
    )
    decision.refresh(plane, requester)
    return decision


def section(decision: Decision, metadata: bytes, varying: bool, source: int, target: int, stamp: bytes | None) -> bytes:
    """The metadata section for a responder of form `target`: a 24-bit length and the metadata, empty for none."""
    rewritten = rewrite(metadata, source, target, stamp)
    with_length = len(rewritten).to_bytes(3, "big") + rewritten if rewritten else b""
    if not varying:
        decision.sections[target] = with_length
    return with_length
