"""Copies of requests: seen by the mirror, heard by nobody."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway.forwarding.mirroring import MAX_ITEMS, MAX_OPEN, MAX_S
from gateway.policy.traffic import Destination, Mirror, RouteRule
from gateway.wire.frames import Cancel, Error, RequestFnf, RequestResponse, RequestStream
from tests.forwarding.plane_of import Peer, Site, item
from tests.forwarding.test_choosing import fire, govern, instance, rules, served


def mirrored(site: Site, share: float = 1.0) -> tuple[Peer, Peer]:
    """Who serves, and who gets copies."""
    serving, shadow = instance(site, 1), instance(site, 2, "2")
    govern(site, rules(RouteRule("all", to=(Destination("stable"),), mirror=Mirror("canary", share))))
    return serving, shadow


def counted(site: Site) -> Counter[str]:
    governor = site.plane.governor
    assert governor is not None
    state = governor.state("echo")
    assert state is not None
    return state.mirrors


def test_a_copy_is_the_request_and_its_answer_goes_nowhere(site: Site) -> None:
    serving, shadow = mirrored(site)
    caller = site.connect()
    stream_id = caller.respond("echo", b"hello")
    asked, copied = serving.one(), shadow.one()
    assert isinstance(copied, RequestResponse)
    assert (copied.data, copied.metadata) == (asked.data, asked.metadata)
    shadow.send(item(copied.stream_id, b"from the mirror", complete=True))
    assert caller.got() == []
    serving.send(item(asked.stream_id, b"hello", complete=True))
    assert caller.one() == item(stream_id, b"hello", complete=True)
    assert counted(site) == {"sent": 1}
    # The mirror's part of the service is not charged with it.
    assert site.metrics.guards["echo"].mirrors["sent"] == 1


def test_failures_of_the_mirror_hurt_nobody(site: Site) -> None:
    serving, shadow = mirrored(site)
    caller = site.connect()
    stream_id = caller.respond("echo")
    shadow.send(Error(shadow.one().stream_id, 0x201, "broken"))
    caller.respond("echo")
    shadow.vanish()
    first, second = serving.got()
    for asked in (first, second):
        serving.send(item(asked.stream_id, b"well", complete=True))
    assert [frame.data for frame in caller.got()] == [b"well", b"well"]  # type: ignore[union-attr]
    assert site.mirrors.open == 0
    # Nobody is left to copy to.
    assert caller.respond("echo") > stream_id
    serving.send(item(serving.one().stream_id, complete=True))
    assert counted(site) == {"sent": 2, "empty_subset": 1}


def test_fire_and_forget_is_copied(site: Site) -> None:
    serving, shadow = mirrored(site)
    site.connect().fire("echo", b"hello")
    for each in (serving, shadow):
        frame = each.one()
        assert isinstance(frame, RequestFnf)
        assert frame.data == b"hello"
    assert site.mirrors.open == 0


@pytest.mark.parametrize(("asked", "given"), [(3, 3), (1000, MAX_ITEMS)])
def test_a_stream_gives_the_mirror_as_much_as_was_asked_for_at_first(site: Site, asked: int, given: int) -> None:
    serving, shadow = mirrored(site)
    caller = site.connect()
    caller.stream("echo", asked)
    copied = shadow.one()
    assert isinstance(copied, RequestStream)
    assert copied.initial_n == given
    for _ in range(given):
        shadow.send(item(copied.stream_id, b"x"))
    assert isinstance(shadow.got()[-1], Cancel)
    assert caller.got() == []
    assert site.mirrors.open == 0
    serving.send(item(serving.one().stream_id, complete=True))


def test_a_share_is_copied(site: Site) -> None:
    serving, shadow = mirrored(site, 0.1)
    fire(site, site.connect(), 100)
    assert served([serving, shadow]) == [100, pytest.approx(10, abs=2)]


def test_copies_are_bounded_in_number_and_in_time(site: Site) -> None:
    serving, shadow = mirrored(site)
    caller = site.connect()
    for _ in range(MAX_OPEN + 5):
        caller.respond("echo", turn=False)
    site.turn()
    assert served([serving, shadow]) == [MAX_OPEN + 5, MAX_OPEN]
    assert counted(site) == {"sent": MAX_OPEN, "too_many": 5}
    site.wait(MAX_S + 1)
    site.wait(MAX_S + 1)
    assert site.mirrors.open == 0
    assert all(isinstance(frame, Cancel) for frame in shadow.got())
    caller.respond("echo")
    assert served([shadow]) == [1]


def test_what_is_not_whole_is_not_copied(site: Site) -> None:
    serving, shadow = mirrored(site)
    caller = site.connect()
    caller.channel("echo", complete=True)
    caller.respond("echo", b"x" * 100, follows=True)
    assert served([serving, shadow]) == [2, 0]
    assert counted(site) == {"channel": 1, "fragments": 1}


def test_a_mirror_that_does_not_read_gets_no_more(site: Site) -> None:
    serving, shadow = mirrored(site)
    shadow.connection.outbox.slow = True
    site.connect().respond("echo")
    assert served([serving, shadow]) == [1, 0]
    assert counted(site) == {"responder_slow": 1}
    shadow.connection.outbox.slow = False
