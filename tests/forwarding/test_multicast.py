"""One request, many responders: what each interaction model means, and that nothing of it is left behind.

The fixture `site` checks after each test that no leg, hop or merge is left.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forwarding.closing import CloseReason
from gateway.policy.principal import Kind
from gateway.wire.brokering import Cast
from gateway.wire.frames import (
    FOLLOWS,
    MAX_FRAME_BYTES,
    MAX_REQUEST_N,
    METADATA,
    Cancel,
    Error,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestN,
    RequestResponse,
    RequestStream,
    encode,
)
from gateway.wire.metadata import encode_composite
from gateway.wire.mimetypes import ROUTING
from tests.forwarding.plane_of import (
    TCP,
    Peer,
    Site,
    complete,
    entries_of,
    item,
    stamp,
    to_all,
    to_route,
    to_tags,
)

ALL = to_all("lamp")
STAMP = encode_composite([stamp()])


@pytest.fixture
def caller(site: Site) -> Peer:
    return site.connect()


@pytest.fixture
def lamps(site: Site) -> list[Peer]:
    return [site.service("lamp", f"lamp-{number}", prefixed=bool(number % 2)) for number in range(3)]


def asked(lamps: list[Peer]) -> list[Any]:
    """The only frame that each has got."""
    return [lamp.one() for lamp in lamps]


def silent(lamps: list[Peer]) -> bool:
    return all(lamp.got() == [] for lamp in lamps)


# Fire-and-forget


def test_fire_and_forget_reaches_everybody(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P35."""
    caller.fire("", b"on", metadata=ALL)
    assert asked(lamps) == [RequestFnf(2, ALL + STAMP, b"on")] * 3
    assert caller.got() == []
    assert site.open_streams() == 0
    assert site.metrics.services["lamp"].ok == 1


def test_fire_and_forget_in_fragments(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P40."""
    stream_id = caller.fire("", b"a" * 64, metadata=ALL, follows=True)
    assert [frame.follows for frame in asked(lamps)] == [True] * 3
    caller.send(item(stream_id, b"b" * 64, follows=True))
    assert asked(lamps) == [item(2, b"b" * 64, follows=True)] * 3
    assert site.open_streams() == 4
    caller.send(item(stream_id, b"c"))
    assert asked(lamps) == [item(2, b"c")] * 3
    assert caller.got() == []
    assert site.open_streams() == 0


def test_a_caller_that_goes_amid_fire_and_forget(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P41: what was there is dropped."""
    caller.fire("", b"a" * 64, metadata=ALL, follows=True)
    asked(lamps)
    caller.vanish()
    assert asked(lamps) == [Cancel(2)] * 3


def test_a_caller_that_goes_in_the_turn_of_its_fire_and_forget(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """It was sent, so it arrives."""
    caller.fire("", b"on", metadata=ALL, turn=False)
    caller.vanish()
    assert [frame.data for frame in asked(lamps)] == [b"on"] * 3


def test_a_responder_that_goes_amid_fire_and_forget(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.fire("", b"a" * 64, metadata=ALL, follows=True)
    asked(lamps)
    lamps[0].vanish()
    caller.send(item(stream_id, b"c"))
    assert asked(lamps[1:]) == [item(2, b"c")] * 2
    assert caller.got() == []


def test_a_connection_with_several_matching_services_gets_one_copy(site: Site, caller: Peer) -> None:
    peer = site.connect("both", serves=[site.registration("lamp", room="1"), site.registration("lamp", room="2")])
    other = site.service("lamp")
    caller.fire("", b"on", metadata=ALL)
    assert len(peer.got()) == len(other.got()) == 1


# Request/response


def test_the_first_answer_wins_and_the_rest_are_canceled(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.respond("", b"state?", metadata=ALL)
    assert asked(lamps) == [RequestResponse(2, ALL + STAMP, b"state?")] * 3
    lamps[1].send(item(2, b"on", complete=True))
    assert caller.got() == [item(stream_id, b"on", complete=True)]
    assert lamps[0].got() == lamps[2].got() == [Cancel(2)]
    assert lamps[1].got() == []
    lamps[0].send(item(2, b"late", complete=True))
    assert caller.got() == []
    assert site.metrics.services["lamp"].ok == 1


def test_two_answers_in_one_turn(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """Both are here before either is looked at: one goes on."""
    stream_id = caller.respond("", metadata=ALL)
    asked(lamps)
    for lamp in lamps:
        lamp.send(item(2, lamp.connection.principal.subject.encode(), complete=True), turn=False)
    site.turn()
    assert caller.got() == [item(stream_id, b"lamp-0", complete=True)]
    assert silent(lamps)


def test_an_answer_in_fragments_wins_with_its_first(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P40, P41: no fragment of another answer gets between."""
    stream_id = caller.respond("", metadata=ALL)
    asked(lamps)
    lamps[2].send(item(2, b"a" * 64, follows=True))
    lamps[0].send(item(2, b"late", complete=True))
    lamps[2].send(item(2, b"b", complete=True))
    assert caller.got() == [item(stream_id, b"a" * 64, follows=True), item(stream_id, b"b", complete=True)]


def test_a_winner_that_goes_amid_its_answer(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.respond("", metadata=ALL)
    asked(lamps)
    lamps[2].send(item(2, b"a" * 64, follows=True))
    lamps[2].vanish()
    assert caller.got() == [
        item(stream_id, b"a" * 64, follows=True),
        Error(stream_id, 0x203, "responder disconnected"),
    ]


def test_only_when_all_fail_is_there_an_error(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """The last one, with its own code and text."""
    stream_id = caller.respond("", metadata=ALL)
    asked(lamps)
    lamps[0].send(Error(2, 0x201, "broken"))
    lamps[1].vanish()
    assert caller.got() == []
    lamps[2].send(Error(2, 0x777, "mine"))
    assert caller.got() == [Error(stream_id, 0x777, "mine")]
    assert site.metrics.services["lamp"].failed == 1


def test_a_failure_does_not_win(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.respond("", metadata=ALL)
    asked(lamps)
    lamps[0].send(Error(2, 0x201, "broken"))
    lamps[1].send(item(2, b"on", complete=True))
    assert caller.got() == [item(stream_id, b"on", complete=True)]


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_a_caller_that_cancels_cancels_every_leg(site: Site, caller: Peer, lamps: list[Peer], ask: str) -> None:
    stream_id = getattr(caller, ask)("", metadata=ALL)
    asked(lamps)
    caller.send(Cancel(stream_id))
    assert asked(lamps) == [Cancel(2)] * 3
    assert caller.got() == []
    assert site.open_streams() == 0


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_an_answer_that_crosses_the_callers_cancel(site: Site, caller: Peer, lamps: list[Peer], ask: str) -> None:
    """In one turn: whatever comes first, the caller gets nothing behind its CANCEL."""
    stream_id = getattr(caller, ask)("", metadata=ALL)
    asked(lamps)
    lamps[0].send(item(2, b"on", complete=True), turn=False)
    caller.send(Cancel(stream_id), turn=False)
    site.turn()
    assert caller.got() == []


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_a_caller_that_goes_cancels_every_leg(site: Site, caller: Peer, lamps: list[Peer], ask: str) -> None:
    getattr(caller, ask)("", metadata=ALL)
    asked(lamps)
    caller.vanish()
    assert asked(lamps) == [Cancel(2)] * 3


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_a_caller_that_goes_in_the_turn_of_its_request(site: Site, caller: Peer, lamps: list[Peer], ask: str) -> None:
    """Legs that were opened for nobody are canceled again."""
    getattr(caller, ask)("", metadata=ALL, turn=False)
    caller.vanish()
    for lamp in lamps:
        assert lamp.got()[1:] == [Cancel(2)]


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_candidates_that_go_in_the_turn_of_the_request(site: Site, caller: Peer, lamps: list[Peer], ask: str) -> None:
    """Those who are left are asked; when none is, the request is refused, which promises that nobody processed it."""
    stream_id = getattr(caller, ask)("", metadata=ALL, turn=False)
    lamps[0].connection.lost(CloseReason.PEER_RESET)
    site.turn()
    assert lamps[0].got() == []
    asked(lamps[1:])
    caller.send(Cancel(stream_id))
    stream_id = getattr(caller, ask)("", metadata=ALL, turn=False)
    for lamp in lamps[1:]:
        lamp.connection.lost(CloseReason.PEER_RESET)
    site.turn()
    error = caller.one()
    assert (error.stream_id, error.code) == (stream_id, 0x202)


def test_candidates_that_go_in_the_turn_of_a_fire_and_forget(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P35."""
    caller.fire("", metadata=ALL, turn=False)
    for lamp in lamps:
        lamp.connection.lost(CloseReason.PEER_RESET)
    site.turn()
    assert caller.got() == []
    assert site.open_streams() == 0


def test_nobody_to_ask(site: Site, caller: Peer) -> None:
    stream_id = caller.respond("", metadata=ALL)
    error = caller.one()
    assert (error.stream_id, error.code) == (stream_id, 0x202)
    assert "no route to" in error.text


# Streams


def test_items_are_merged_in_the_order_in_which_they_come(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.stream("", 100, metadata=ALL)
    assert [frame.initial_n for frame in asked(lamps)] == [64 // 3] * 3
    for number, lamp in enumerate([lamps[2], lamps[0], lamps[2], lamps[1]]):
        lamp.send(item(2, b"%d" % number))
    assert caller.got() == [item(stream_id, b"%d" % number) for number in range(4)]


def test_a_merged_stream_completes_when_every_leg_has(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.stream("", 100, metadata=ALL)
    asked(lamps)
    lamps[0].send(item(2, b"a", complete=True))
    lamps[1].send(complete(2))
    assert caller.got() == [item(stream_id, b"a")]
    lamps[2].send(item(2, b"b"), complete(2))
    assert caller.got() == [item(stream_id, b"b"), complete(stream_id)]
    assert site.metrics.services["lamp"].ok == 1


def test_a_leg_that_fails_ends_alone(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.stream("", 100, metadata=ALL)
    asked(lamps)
    lamps[0].send(item(2, b"a"), Error(2, 0x201, "broken"))
    lamps[1].vanish()
    lamps[2].send(item(2, b"b"), complete(2))
    assert caller.got() == [item(stream_id, b"a"), item(stream_id, b"b"), complete(stream_id)]


def test_a_merged_stream_fails_when_all_legs_fail(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.stream("", 100, metadata=ALL)
    asked(lamps)
    for number, lamp in enumerate(lamps):
        lamp.send(item(2, b"a"), Error(2, 0x301 + number, "broken"))
    assert caller.got() == [item(stream_id, b"a")] * 3 + [Error(stream_id, 0x303, "broken")]


def test_no_more_goes_out_than_was_asked_for(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P31: legs are asked for a little ahead, but the requester gets what it asked for."""
    stream_id = caller.stream("", 1, metadata=ALL)
    assert [frame.initial_n for frame in asked(lamps)] == [1] * 3
    for lamp in lamps:
        lamp.send(item(2, b"a"))
    assert caller.got() == [item(stream_id, b"a")]
    assert silent(lamps)
    caller.send(RequestN(stream_id, 1))
    assert caller.got() == [item(stream_id, b"a")]
    caller.send(RequestN(stream_id, 1))
    assert caller.got() == [item(stream_id, b"a")]
    caller.send(RequestN(stream_id, 2))
    assert caller.got() == []
    assert asked(lamps) == [RequestN(2, 1)] * 3


def test_completion_waits_for_the_items_before_it(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.stream("", 2, metadata=ALL)
    asked(lamps)
    for lamp in lamps:
        lamp.send(item(2, b"a", complete=True))
    assert caller.got() == [item(stream_id, b"a")] * 2
    caller.send(RequestN(stream_id, 5))
    assert caller.got() == [item(stream_id, b"a"), complete(stream_id)]


def test_all_of_a_long_stream_comes_through(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P30: the largest credit twice, and legs that send as fast as they are asked."""
    stream_id = caller.stream("", MAX_REQUEST_N, metadata=ALL)
    caller.send(RequestN(stream_id, MAX_REQUEST_N))
    credit = [0] * 3
    left = [500, 700, 900]
    while any(left):
        for number, lamp in enumerate(lamps):
            credit[number] += sum(getattr(frame, "initial_n", getattr(frame, "n", 0)) for frame in lamp.got())
            count = min(credit[number], left[number])
            assert count or not left[number], "a leg starves"
            credit[number] -= count
            left[number] -= count
            lamp.send(*[item(2, b"%d" % number)] * count)
    for lamp in lamps:
        lamp.send(complete(2))
    got = caller.got()
    assert got[-1] == complete(stream_id)
    assert sorted(frame.data for frame in got[:-1]) == [b"0"] * 500 + [b"1"] * 700 + [b"2"] * 900  # type: ignore[union-attr]


def test_fragments_of_an_item_stay_together(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P30, P40, P41: and cost one credit."""
    stream_id = caller.stream("", 2, metadata=ALL)
    asked(lamps)
    lamps[0].send(item(2, b"a" * 64, follows=True))
    lamps[1].send(item(2, b"b" * 64, follows=True))
    lamps[0].send(item(2, b"A", complete=True))
    lamps[2].send(item(2, b"c"))
    lamps[1].send(Payload(2, None, b"B"))
    assert caller.got() == [
        item(stream_id, b"a" * 64, follows=True),
        item(stream_id, b"A"),
        item(stream_id, b"c"),
    ]
    caller.send(RequestN(stream_id, 1))
    assert caller.got() == [item(stream_id, b"b" * 64, follows=True), item(stream_id, b"B")]


def test_a_leg_that_goes_amid_an_item_takes_its_fragments_along(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.stream("", 9, metadata=ALL)
    asked(lamps)
    lamps[0].send(item(2, b"a" * 64, follows=True))
    lamps[0].vanish()
    for lamp in lamps[1:]:
        lamp.send(complete(2))
    assert caller.got() == [complete(stream_id)]


@pytest.mark.parametrize("limit", ["bytes", "fragments"])
def test_an_item_without_end_ends_its_leg(site: Site, caller: Peer, limit: str) -> None:
    """P42, fault 34: what a leg's item may take is bounded, as what may be put together is."""
    endless, other = site.connect("endless", Kind.DEVICE, serves=["lamp"]), site.service("lamp")
    stream_id = caller.stream("", 9, metadata=ALL)
    asked([endless, other])
    size, count = (60_000, 18) if limit == "bytes" else (64, 65)
    endless.send(*[item(2, b"a" * size, follows=True)] * count)
    assert endless.got() == [Cancel(2)]
    other.send(item(2, b"b", complete=True))
    assert caller.got() == [item(stream_id, b"b"), complete(stream_id)]
    stream_id = caller.stream("", 9, metadata=ALL)
    asked([endless, other])
    other.send(Error(4, 0x201, "broken"))
    endless.send(*[item(4, b"a" * size, follows=True)] * count)
    error = caller.one()
    assert (error.stream_id, error.code) == (stream_id, 0x204)


def test_a_leg_that_sends_more_than_it_was_asked_for_ends_alone(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P31, fault 30."""
    stream_id = caller.stream("", 1, metadata=ALL)
    asked(lamps)
    lamps[0].send(item(2, b"a"), item(2, b"b"))
    assert lamps[0].got() == [Cancel(2)]
    for lamp in lamps[1:]:
        lamp.send(complete(2))
    assert caller.got() == [item(stream_id, b"a"), complete(stream_id)]


# Channels


def test_items_of_a_channel_go_to_everybody_as_fast_as_the_slowest_asks(
    site: Site, caller: Peer, lamps: list[Peer]
) -> None:
    """P32."""
    stream_id = caller.channel("", 9, b"first", metadata=ALL)
    assert asked(lamps) == [RequestChannel(2, ALL + STAMP, b"first", 9)] * 3
    lamps[0].send(RequestN(2, 5))
    lamps[1].send(RequestN(2, 3))
    assert caller.got() == []
    lamps[2].send(RequestN(2, 4))
    assert caller.got() == [RequestN(stream_id, 3)]
    lamps[1].send(RequestN(2, 9))
    assert caller.got() == [RequestN(stream_id, 1)]
    caller.send(item(stream_id, b"x"), item(stream_id, b"y"))
    for lamp in lamps:
        assert lamp.got() == [item(2, b"x"), item(2, b"y")]
    lamps[2].send(item(2, b"answer"))
    assert caller.got() == [item(stream_id, b"answer")]


def test_a_channel_ends_when_all_have_completed(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P33: a leg that completed first still takes the requester's items."""
    stream_id = caller.channel("", 9, metadata=ALL)
    for lamp in lamps:
        lamp.send(RequestN(2, 5))
        lamp.got()
    caller.got()
    lamps[0].send(complete(2))
    caller.send(item(stream_id, b"x"))
    assert asked(lamps) == [item(2, b"x")] * 3
    lamps[1].send(item(2, b"b", complete=True))
    lamps[2].send(complete(2))
    assert caller.got() == [item(stream_id, b"b"), complete(stream_id)]
    caller.send(item(stream_id, b"y"))
    assert asked(lamps) == [item(2, b"y")] * 3
    caller.send(complete(stream_id))
    assert asked(lamps) == [complete(2)] * 3
    assert site.open_streams() == 0
    assert site.metrics.services["lamp"].ok == 1


def test_a_channel_whose_requester_completes_first(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P33."""
    stream_id = caller.channel("", 9, metadata=ALL)
    for lamp in lamps:
        lamp.send(RequestN(2, 5))
        lamp.got()
    caller.got()
    caller.send(item(stream_id, b"last", complete=True))
    assert asked(lamps) == [item(2, b"last", complete=True)] * 3
    for lamp in lamps:
        lamp.send(RequestN(2, 5), item(2, b"a", complete=True))
    assert caller.got() == [item(stream_id, b"a")] * 3 + [complete(stream_id)]
    assert site.open_streams() == 0


def test_a_channel_that_is_complete_from_the_start(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.channel("", 9, metadata=ALL, complete=True)
    assert all(frame.complete for frame in asked(lamps))
    for lamp in lamps:
        lamp.send(RequestN(2, 5), complete(2))
    assert caller.got() == [complete(stream_id)]
    assert site.open_streams() == 0


def test_the_requesters_last_items_cross_the_last_answer(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """In one turn: what the requester sent before it completed still reaches those who took it."""
    stream_id = caller.channel("", 9, metadata=ALL)
    for lamp in lamps:
        lamp.send(RequestN(2, 5))
        lamp.got()
    caller.got()
    for lamp in lamps:
        lamp.send(complete(2), turn=False)
    caller.send(item(stream_id, b"last", complete=True), turn=False)
    site.turn()
    assert asked(lamps) == [item(2, b"last", complete=True)] * 3
    assert caller.got() == [complete(stream_id)]
    assert site.open_streams() == 0


def test_a_leg_that_cancels_its_input_holds_nobody_back(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P33: and gets no more of it, while its own items still come."""
    stream_id = caller.channel("", 9, metadata=ALL)
    asked(lamps)
    lamps[0].send(Cancel(2))
    lamps[1].send(RequestN(2, 5))
    lamps[2].send(RequestN(2, 5))
    assert caller.got() == [RequestN(stream_id, 5)]
    caller.send(item(stream_id, b"x"))
    assert lamps[0].got() == []
    assert asked(lamps[1:]) == [item(2, b"x")] * 2
    lamps[0].send(item(2, b"a", complete=True))
    assert caller.got() == [item(stream_id, b"a")]


def test_when_every_leg_cancels_its_input_the_requester_is_told(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P33: by CANCEL, and the items of the legs go on."""
    stream_id = caller.channel("", 9, metadata=ALL)
    asked(lamps)
    for lamp in lamps:
        lamp.send(Cancel(2))
    assert caller.got() == [Cancel(stream_id)]
    lamps[0].send(item(2, b"a"))
    assert caller.got() == [item(stream_id, b"a")]
    for lamp in lamps:
        lamp.send(complete(2))
    assert caller.got() == [complete(stream_id)]
    assert site.open_streams() == 0


@pytest.mark.parametrize("last", ["cancel", "vanish"])
def test_a_channel_that_only_takes_ends_with_who_takes(site: Site, caller: Peer, lamps: list[Peer], last: str) -> None:
    """P33: all legs have completed, one still takes items; when it stops, so does the requester."""
    stream_id = caller.channel("", 9, metadata=ALL)
    for lamp in lamps[1:]:
        lamp.send(complete(2), Cancel(2))
    lamps[0].send(RequestN(2, 5), complete(2))
    assert caller.got() == [RequestN(stream_id, 5), complete(stream_id)]
    assert site.open_streams() == 2
    if last == "cancel":
        lamps[0].send(Cancel(2))
    else:
        lamps[0].vanish()
    assert caller.got() == [Cancel(stream_id)]
    assert site.open_streams() == 0


def test_a_slow_leg_that_fails_frees_the_others(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    stream_id = caller.channel("", 9, metadata=ALL)
    lamps[0].send(RequestN(2, 5))
    lamps[1].send(RequestN(2, 7))
    assert caller.got() == []
    lamps[2].send(Error(2, 0x201, "broken"))
    assert caller.got() == [RequestN(stream_id, 5)]


def test_the_requester_of_a_channel_fails(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P33."""
    stream_id = caller.channel("", 9, metadata=ALL)
    asked(lamps)
    caller.send(Error(stream_id, 0x301, "gave up"))
    assert asked(lamps) == [Error(2, 0x301, "gave up")] * 3


def test_a_large_grant_of_a_leg_lasts(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P30: more than what is under way at once is held and follows."""
    stream_id = caller.channel("", 9, metadata=ALL)
    asked(lamps)
    for lamp in lamps:
        lamp.send(RequestN(2, MAX_REQUEST_N))
    credit = 0
    for _ in range(1000):
        credit += sum(frame.n for frame in caller.got())  # type: ignore[union-attr]
        assert credit > 0, "the channel starves"
        credit -= 1
        caller.send(item(stream_id, b"x"))
    for lamp in lamps:
        assert lamp.got() == [item(2, b"x")] * 1000


def test_items_of_a_channel_in_fragments(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P30, P40."""
    stream_id = caller.channel("", 9, metadata=ALL)
    for lamp in lamps:
        lamp.send(RequestN(2, 1))
        lamp.got()
    assert caller.got() == [RequestN(stream_id, 1)]
    caller.send(item(stream_id, b"a" * 64, follows=True), item(stream_id, b"b"))
    for lamp in lamps:
        assert lamp.got() == [item(2, b"a" * 64, follows=True), item(2, b"b")]
        lamp.send(RequestN(2, 1))
    assert caller.got() == [RequestN(stream_id, 1)]


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_a_request_in_fragments(site: Site, caller: Peer, lamps: list[Peer], ask: str) -> None:
    """P40."""
    stream_id = getattr(caller, ask)("", data=b"a" * 64, metadata=ALL, follows=True)
    assert all(frame.follows for frame in asked(lamps))
    caller.send(item(stream_id, b"b" * 64, follows=True), item(stream_id, b"c"))
    for lamp in lamps:
        assert lamp.got() == [item(2, b"b" * 64, follows=True), item(2, b"c")]
        lamp.send(item(2, b"!", complete=True) if ask == "respond" else complete(2), turn=False)
    site.turn()
    if ask == "channel":
        caller.send(complete(stream_id))
    assert site.open_streams() == 0


def test_a_channel_request_in_fragments_that_completes(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """P33, P40."""
    stream_id = caller.channel("", 9, b"a" * 64, metadata=ALL, follows=True)
    asked(lamps)
    caller.send(item(stream_id, b"b", complete=True))
    assert asked(lamps) == [item(2, b"b", complete=True)] * 3
    for lamp in lamps:
        lamp.send(complete(2))
    assert caller.got() == [complete(stream_id)]


@pytest.mark.parametrize("ask", ["respond", "fire", "stream", "channel"])
def test_a_request_that_its_stamp_makes_too_large(site: Site, caller: Peer, lamps: list[Peer], ask: str) -> None:
    """P43: cut in two for every leg, and nothing waits for a further fragment."""
    overhead = 10 if ask in ("stream", "channel") else 6
    room = MAX_FRAME_BYTES - overhead - 3 - len(ALL)
    stream_id = getattr(caller, ask)("", data=b"x" * room, metadata=ALL)
    for lamp in lamps:
        first, rest = lamp.raw()
        assert len(first) == MAX_FRAME_BYTES
        assert first[5] & FOLLOWS
        assert len(rest) == 6 + len(STAMP)
    if ask == "channel":
        for lamp in lamps:
            lamp.send(RequestN(2, 2))
        caller.send(item(stream_id, b"y"), complete(stream_id))
        for lamp in lamps:
            assert lamp.got() == [item(2, b"y"), complete(2)]
    for lamp in lamps:
        if ask != "fire":
            lamp.send(item(2, b"!", complete=True) if ask == "respond" else complete(2), turn=False)
    site.turn()
    assert site.open_streams() == 0


# Metadata


def test_every_leg_gets_the_metadata_of_its_form(site: Site) -> None:
    """A leg gets what it would have got from a unicast request."""
    forms = ("message/x.rsocket.composite-metadata.v0", ROUTING, "application/json")
    lamps = [site.connect(f"lamp-{mime}", serves=["lamp"], mime=mime) for mime in forms]
    caller = site.connect("c")
    metadata = to_all("lamp", [(ROUTING, b"\x01x"), ("text/plain", b"more")])
    caller.fire("", metadata=metadata)
    composite, routing, opaque = (frame.metadata for frame in asked(lamps))
    assert entries_of(composite) == [*entries_of(metadata), stamp("c")]
    assert routing == b"\x01x"
    assert opaque == metadata


def test_a_responder_without_composite_metadata_may_get_none(site: Site, caller: Peer) -> None:
    lamp = site.connect("lamp", serves=["lamp"], mime=ROUTING)
    caller.fire("", metadata=ALL)
    (frame,) = lamp.raw()
    assert not (frame[4] << 8 | frame[5]) & METADATA


def test_multicast_by_tags(site: Site, caller: Peer) -> None:
    rooms = [site.connect(f"l{n}", serves=[site.registration("lamp", room=room)]) for n, room in enumerate("abca")]
    caller.fire("", metadata=to_tags(Cast.MULTICAST, room="a"))
    assert [len(lamp.got()) for lamp in rooms] == [1, 0, 0, 1]


# Flow


def test_a_leg_that_does_not_read_pauses_the_caller(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """Fault 14: what goes through the node itself is held back at its source."""
    lamps[0].carrier.stall()
    for _ in range(80):
        caller.fire("", bytes(60_000), metadata=ALL)
    assert caller.carrier.paused
    lamps[0].carrier.read()
    site.turn()
    assert not caller.carrier.paused


def test_a_caller_that_does_not_read_pauses_the_winner(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """Fault 29."""
    caller.respond("", metadata=ALL)
    asked(lamps)
    caller.carrier.stall()
    for _ in range(80):
        lamps[0].send(item(2, bytes(60_000), follows=True))
    assert lamps[0].carrier.paused
    assert not lamps[1].carrier.paused
    caller.carrier.read()
    site.turn()
    assert not lamps[0].carrier.paused


def test_a_channel_leg_that_does_not_read_gets_credit_passed_on_later(
    site: Site, caller: Peer, lamps: list[Peer]
) -> None:
    stream_id = caller.channel("", 9, metadata=ALL)
    asked(lamps)
    # It does not read, and a torrent of requests to it alone fills its outbox.
    other = site.connect("other")
    lamps[0].carrier.stall()
    for _ in range(30):
        other.fire("", bytes(60_000), metadata=to_tags(sub="lamp-0"))
    for lamp in lamps:
        lamp.send(RequestN(2, 5))
    assert caller.got() == []
    lamps[0].carrier.read()
    site.turn()
    assert caller.got() == [RequestN(stream_id, 5)]


# Anything


@given(st.data())
def test_any_course_of_a_merged_stream(data: st.DataObject) -> None:
    """P30, P31: never more than was asked for, every item goes on when there is credit, nothing is left."""
    site = Site()
    caller = site.connect()
    lamps = [site.service("lamp", f"lamp-{number}", prefixed=TCP) for number in range(data.draw(st.integers(1, 4)))]
    requested = data.draw(st.integers(1, 5))
    stream_id = caller.stream("", requested, metadata=ALL)
    credit = [0] * len(lamps)
    alive = set(range(len(lamps)))
    sent = received = 0
    for _ in range(data.draw(st.integers(0, 40))):
        for number, lamp in enumerate(lamps):
            credit[number] += sum(getattr(frame, "initial_n", getattr(frame, "n", 0)) for frame in lamp.got())
        step = data.draw(st.sampled_from(["item", "item", "item", "ask", "complete", "fail", "vanish"]))
        number = data.draw(st.integers(0, len(lamps) - 1))
        if step == "ask":
            n = data.draw(st.integers(1, 30))
            if stream_id in caller.connection.requesting:
                requested += n
                caller.send(RequestN(stream_id, n))
        elif number in alive:
            if step == "item":
                if credit[number]:
                    credit[number] -= 1
                    sent += 1
                    lamps[number].send(item(2, b"x"))
                continue
            alive.discard(number)
            if step == "complete":
                lamps[number].send(complete(2))
            elif step == "fail":
                lamps[number].send(Error(2, 0x201, "broken"))
            else:
                lamps[number].vanish()
        received += sum(isinstance(frame, Payload) and frame.next for frame in caller.got())
        assert received <= min(requested, sent)
        site.check()
    if stream_id in caller.connection.requesting:
        caller.send(RequestN(stream_id, sent + 1))
    received += sum(isinstance(frame, Payload) and frame.next for frame in caller.got())
    assert received == sent
    assert (stream_id in caller.connection.requesting) == bool(alive)
    site.finish()


def test_requests_are_told_apart(site: Site, caller: Peer, lamps: list[Peer]) -> None:
    """Several at once, of several kinds, through one and the same connection inside."""
    first = caller.respond("", b"1", metadata=ALL)
    second = caller.stream("", 9, b"2", metadata=ALL)
    third = caller.respond("lamp.x", b"3", metadata=to_route("lamp.x"))
    lamps[0].send(item(4, b"two"), item(2, b"one", complete=True))
    assert caller.got() == [item(second, b"two"), item(first, b"one", complete=True)]
    assert third in caller.connection.requesting
    assert encode(Cancel(2)) in lamps[1].raw()
    assert isinstance(lamps[2].got()[1], RequestStream)
