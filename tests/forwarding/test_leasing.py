"""Leases in the data plane, bytes in and bytes out: what requesters are lent, and which responders are asked (P36)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.forwarding.leasing import GENEROUS
from gateway.policy.overload import Overload
from gateway.policy.principal import Kind
from gateway.session.lease import TTL_S
from gateway.wire.frames import (
    Error,
    Frame,
    KeepAlive,
    Lease,
    Payload,
    RequestFnf,
    RequestResponse,
    Resume,
    ResumeOk,
    Setup,
    encode,
)
from gateway.wire.mimetypes import COMPOSITE
from tests.forwarding.plane_of import Peer, Site, credentials, item, to_all, to_route

REJECTED = 0x202
TTL_MS = int(TTL_S * 1000)
TOKEN = b"0123456789abcdef"


def leased(
    site: Site,
    kind: Kind = Kind.SERVICE,
    *,
    serves: tuple[str, ...] = (),
    resume: bytes | None = None,
    subject: str = "x",
) -> Peer:
    """A peer whose SETUP asked for leases and that has got none yet."""
    peer = site.dial()
    metadata = credentials(site.token(subject, kind), [site.registration(name) for name in serves])
    peer.send(Setup(20_000, 90_000, COMPOSITE, "a/b", metadata, resume_token=resume, lease=True))
    return peer


def lent(peer: Peer) -> Lease:
    """The only frame that came, which is a lease."""
    lease = peer.one()
    assert isinstance(lease, Lease), lease
    return lease


def asked(peer: Peer) -> list[Frame]:
    """The requests that came to a responder; what it is lent itself is left out."""
    return [frame for frame in peer.got() if not isinstance(frame, Lease)]


def refusal(caller: Peer, to: str = "lamp.state") -> Error:
    """What a request that must be refused gets."""
    stream_id = caller.respond(to)
    error = caller.one()
    assert isinstance(error, Error)
    assert (error.stream_id, error.code) == (stream_id, REJECTED)
    return error


class TestLending:
    """The node as responder."""

    @pytest.mark.parametrize(("kind", "requests"), [(Kind.DEVICE, 100), (Kind.SERVICE, GENEROUS)])
    def test_a_setup_that_asks_gets_one(self, site: Site, kind: Kind, requests: int) -> None:
        """P06, P36: as many requests as the rate limit lets through at once."""
        assert lent(leased(site, kind)) == Lease(TTL_MS, requests)

    def test_no_other_gets_one(self, site: Site) -> None:
        """P36."""
        peer = site.connect()
        site.wait(TTL_S)
        assert peer.got() == []
        assert peer.connection.granted is peer.connection.held is None

    def test_beyond_the_count(self, site_with: Callable[..., Site]) -> None:
        """P36, fault 45: ERROR[REJECTED]; a fire-and-forget gets nothing (P35), and reaches nobody."""
        site = site_with(request_burst=8, requests_per_second=1)
        service = site.service("lamp")
        device = leased(site, Kind.DEVICE)
        assert lent(device).requests == 8
        for _ in range(8):
            device.respond("lamp.state")
        assert len(service.got()) == 8
        assert [frame for frame in device.got() if not isinstance(frame, Lease)] == []
        assert refusal(device).text == "over the lease, or without one"
        device.fire("lamp.set")
        assert device.got() == []
        assert service.got() == []
        assert site.counters.refusals == {"no_lease": 2}

    def test_beyond_the_time(self, site_with: Callable[..., Site]) -> None:
        """P36, fault 45: a lease that has expired allows nothing. The node renews its leases long before, unless there
        is nothing to lend."""
        site = site_with(request_burst=4, requests_per_second=1)
        device = leased(site, Kind.DEVICE)
        assert lent(device).requests == 4
        device.connection.tokens = -1000.0
        for _ in range(8):
            site.wait(TTL_S / 4)
            device.send(KeepAlive(False))
        assert device.got() == []
        refusal(device, "gateway.time")

    def test_one_that_keeps_to_it_is_never_refused(self, site_with: Callable[..., Site]) -> None:
        """P36: for two minutes, as many as it may; it gets through what its rate limit allows."""
        site = site_with(request_burst=20, requests_per_second=10, keepalive_burst=0)
        device = leased(site, Kind.DEVICE)
        left = ends_at = done = 0.0
        for _ in range(1200):
            for frame in device.got():
                if isinstance(frame, Lease):
                    left, ends_at = frame.requests, site.clock.now + frame.ttl_ms / 1000
                else:
                    assert isinstance(frame, Payload)
                    done += 1
            while left and site.clock.now < ends_at:
                left -= 1
                device.respond("gateway.time", turn=False)
            site.wait(0.1)
            device.send(KeepAlive(False))
        assert 1000 < done <= 20 + 1200

    def test_an_idle_one_has_one_at_all_times(self, site_with: Callable[..., Site]) -> None:
        """P36: renewed before it ends."""
        site = site_with(keepalive_burst=0)
        device = leased(site, Kind.DEVICE)
        ends_at = 0.0
        for _ in range(600):
            for frame in device.got():
                assert isinstance(frame, Lease)
                ends_at = site.clock.now + frame.ttl_ms / 1000
            assert site.clock.now < ends_at
            device.send(KeepAlive(False))
            site.wait(0.25)

    def test_fragments_are_one_request(self, site_with: Callable[..., Site]) -> None:
        """P36."""
        site = site_with(request_burst=4, requests_per_second=1)
        service = site.service("lamp")
        device = leased(site, Kind.DEVICE)
        device.send(RequestResponse(1, to_route("lamp.set"), bytes(80), follows=True))
        for _ in range(5):
            device.send(Payload(1, None, bytes(80), follows=True))
        device.send(Payload(1, None, b""))
        assert len(service.got()) == 7
        assert device.connection.granted is not None
        for _ in range(3):
            assert device.connection.granted.spend(site.clock.now)
        assert not device.connection.granted.spend(site.clock.now)

    @pytest.mark.parametrize(
        ("overload", "device", "service"), [(Overload.LATE, 25, 1024), (Overload.SHEDDING, 7, 256)]
    )
    def test_smaller_under_overload(self, site: Site, overload: Overload, device: int, service: int) -> None:
        """P36: what was lent before holds no longer, who comes now gets no more, and it is over when it is over."""
        kinds = {Kind.DEVICE: (device, 100), Kind.SERVICE: (service, GENEROUS)}
        before = {kind: leased(site, kind) for kind in kinds}
        for kind, peer in before.items():
            assert lent(peer).requests == kinds[kind][1]
        site.plane.strain(overload)
        site.plane.strain(overload)
        site.turn()
        for kind, peer in before.items():
            assert lent(peer) == Lease(TTL_MS, kinds[kind][0])
            assert lent(leased(site, kind, subject="y")).requests == kinds[kind][0]
        site.plane.strain(Overload.NONE)
        site.wait(TTL_S * 0.75)
        for kind, peer in before.items():
            peer.send(KeepAlive(False))
            assert lent(peer).requests == kinds[kind][1]

    def test_a_node_that_drains_stops_it(self, site: Site) -> None:
        """P36, fault 95: LEASE 0, then CONNECTION_CLOSE; what comes all the same was not processed."""
        device = leased(site, Kind.DEVICE)
        assert lent(device).requests
        site.plane.drain()
        site.turn()
        lease, goodbye = device.got()
        assert lease == Lease(0, 0)
        assert isinstance(goodbye, Error)
        assert (goodbye.stream_id, goodbye.code) == (0, 0x102)
        refusal(device, "gateway.time")


class TestHolding:
    """The node as requester."""

    def test_nothing_before_the_first(self, site: Site) -> None:
        """P36: a responder that asked for leases and has given none is asked nothing."""
        service = leased(site, serves=("lamp",))
        caller = site.connect()
        assert "takes no requests now" in refusal(caller).text
        assert asked(service) == []
        assert site.counters.refusals == {"no_lease": 1}

    def test_count(self, site: Site) -> None:
        """P36: no more than it lets, of any kind; the newest lease replaces the older."""
        service = leased(site, serves=("lamp",))
        caller = site.connect()
        service.send(Lease(10_000, 2))
        caller.respond("lamp.state")
        caller.fire("lamp.set")
        refusal(caller)
        caller.fire("lamp.set")
        assert [type(frame) for frame in asked(service)] == [RequestResponse, RequestFnf]
        service.send(Lease(10_000, 5), Lease(10_000, 1))
        caller.stream("lamp.watch")
        refusal(caller)
        assert len(asked(service)) == 1

    def test_time(self, site: Site) -> None:
        """P36, fault 45."""
        service = leased(site, serves=("lamp",))
        caller = site.connect()
        service.send(Lease(1_000, 5))
        site.clock.now += 0.999
        caller.respond("lamp.state")
        assert len(asked(service)) == 1
        site.clock.now += 0.001
        refusal(caller)
        assert asked(service) == []

    @pytest.mark.parametrize("stop", [Lease(0, 0), Lease(10_000, 0), Lease(0, 10)])
    def test_zero_stops(self, site: Site, stop: Lease) -> None:
        """P36."""
        service = leased(site, serves=("lamp",))
        caller = site.connect()
        service.send(Lease(10_000, 5), stop)
        refusal(caller)
        assert asked(service) == []

    def test_an_exhausted_one_is_asked_nothing_while_another_has_some_left(self, site: Site) -> None:
        """P36: all exhausted, ERROR[REJECTED]."""
        services = [leased(site, serves=("lamp",), subject=name) for name in "abc"]
        counts = [3, 0, 5]
        caller = site.connect()
        for service, count in zip(services, counts, strict=True):
            service.send(Lease(10_000, count))
        for _ in range(8):
            caller.respond("lamp.state")
        assert caller.got() == []
        refusal(caller)
        assert [len(asked(service)) for service in services] == counts

    def test_what_is_left_weighs(self, site: Site) -> None:
        """P36: one with a quarter of the other's lease gets a quarter of its requests, not every second one."""
        small, large = (leased(site, serves=("lamp",), subject=name) for name in "ab")
        small.send(Lease(10_000, 12))
        large.send(Lease(10_000, 48))
        caller = site.connect()
        for _ in range(30):
            caller.fire("lamp.set")
        few, many = len(asked(small)), len(asked(large))
        assert few + many == 30
        assert 3 * few < many

    def test_one_without_leases_takes_what_others_do_not(self, site: Site) -> None:
        """P36: it asked for none, so nothing limits it."""
        site_service = site.service("lamp")
        service = leased(site, serves=("lamp",))
        caller = site.connect()
        for _ in range(10):
            caller.respond("lamp.state")
        assert len(site_service.got()) == 10
        service.send(Lease(10_000, 100))
        for _ in range(10):
            caller.respond("lamp.state")
        assert len(asked(service)) == 10  # it has nothing to do yet

    def test_a_shard_that_is_exhausted(self, site: Site) -> None:
        """P36: its keys stay with it, so nobody else is asked."""
        services = [leased(site, serves=("lamp",), subject=name) for name in "ab"]
        for service in services:
            service.send(Lease(10_000, 1))
        caller = site.connect()
        metadata = to_route("lamp.state", "io.rsocket.broker.ShardKey=one")
        caller.respond("", metadata=metadata)
        assert caller.got() == []
        caller.respond("", metadata=metadata)
        assert caller.one().code == REJECTED
        assert sorted(len(asked(service)) for service in services) == [0, 1]

    def test_multicast_goes_to_those_with_some_left(self, site: Site) -> None:
        """P36."""
        services = [leased(site, serves=("lamp",), subject=name) for name in "abc"]
        for service, count in zip(services, (1, 2, 0), strict=True):
            service.send(Lease(10_000, count))
        caller = site.connect()
        for _ in range(2):
            caller.fire("", metadata=to_all("lamp"))
        assert [len(asked(service)) for service in services] == [1, 2, 0]
        stream_id = caller.stream("", metadata=to_all("lamp"))
        error = caller.one()
        assert (error.stream_id, error.code) == (stream_id, REJECTED)

    def test_a_malformed_lease(self, site: Site) -> None:
        service = leased(site, serves=("lamp",))
        service.got()
        service.send(encode(Lease(1, 1))[:-1])
        assert service.one().code == 0x101
        assert service.connection.closed


class TestResuming:
    def test_leases_do_not_survive_it(self, site: Site) -> None:
        """P36: neither side's; the node's next one follows RESUME_OK, and it asks nothing before the peer's."""
        device = leased(site, serves=("lamp",), resume=TOKEN)
        device.send(Lease(60_000, 10))
        caller = site.connect()
        device.got()
        device.vanish()
        refusal(caller)
        link = site.dial()
        link.send(Resume(TOKEN, 0, 0))
        ok, lease = link.got()
        assert ok == ResumeOk(0)
        assert lease == Lease(TTL_MS, GENEROUS)
        refusal(caller)
        link.send(Lease(60_000, 1))
        stream_id = caller.respond("lamp.state")
        (request,) = asked(link)
        assert isinstance(request, RequestResponse)
        link.send(item(request.stream_id, b"on", complete=True))
        assert caller.one() == item(stream_id, b"on", complete=True)
        refusal(caller)
