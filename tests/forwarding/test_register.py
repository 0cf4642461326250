"""The register of connections that ended, and who hears of those that come and go."""

from __future__ import annotations

from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.console import Console
from gateway.forwarding.register import Closed, Register
from gateway.policy.principal import Kind, Principal
from gateway.wire.frames import KeepAlive, encode
from tests.forwarding.plane_of import Site


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def connection_accepted(self, connection: Connection) -> None:
        self.heard.append(("accepted", connection.principal.subject))

    def connection_closed(self, closed: Closed) -> None:
        self.heard.append(("closed", (closed.subject, closed.reason)))


def test_an_ended_connection_is_remembered_with_its_reason_and_traffic(site: Site) -> None:
    peer = site.connect("kitchen", kind=Kind.DEVICE)
    before = peer.connection.bytes_in
    frame = KeepAlive(True, 0, b"x")
    peer.send(frame)
    site.clock.now += 3
    peer.connection.close(CloseReason.KICKED, "closed by an operator")
    (closed,) = site.plane.register.closed
    assert closed.number == peer.connection.number
    assert (closed.subject, closed.principal_kind, closed.kind) == ("kitchen", "device", "client")
    assert (closed.reason, closed.text) == ("kicked", "closed by an operator")
    assert closed.bytes_in == before + len(encode(frame))
    assert closed.frames_in == 2
    assert closed.frames_out == 1
    assert closed.bytes_out > len(encode(frame))
    assert closed.duration_s == 3
    assert closed.closed_at == site.clock.wall()


def test_a_refused_connection_is_remembered_without_a_subject(site: Site) -> None:
    peer = site.dial()
    peer.connection.lost(CloseReason.PEER_RESET)
    (closed,) = site.plane.register.closed
    assert (closed.subject, closed.principal_kind, closed.reason) == ("", "", "peer_reset")


def test_only_so_many_are_remembered(site: Site) -> None:
    site.plane.register = Register(capacity=3)
    for number in range(5):
        site.connect(f"device-{number}").vanish()
    assert [closed.subject for closed in site.plane.register.closed] == ["device-2", "device-3", "device-4"]


def test_a_watcher_hears_of_both(site: Site) -> None:
    ear = Ear()
    site.plane.register.watcher = ear
    site.connect("kitchen").vanish()
    site.dial().vanish()
    assert ear.heard == [
        ("accepted", "kitchen"),
        ("closed", ("kitchen", "peer_reset")),
        ("closed", ("", "peer_reset")),
    ]


def test_what_has_no_socket_is_not_remembered(site: Site) -> None:
    principal = Principal("root", Kind.ADMIN, "", 0, site.clock.wall() + 60)
    Console(site.plane, principal, lambda: None).end(CloseReason.PEER_CLOSED)
    assert not site.plane.register.closed
