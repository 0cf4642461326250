"""Whether a peer has read what was sent to it."""

from __future__ import annotations

from gateway.wire.frames import KeepAlive
from tests.forwarding.plane_of import Peer, Site


def asked(peer: Peer) -> KeepAlive:
    (frame,) = peer.got()
    assert isinstance(frame, KeepAlive)
    assert frame.respond
    return frame


def test_the_answer_says_that_all_before_it_was_read(site: Site) -> None:
    peer = site.service("echo")
    heard: list[bool] = []
    soundings = site.plane.soundings
    soundings.sound(peer.connection, heard.append)
    site.turn()
    question = asked(peer)
    peer.send(KeepAlive(False, 0, b"something else"))
    assert heard == []
    peer.send(KeepAlive(False, 0, question.data))
    assert heard == [True]
    peer.send(KeepAlive(False, 0, question.data))
    assert heard == [True]


def test_a_later_answer_is_one_to_all_before(site: Site) -> None:
    peer = site.service("echo")
    heard: list[bool] = []
    for _ in range(3):
        site.plane.soundings.sound(peer.connection, heard.append)
    site.turn()
    questions = peer.got()
    assert len(questions) == 3
    second = questions[1]
    assert isinstance(second, KeepAlive)
    peer.send(KeepAlive(False, 0, second.data))
    assert heard == [True, True]


def test_who_goes_has_not_read_it(site: Site) -> None:
    peer = site.service("echo")
    heard: list[bool] = []
    site.plane.soundings.sound(peer.connection, heard.append)
    peer.vanish()
    assert heard == [False]
    site.plane.soundings.sound(peer.connection, heard.append)
    assert heard == [False, False]
