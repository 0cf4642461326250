"""Sessions that go on over another link, bytes in and bytes out: what is parked, replayed, refused and given up."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from gateway.forwarding.closing import CloseReason
from gateway.policy.principal import Kind, Principal
from gateway.wire.frames import (
    MAX_REQUEST_N,
    Cancel,
    Error,
    Frame,
    KeepAlive,
    Payload,
    RequestN,
    RequestResponse,
    RequestStream,
    Resume,
    ResumeOk,
    Setup,
    decode,
    encode,
)
from gateway.wire.mimetypes import COMPOSITE
from tests.forwarding.plane_of import NEVER, TCP, WEBSOCKET, Peer, Site, complete, credentials, item, to_route
from tests.resumable import MODELS, Caller, Resumable, Servant

TOKEN = b"0123456789abcdef"
HOLD_S = 60.0
REJECTED_SETUP, REJECTED_RESUME, BROKEN = 0x003, 0x004, 0x101


def setup_frame(site: Site, subject: str, token: bytes | None, serves: tuple[str, ...] = (), **rights: Any) -> Setup:
    keepalive_ms = rights.pop("keepalive_ms", 20_000)
    credential = site.token(subject, rights.pop("kind", Kind.SERVICE), **rights)
    metadata = credentials(credential, [site.registration(name) for name in serves])
    return Setup(keepalive_ms, 90_000, COMPOSITE, "application/json", metadata, resume_token=token)


class Session:
    """A client and whichever link it has at the moment."""

    def __init__(self, site: Site, side: Resumable, subject: str, serves: tuple[str, ...] = (), **rights: Any) -> None:
        self.site = site
        self.side = side
        self.prefixed = WEBSOCKET
        self.link = self._dial()
        side.begin(setup_frame(site, subject, side.token, serves, **rights), self._write)
        self.connection = self.link.connection

    def _dial(self) -> Peer:
        # Over whichever transport it gets.
        self.prefixed = TCP if self.prefixed == WEBSOCKET else WEBSOCKET
        return self.site.dial(self.prefixed)

    def _write(self, data: bytes) -> None:
        self.link.send(data, turn=False)

    def read(self) -> None:
        """Take everything that the node has written."""
        self.site.turn()
        for data in self.link.raw():
            if self.side.write is not None:
                self.side.take(data)

    def post(self, *frames: Frame) -> None:
        self.side.post(*frames)
        self.site.turn()

    def cut(self, *, noticed: bool = True) -> None:
        """The link is gone, with what was on it for the client; the node may not know yet."""
        self.side.cut()
        self.link.raw()
        if noticed:
            self.notice()

    def notice(self) -> None:
        if hasattr(self.link.carrier, "connection"):
            self.link.carrier.connection.lost(CloseReason.PEER_RESET)

    def resume(self) -> None:
        self.link = self._dial()
        self.side.resume(self._write)


class Quiet(Resumable):
    """Does nothing by itself; keeps what it heard."""

    def __init__(self, token: bytes = TOKEN) -> None:
        super().__init__(token)
        self.frames: list[Frame] = []

    def heard(self, frame: Frame) -> None:
        self.frames.append(frame)


def quiet(site: Site, subject: str = "device-1", serves: tuple[str, ...] = (), **rights: Any) -> Session:
    return Session(site, Quiet(rights.pop("token", TOKEN)), subject, serves, **rights)


def heard(session: Session) -> list[Frame]:
    """What came since the last call."""
    session.read()
    assert isinstance(session.side, Quiet)
    frames, session.side.frames = session.side.frames, []
    return frames


class TestParking:
    def test_a_lost_link_parks_the_session_and_ends_nothing(self, site: Site) -> None:
        """P51: routes and streams stay; a requester of a parked responder waits."""
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        asked = caller.respond("lamp.state")
        assert [type(frame) for frame in heard(device)] == [RequestResponse]
        device.cut()
        assert caller.got() == []
        assert (site.counters.sessions_parked, site.plane.parked.parked) == (1, 1)
        later = caller.respond("lamp.state", b"later")
        assert caller.got() == []
        device.resume()
        (request,) = heard(device)
        assert isinstance(request, RequestResponse)
        assert request.data == b"later"
        device.post(item(request.stream_id - 2, b"1", complete=True), item(request.stream_id, b"2", complete=True))
        site.turn()
        assert caller.got() == [item(asked, b"1", complete=True), item(later, b"2", complete=True)]
        assert (site.counters.sessions_parked, site.counters.sessions_resumed) == (0, 1)

    def test_a_session_that_nobody_resumes_ends_after_its_time(self, site: Site) -> None:
        """Fault 48: then its requesters are told, and the table forgets it."""
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        asked = caller.respond("lamp.state")
        device.cut()
        site.wait(HOLD_S - 0.1)
        assert caller.got() == []
        site.wait(0.2)
        assert caller.one() == Error(asked, 0x203, "responder disconnected")
        assert site.plane.table.service("lamp") is None
        assert site.counters.closes == {"resume_expired": 1}
        device.resume()
        device.read()
        assert device.side.refused is not None
        assert device.side.refused.code == REJECTED_RESUME

    def test_a_link_that_is_silent_is_lost(self, site: Site) -> None:
        """P12: a radio that drops says nothing."""
        device = quiet(site, serves=("lamp",))
        link = device.link
        site.wait(90.1)
        assert link.carrier.aborted
        assert link.carrier.closed is None
        assert site.counters.sessions_parked == 1
        device.resume()
        assert heard(device) == []
        assert device.side.resumed == 1

    def test_a_link_that_takes_nothing_is_lost(self, site: Site) -> None:
        """Faults 14, 32."""
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        device.link.carrier.stall()
        for _ in range(30):
            caller.fire("lamp.set", bytes(4000))
        site.wait(10.1)
        site.wait(0.1)
        assert device.link.carrier.aborted
        assert site.counters.sessions_parked == 1

    def test_those_who_were_stopped_for_it_go_on(self, site_with: Callable[..., Site]) -> None:
        """A parked connection stops nobody from being read."""
        site = site_with(hard_water_bytes=100_000, high_water_bytes=50_000)
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        device.link.carrier.stall()
        for _ in range(30):
            caller.fire("lamp.set", bytes(5000))
        assert caller.carrier.paused
        device.cut()
        assert not caller.carrier.paused
        for _ in range(10):
            caller.fire("lamp.set", bytes(5000))
        assert not caller.carrier.paused
        assert site.plane.outbox_bytes() == 0

    def test_a_peer_that_ends_its_session_is_not_waited_for(self, site: Site) -> None:
        """CONNECTION_ERROR ends it at once, CONNECTION_CLOSE with the link."""
        for code, reason in ((BROKEN, "peer_failed"), (0x102, "drained")):
            device = quiet(site)
            device.post(Error(0, code, "bye"))
            device.read()
            site.wait(1)
            assert device.connection.closed
            assert site.counters.closes == {reason: 1}
            assert len(site.plane.parked) == 0
            site.counters.closes.clear()

    def test_a_broken_protocol_ends_the_session(self, site: Site) -> None:
        device = quiet(site)
        device.link.send(b"\0\0\0\0\x80\0")
        assert device.connection.closed
        device.cut()
        device.resume()
        device.read()
        assert device.side.refused is not None

    def test_a_parked_session_ends_with_its_token(self, site: Site) -> None:
        """Fault 46: who may not come back is not waited for."""
        quiet(site, serves=("lamp",), expires_at=site.clock.wall() + 5).cut()
        site.wait(5.1)
        assert site.counters.closes == {"token_expired": 1}

    def test_those_with_a_link_are_asked_before_those_without(self, site: Site) -> None:
        parked = quiet(site, serves=("lamp",))
        live = site.service("lamp")
        caller = site.connect()
        parked.cut()
        for _ in range(5):
            caller.respond("lamp.state")
        assert len(live.got()) == 5
        parked.resume()
        assert heard(parked) == []
        caller.respond("lamp.state")
        assert len(heard(parked)) == 1

    def test_a_node_that_drains_waits_for_nobody(self, site: Site) -> None:
        """P55: the session could come back to no other."""
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        asked = caller.respond("lamp.state")
        device.cut()
        site.plane.drain()
        site.turn()
        assert Error(asked, 0x203, "responder disconnected") in caller.got()
        other = site.dial()
        other.send(Resume(TOKEN, 0, 0))
        assert other.one().code == REJECTED_RESUME
        assert site.counters.resumes_refused == {"draining": 1}

    def test_a_route_that_moves_ends_the_parked_session_that_had_it(self, site: Site) -> None:
        """A device that was started anew says so by its route id."""
        registration = site.registration("lamp")
        setup = Setup(
            20_000, 90_000, COMPOSITE, "a/b", credentials(site.token("d"), [registration]), resume_token=TOKEN
        )
        device = site.dial()
        device.send(setup)
        device.vanish()
        assert site.counters.sessions_parked == 1
        site.connect("d", serves=[registration])
        assert site.counters.sessions_parked == 0
        assert site.counters.closes == {"taken_over": 1}


class TestResuming:
    def test_what_follows_resume_ok(self, site: Site) -> None:
        """P51: RESUME_OK with what came, then what is missing, then what is new."""
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        ids = [caller.respond("lamp.state", data) for data in (b"1", b"2")]
        (first, second) = heard(device)
        device.post(item(2, b"one", complete=True))
        assert caller.one() == item(ids[0], b"one", complete=True)
        taken = len(encode(first))
        link = site.dial()
        device.cut()
        caller.fire("lamp.set", b"3")
        link.send(Resume(TOKEN, taken, 0), turn=False)
        caller.fire("lamp.set", b"4", turn=False)
        site.turn()
        ok, again, *new = link.got()
        assert ok == ResumeOk(device.side.retained.position)
        assert again == second
        assert [getattr(frame, "data", None) for frame in new] == [b"3", b"4"]

    def test_a_frame_of_the_link_is_not_replayed(self, site: Site) -> None:
        """P50: KEEPALIVE answers and ERROR on stream 0 belong to the link."""
        device = quiet(site)
        device.link.send(KeepAlive(True, 0, b"x"))
        device.cut()
        device.resume()
        site.turn()
        assert device.link.got() == [ResumeOk(0)]

    def test_a_link_that_is_still_there_is_closed(self, site: Site) -> None:
        """Fault 46: one link a session; the old one gets 4409, and its end parks nothing."""
        device = quiet(site)
        old = device.link
        device.resume()
        assert heard(device) == []
        assert old.carrier.closed == (4409, "the session was resumed over another link")
        assert old.got() == [Error(0, BROKEN, "the session was resumed over another link")]
        assert not hasattr(old.carrier, "connection")
        assert not device.connection.closed
        assert device.connection.carrier is device.link.carrier
        assert site.counters.sessions_parked == 0
        asked = device.link.respond("gateway.time")
        assert device.link.one().stream_id == asked

    def test_both_connections_are_accounted_for(self, site: Site) -> None:
        device = quiet(site)
        device.cut()
        device.resume()
        device.read()
        assert site.counters.connections_open["client"] == 1
        assert site.counters.closes == {"resumed": 1}
        assert device.connection.number in site.plane.connections
        assert device.connection.peer == "test"

    def test_limits_and_pauses_hold_on_the_new_link(self, site_with: Callable[..., Site]) -> None:
        site = site_with(hard_water_bytes=50_000, high_water_bytes=25_000, max_frame_bytes=70_000)
        device = quiet(site)
        slow = site.service("sink")
        slow.carrier.stall()
        for number in range(1, 30, 2):
            device.link.send(RequestStream(number, to_route("sink.put"), bytes(10_000), 1))
        assert device.link.carrier.paused
        device.cut()
        device.resume()
        assert device.link.carrier.max_frame_bytes == 70_000
        assert device.link.carrier.paused
        slow.carrier.read()
        assert not device.link.carrier.paused

    def test_a_series_of_fragments_may_span_links(self, site: Site) -> None:
        """P40."""
        service = site.service("sink")
        device = quiet(site)
        device.post(RequestResponse(1, to_route("sink.put"), b"a" * 70, follows=True))
        device.cut()
        device.post(Payload(1, None, b"b" * 70, follows=True))
        device.resume()
        device.read()
        device.post(Payload(1, None, b"c"))
        site.turn()
        assert [getattr(frame, "data", b"")[:1] for frame in service.got()] == [b"a", b"b", b"c"]

    def test_readiness_says_so(self, site: Site) -> None:
        device = quiet(site)
        device.link.respond("gateway.ready")
        assert b'"resume":true' in device.link.one().data
        plain = site.connect()
        plain.respond("gateway.ready")
        assert b'"resume":false' in plain.one().data


class TestRefusals:
    def test_a_token_that_is_in_use(self, site: Site) -> None:
        """P53, P56, fault 49: refused with its ERROR, and closed; the session that has it goes on."""
        device = quiet(site)
        for subject in ("device-1", "thief"):
            other = site.dial()
            other.send(setup_frame(site, subject, TOKEN), RequestResponse(1, to_route("gateway.time"), b""))
            assert other.one() == Error(0, REJECTED_SETUP, "resume token is in use")
            assert other.carrier.closed is not None
        assert not device.connection.closed
        assert len(site.plane.parked) == 1

    @pytest.mark.parametrize("kind", [Kind.NODE, Kind.ADMIN])
    def test_kinds_that_do_not_resume(self, site: Site, kind: Kind) -> None:
        """P05."""
        peer = site.dial()
        peer.send(setup_frame(site, "x", TOKEN, kind=kind))
        assert peer.one() == Error(0, REJECTED_SETUP, "resume is not supported")
        assert len(site.plane.parked) == 0

    def test_a_setup_that_is_refused_for_another_reason_enters_nothing(self, site: Site) -> None:
        """P56."""
        peer = site.dial()
        peer.send(setup_frame(site, "x", TOKEN, ("other",), services=("mine",)))
        assert peer.one().code == REJECTED_SETUP
        assert len(site.plane.parked) == 0

    def test_resume_is_a_first_frame_only(self, site: Site) -> None:
        """P52, fault 49: after SETUP, and a second time."""
        device = quiet(site)
        device.link.send(Resume(TOKEN, 0, 0))
        assert device.link.one().code == BROKEN
        device = quiet(site)
        device.resume()
        device.read()
        device.link.send(Resume(TOKEN, 0, 0))
        assert device.link.one().code == BROKEN
        assert device.connection.closed

    @pytest.mark.parametrize(
        ("received", "available", "reason"),
        [
            (None, None, None),
            (-6, None, None),
            (-5, None, "resume_inside_frame"),
            (1, None, "resume_beyond_sent"),
            (2**63 - 1, None, "resume_beyond_sent"),
            (-12, None, "resume_not_retained"),
            (None, 0, None),
            (None, 1, "resume_client_lost"),
            (None, 2**63 - 1, "resume_client_lost"),
        ],
    )
    def test_positions(self, site: Site, received: int | None, available: int | None, reason: str | None) -> None:
        """P51, fault 47: what cannot be is refused, and changes nothing. `received` is relative to what was sent,
        `available` to what came."""
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        for _ in range(3):
            asked = caller.stream("lamp.watch")
            caller.send(Cancel(asked))
        sent = device.connection.resumption
        assert sent is not None
        device.read()
        end = device.side.received.position
        device.link.send(KeepAlive(False, end - 6))
        device.post(RequestN(2, 1))
        site.turn()
        came = device.side.retained.position
        device.cut()
        before = (sent.retained.position, sent.retained.first_available, sent.received.position)
        link = site.dial()
        last = 2**63 - 1
        claimed = min(last, end + (received or 0)), min(last, came + available) if available is not None else 0
        link.send(Resume(TOKEN, *claimed))
        if reason is None:
            assert isinstance(link.got()[0], ResumeOk)
            return
        assert link.one().code == REJECTED_RESUME
        assert link.carrier.closed is not None
        assert site.counters.resumes_refused == {reason: 1}
        assert before == (sent.retained.position, sent.retained.first_available, sent.received.position)
        device.resume()
        device.read()
        assert device.side.resumed == 1

    @pytest.mark.parametrize(
        "frame",
        [
            encode(Resume(b"another token 16", 0, 0)),
            encode(Resume(b"", 0, 0)),
            encode(Resume(TOKEN, 0, 0))[:-1],
            b"\0\0\0\0\x34\0",
            encode(Resume(TOKEN, 0, 0))[:6] + b"\0\2\0\0" + encode(Resume(TOKEN, 0, 0))[10:],
            encode(Resume(b"t" * 500, 0, 0)),
        ],
        ids=["unknown", "empty", "short", "header", "version", "long"],
    )
    def test_a_resume_of_nothing(self, site: Site, frame: bytes) -> None:
        """P51, P52, faults 46, 50: REJECTED_RESUME, so that the client starts afresh; what is behind it is dropped."""
        device = quiet(site)
        peer = site.dial()
        peer.send(frame, RequestResponse(1, to_route("gateway.time"), b""))
        assert peer.one().code == REJECTED_RESUME
        assert peer.carrier.closed is not None
        assert peer.carrier.closed[0] == 1002
        assert not device.connection.closed

    def test_a_session_whose_token_has_expired(self, site: Site) -> None:
        """Fault 46: who set it up is judged again."""
        device = quiet(site, expires_at=site.clock.wall() + 5)
        site.clock.now += 5.1
        peer = site.dial()
        peer.send(Resume(TOKEN, 0, 0))
        assert peer.one().code == REJECTED_RESUME
        assert site.counters.resumes_refused == {"token_expired": 1}
        assert not device.connection.closed

    def test_a_session_whose_credential_is_no_longer_good(self, site: Site) -> None:
        """Fault 46: a RESUME is authenticated as SETUP was; a key that was taken away since lets nobody back in."""
        device = quiet(site)
        site.principals.clear()
        device.resume()
        device.read()
        assert device.side.refused == Error(0, REJECTED_RESUME, "token not accepted")
        assert site.counters.resumes_refused == {"token_invalid": 1}

    def test_a_session_whose_credential_is_somebody_elses_now(self, site: Site) -> None:
        """Fault 46."""
        device = quiet(site)
        ((token, _),) = site.principals.items()
        site.principals[token] = Principal("other", Kind.SERVICE, "", 0.0, NEVER, ("*",), ("*",))
        device.resume()
        device.read()
        assert device.side.refused is not None
        assert site.counters.resumes_refused == {"resume_other_holder": 1}

    def test_a_link_that_says_who_it_is_must_be_the_one(self, site: Site) -> None:
        """Fault 46: whoever has stolen a resume token but has proved to be another is told that there is no such."""
        device = quiet(site)
        device.cut()
        for credential, reason in ((site.token("thief"), "resume_other_holder"), (b"forged", "token_invalid")):
            thief = site.dial()
            thief.connection.credential = credential
            thief.send(Resume(TOKEN, 0, 0))
            assert thief.one().code == REJECTED_RESUME
            assert site.counters.resumes_refused.pop(reason) == 1
        owner = site.dial()
        owner.connection.credential = site.token("device-1")
        owner.send(Resume(TOKEN, 0, 0))
        assert owner.one() == ResumeOk(0)

    def test_a_limit_that_no_longer_allows_it(self, site: Site) -> None:
        device = quiet(site)
        site.plane.publish(site.snapshot(2, resume_bytes=0))
        peer = site.dial()
        peer.send(Resume(TOKEN, 0, 0))
        assert peer.one().code == REJECTED_RESUME
        device.cut()
        assert device.connection.closed

    def test_each_subject_has_its_share(self, site: Site) -> None:
        """Fault 48: the session that has waited longest makes room."""
        sessions = [quiet(site, token=b"%016d" % number) for number in range(250)]
        refused = site.dial()
        refused.send(setup_frame(site, "device-1", b"one too many, yes"))
        assert refused.one() == Error(0, REJECTED_SETUP, "too many resumable sessions")
        sessions[7].cut()
        one_more = quiet(site, token=b"one too many, yes")
        assert not one_more.connection.closed
        assert sessions[7].connection.closed
        assert quiet(site, "device-2", token=b"another's, so it").side.refused is None


class TestRetention:
    def test_confirmed_frames_are_forgotten(self, site: Site) -> None:
        """P54."""
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        for _ in range(10):
            caller.fire("lamp.set", bytes(1000))
        device.read()
        resumption = device.connection.resumption
        assert resumption is not None
        assert resumption.retained.size > 10_000
        device.side.ask()
        device.read()
        assert resumption.retained.size == 0

    def test_a_peer_that_is_sent_much_is_asked(self, site_with: Callable[..., Site]) -> None:
        """limits.device.resume_bytes, P11, P54: clients say what they have every 20 s or so, which is too rare."""
        site = site_with(resume_bytes=10_000)
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        for _ in range(100):
            caller.fire("lamp.set", bytes(1000))
            device.read()
        assert len(heard(device)) == 100
        device.cut()
        device.resume()
        assert heard(device) == []
        assert device.side.resumed == 1

    def test_answers_to_the_nodes_own_questions_are_no_flood(self, site_with: Callable[..., Site]) -> None:
        """P11, fault 31: what a device is asked for is not charged to it."""
        site = site_with(resume_bytes=10_000, keepalive_burst=5)
        device = quiet(site, kind=Kind.DEVICE)
        service = site.service("flow")
        device.post(RequestStream(1, to_route("flow.it"), b"", 200))
        for _ in range(200):
            service.send(item(2, bytes(1000)))
            device.read()
        assert len(heard(device)) == 200
        assert not device.connection.closed
        # Its own are counted as before.
        for _ in range(8):
            device.link.send(KeepAlive(False, device.side.received.position))
        assert device.connection.closed
        assert site.counters.refusals["keepalive_burst"] == 1

    def test_producers_of_a_parked_session_wait_by_their_credit(self, site: Site) -> None:
        """Fault 48: at three quarters no more credit goes out, so that nothing is lost, however much was asked for."""
        service = site.service("flow")
        device = quiet(site)
        device.post(RequestStream(1, to_route("flow.it"), b"", 3000))
        (request,) = service.got()
        device.cut()
        credit, sent = request.initial_n, 0
        while credit:
            service.send(item(2, b"%200d" % sent))
            credit, sent = credit - 1 + sum(frame.n for frame in service.got()), sent + 1
        assert 900 < sent < 3000
        assert site.counters.sessions_parked == 1
        device.resume()
        items = heard(device)
        while sent < 3000:
            device.side.ask()
            site.turn()
            credit = sum(frame.n for frame in service.got())
            assert credit
            for _ in range(credit):
                service.send(item(2, b"%200d" % sent))
                sent += 1
            items += heard(device)
        assert [frame.data for frame in items if isinstance(frame, Payload)] == [b"%200d" % i for i in range(3000)]

    def test_a_producer_held_by_a_full_session_goes_on_when_it_is_confirmed(
        self, site_with: Callable[..., Site]
    ) -> None:
        site = site_with(resume_bytes=40_000)
        service = site.service("flow")
        device = quiet(site)
        device.post(RequestStream(1, to_route("flow.it"), b"", 35))
        site.turn()
        service.got()
        service.send(*[item(2, bytes(1000))] * 31)
        device.post(RequestN(1, 100))
        site.turn()
        assert service.got() == []
        device.read()
        device.side.ask()
        site.turn()
        assert service.got() == [RequestN(2, 100)]
        service.send(complete(2))

    def test_a_client_that_keeps_no_count_does_not_hold_its_producers_for_ever(
        self, site_with: Callable[..., Site]
    ) -> None:
        """It cannot be resumed after that, and goes on as any other."""
        site = site_with(resume_bytes=40_000)
        service = site.service("flow")
        device = quiet(site)
        device.post(RequestStream(1, to_route("flow.it"), b"", 35))
        site.turn()
        service.got()
        service.send(*[item(2, bytes(1000))] * 31)
        device.post(RequestN(1, 100))
        for _ in range(12):
            device.link.send(KeepAlive(False, 0))
            site.wait(1)
        assert service.got() == [RequestN(2, 100)]
        assert len(site.plane.parked) == 0
        device.link.send(KeepAlive(False, 0))
        service.send(item(2, b"last", complete=True))
        assert device.link.got()[-1] == item(1, b"last", complete=True)
        device.cut()
        assert device.connection.closed

    def test_a_parked_session_that_is_sent_too_much_ends(self, site_with: Callable[..., Site]) -> None:
        """Fault 48: as if it had been lost just now; a RESUME gets a clean refusal, and a fresh SETUP works."""
        site = site_with(resume_bytes=10_000)
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        asked = caller.respond("lamp.state")
        device.read()
        device.cut()
        for _ in range(7):
            caller.fire("lamp.set", bytes(1200))
        assert site.counters.sessions_parked == 1
        caller.fire("lamp.set", bytes(1200))
        assert caller.one() == Error(asked, 0x203, "responder disconnected")
        assert site.counters.closes == {"resume_overflowed": 1}
        assert site.counters.sessions_parked == 0
        device.resume()
        device.read()
        assert device.side.refused is not None
        assert device.side.refused.code == REJECTED_RESUME
        again = quiet(site, serves=("lamp",))
        caller.respond("lamp.state")
        assert len(heard(again)) == 1

    def test_a_live_session_that_confirms_too_little_lives_on_but_cannot_be_resumed(
        self, site_with: Callable[..., Site]
    ) -> None:
        """P54."""
        site = site_with(resume_bytes=10_000)
        device = quiet(site, serves=("lamp",))
        caller = site.connect()
        caller.fire("lamp.set", bytes(20_000))
        assert len(heard(device)) == 1
        device.link.respond("gateway.ready")
        assert b'"resume":false' in device.link.one().data
        other = site.dial()
        other.send(Resume(TOKEN, 0, 0))
        assert other.one().code == REJECTED_RESUME
        device.cut()
        assert device.connection.closed

    @pytest.mark.parametrize("claim", [1, 2**63 - 1, 2**63, 2**64 - 1])
    def test_a_keepalive_that_claims_too_much(self, site: Site, claim: int) -> None:
        """Fault 47."""
        device = quiet(site)
        device.link.send(encode(KeepAlive(False, 0))[:6] + claim.to_bytes(8, "big"))
        assert device.link.one().code == BROKEN
        assert device.connection.closed

    def test_a_connection_that_cannot_be_resumed_may_claim_anything(self, site: Site) -> None:
        peer = site.connect()
        peer.send(KeepAlive(True, 2**63 - 1, b"x"))
        assert peer.one() == KeepAlive(False, 0, b"x")


def _run(seed: int, site: Site) -> int:
    """Random requests in all models between two sessions whose links break at any moment; how often they resumed."""
    random = Random(seed)
    caller = Caller(b"call" + bytes(12), to_route("echo.it"))
    servant = Servant(b"serv" + bytes(12))
    kinds = [Kind.DEVICE, Kind.SERVICE]
    # A step takes 0.1 s, and a client sends a KEEPALIVE in some of them.
    sessions = [
        Session(site, servant, "servant", ("echo",), kind=random.choice(kinds), keepalive_ms=100),
        Session(site, caller, "caller", kind=random.choice(kinds), keepalive_ms=100),
    ]
    asked = 0
    for _ in range(random.randint(20, 120)):
        session = random.choice(sessions)
        linked = session.side.write is not None
        match random.choice("rrrrccccuxt"):
            case "r" if linked:
                session.read()
            case "c" if asked < 90:
                asked += 1
                caller.call(random.choice(MODELS), random.randint(1, 6), random.choice([0, 40, 400]))
            case "u" if linked:
                # What is sent from here on does not arrive, and the node has not noticed.
                session.cut(noticed=False)
            case "x" if linked:
                session.cut()
            case "t":
                session.side.ask()
            case _ if not linked:
                if random.random() < 0.3:
                    session.notice()
                session.resume()
        site.clock.now += 0.1
    for session in sessions:
        if session.side.write is None:
            session.resume()
    for _ in range(200):
        for session in sessions:
            session.read()
        if not caller.waiting and len(servant.fired) == len(caller.fired):
            break
    caller.check()
    assert servant.fired == caller.fired
    assert not servant.serving
    assert caller.refused is servant.refused is None
    assert site.open_streams() == 0
    return caller.resumed + servant.resumed


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_cuts(site_with: Callable[..., Site], first: int) -> None:
    """P50, P51, P54: all four models, both sides cut, noticed or not: nothing lost, doubled or out of order."""
    resumed = 0
    for seed in range(first, first + 50):
        # Both sides ask for keepalives far more often than they announced.
        resumed += _run(seed, site_with(keepalive_burst=0))
    assert resumed > 150


def test_only_those_who_ask_pay(site: Site) -> None:
    """A connection that did not ask has the outbox and the reader of before."""
    peer = site.connect()
    assert type(peer.connection.outbox).__name__ == "Outbox"
    assert peer.carrier.sink is peer.connection
    assert peer.connection.resumption is None
    assert decode(encode(RequestN(1, MAX_REQUEST_N))) == RequestN(1, MAX_REQUEST_N)
