"""What is changed in the metadata of a first frame, by what the two sides speak."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import FrameError, RequestInvalid
from gateway.forwarding.stamp import Deciding, Form, form_of, principal_entry, rewrite
from gateway.policy.principal import Kind, Principal
from gateway.wire.metadata import decode_composite, encode_bearer, encode_composite, encode_routing, encode_simple
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, PRINCIPAL, ROUTING, ZIPKIN
from tests.forwarding.plane_of import Peer, Site, entries_of, stamp, to_route, to_tags

ROUTE = encode_routing(["echo.x"])
STAMP = encode_composite([stamp()])
FORGED = (PRINCIPAL, b'{"subject":"admin"}')


@pytest.mark.parametrize(
    ("mime", "form"),
    [
        (COMPOSITE, Form.COMPOSITE),
        ("Message/X.RSocket.Composite-Metadata.v0", Form.COMPOSITE),
        (ROUTING, Form.ROUTING),
        (f" {ROUTING} ", Form.ROUTING),
        ("application/json", Form.OPAQUE),
        ("", Form.OPAQUE),
        (AUTHENTICATION, Form.OPAQUE),
    ],
)
def test_forms(mime: str, form: Form) -> None:
    """X06."""
    assert form_of(mime) is form


def test_the_principals_entry() -> None:
    """Protocol 1: subject, kind, node; groups and labels where it has any (ADR 22); nothing else of the token."""
    principal = Principal("thermo-1", Kind.DEVICE, "jti", 0.0, 9.0, ("s",), ("r",))
    identity = '{"subject":"thermo-1","kind":"device","node":"edge-1"'
    assert decode_composite(principal_entry(principal, "edge-1")) == [(PRINCIPAL, f"{identity}}}".encode())]
    principal = replace(principal, groups=("g",), labels=(("l", "v"),))
    more = f'{identity},"groups":["g"],"labels":{{"l":"v"}}}}'
    assert decode_composite(principal_entry(principal, "edge-1")) == [(PRINCIPAL, more.encode())]


def test_the_principals_entry_is_json_whatever_the_names_are() -> None:
    import json

    entry = principal_entry(Principal('a"b\n\u2028ä', Kind.USER, "", 0.0, 9.0), 'n"')
    ((_, content),) = decode_composite(entry)
    assert json.loads(content) == {"subject": 'a"b\n\u2028ä', "kind": "user", "node": 'n"'}


# What decides


def test_nothing_but_what_decides() -> None:
    metadata = encode_composite([(ROUTING, ROUTE), (AUTHENTICATION, b"\x81t"), FORGED, (BROKER_FRAME, b"frame")])
    deciding = Deciding(metadata, Form.COMPOSITE, 16)
    assert (deciding.routing, deciding.broker, deciding.varying, deciding.key) == (ROUTE, b"frame", False, metadata)


def test_what_varies_is_left_out_of_the_key() -> None:
    routing, plain = encode_composite([(ROUTING, ROUTE)]), encode_composite([("text/plain", b"x")])
    deciding = Deciding(plain + routing + plain, Form.COMPOSITE, 16)
    assert (deciding.routing, deciding.varying, deciding.key) == (ROUTE, True, routing)


def test_the_first_of_each_decides() -> None:
    """X01."""
    metadata = encode_composite([(ROUTING, b"\x01a"), (ROUTING, b"\x01b"), (BROKER_FRAME, b"1"), (BROKER_FRAME, b"2")])
    deciding = Deciding(metadata, Form.COMPOSITE, 16)
    assert (deciding.routing, deciding.broker) == (b"\x01a", b"1")


def test_plain_routing_metadata_is_the_routing() -> None:
    """X02."""
    deciding = Deciding(ROUTE, Form.ROUTING, 16)
    assert (deciding.routing, deciding.broker, deciding.varying, deciding.key) == (ROUTE, None, False, ROUTE)


def test_opaque_metadata_decides_nothing() -> None:
    deciding = Deciding(b"whatever", Form.OPAQUE, 16)
    assert (deciding.routing, deciding.broker, deciding.key) == (None, None, b"whatever")


def test_unknown_entries_are_kept_out_and_are_not_fatal() -> None:
    """X01, X06: ids that nobody named, and those that one vendor uses."""
    metadata = b"\xab\0\0\x01x" + b"\xd0\0\0\x01y" + encode_composite([(ROUTING, ROUTE)])
    deciding = Deciding(metadata, Form.COMPOSITE, 16)
    assert (deciding.routing, deciding.varying) == (ROUTE, True)
    assert rewrite(metadata, Form.COMPOSITE, Form.COMPOSITE, STAMP) == metadata + STAMP


def test_a_type_by_id_and_by_name_is_the_same_type() -> None:
    """X06: Spring writes some well-known types as strings."""
    by_name = bytes((len(ROUTING) - 1,)) + ROUTING.encode() + len(ROUTE).to_bytes(3, "big") + ROUTE
    assert Deciding(by_name, Form.COMPOSITE, 16).routing == ROUTE


@pytest.mark.parametrize("metadata", [b"\xfe", b"\xfe\0\0", b"\xfe\0\0\x02x", b"\x05abc"])
def test_malformed_metadata(metadata: bytes) -> None:
    """X01."""
    with pytest.raises(FrameError):
        Deciding(metadata, Form.COMPOSITE, 16)


def test_the_number_of_entries_is_limited() -> None:
    """Fault 40: limit, and limit and one."""
    assert Deciding(encode_composite([("text/plain", b"")] * 4), Form.COMPOSITE, 4).varying
    with pytest.raises(RequestInvalid, match="more than 4 entries"):
        Deciding(encode_composite([("text/plain", b"")] * 5), Form.COMPOSITE, 4)


# What goes out


SENT = encode_composite(
    [
        FORGED,
        ("text/plain", b"1"),
        (AUTHENTICATION, encode_bearer(b"secret")),
        (ROUTING, ROUTE),
        (AUTHENTICATION, encode_simple("me", "secret")),
        (ZIPKIN, b"\x20"),
        FORGED,
    ]
)
KEPT = encode_composite([("text/plain", b"1"), (ROUTING, ROUTE), (ZIPKIN, b"\x20")])

MATRIX = [
    (Form.COMPOSITE, Form.COMPOSITE, SENT, KEPT + STAMP),
    (Form.COMPOSITE, Form.ROUTING, SENT, ROUTE),
    (Form.COMPOSITE, Form.OPAQUE, SENT, KEPT),
    (Form.ROUTING, Form.COMPOSITE, ROUTE, encode_composite([(ROUTING, ROUTE)]) + STAMP),
    (Form.ROUTING, Form.ROUTING, ROUTE, ROUTE),
    (Form.ROUTING, Form.OPAQUE, ROUTE, ROUTE),
    (Form.OPAQUE, Form.COMPOSITE, b"blob", STAMP),
    (Form.OPAQUE, Form.ROUTING, b"blob", b"blob"),
    (Form.OPAQUE, Form.OPAQUE, b"blob", b"blob"),
]


@pytest.mark.parametrize(("source", "target", "sent", "expected"), MATRIX)
def test_every_pair_of_forms(source: Form, target: Form, sent: bytes, expected: bytes) -> None:
    """DESIGN 3, step 5: who speaks composite metadata learns who asks; nobody learns with what."""
    assert rewrite(sent, source, target, STAMP) == expected


def test_composite_metadata_without_a_route_has_none_for_a_routing_responder() -> None:
    assert rewrite(encode_composite([("text/plain", b"x")]), Form.COMPOSITE, Form.ROUTING, STAMP) == b""


def test_a_forged_identity_however_its_type_is_written() -> None:
    """Fault 68: in upper case, with blanks or with a parameter it is the same type (X06)."""
    for name in (PRINCIPAL, PRINCIPAL.upper(), f" {PRINCIPAL} ", f"{PRINCIPAL};v=1", f"{PRINCIPAL} ; v=1"):
        entry = bytes((len(name) - 1,)) + name.encode() + b"\0\0\x02{}"
        assert rewrite(entry, Form.COMPOSITE, Form.COMPOSITE, STAMP) == STAMP
        assert rewrite(entry, Form.COMPOSITE, Form.OPAQUE, STAMP) == b""


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["text/plain", ROUTING, AUTHENTICATION, PRINCIPAL, BROKER_FRAME, ZIPKIN, "x/y", "id:0x2b"]),
        st.binary(max_size=20),
    ),
    max_size=12,
)


@given(ENTRIES)
def test_whatever_was_sent_there_is_one_identity_and_no_credential(entries: list[tuple[str, bytes]]) -> None:
    """Fault 68: the order of the rest is kept."""
    rewritten = decode_composite(rewrite(encode_composite(entries), Form.COMPOSITE, Form.COMPOSITE, STAMP))
    assert rewritten == [entry for entry in entries if entry[0] not in (AUTHENTICATION, PRINCIPAL)] + [stamp()]


# Across connections


@pytest.mark.parametrize("target", [COMPOSITE, ROUTING, "application/json"])
@pytest.mark.parametrize("source", [COMPOSITE, ROUTING])
def test_across_connections_of_any_two_forms(site: Site, source: str, target: str) -> None:
    caller, echo = site.connect("me", mime=source), site.connect("echo", mime=target, serves=["echo"])
    sent = to_route("echo.x", entries=[FORGED, ("text/plain", b"1")]) if source == COMPOSITE else ROUTE
    for _ in range(2):
        caller.respond("", metadata=sent)
        metadata = echo.one().metadata
        if target == ROUTING or (source == ROUTING and target != COMPOSITE):
            assert metadata == ROUTE
        else:
            kept = [(ROUTING, ROUTE)] + ([("text/plain", b"1")] if source == COMPOSITE else [])
            assert entries_of(metadata) == [*kept, stamp("me")] if target == COMPOSITE else kept


def test_opaque_metadata_leads_nowhere(site: Site) -> None:
    """Addressing, rule 3."""
    caller: Peer = site.connect("me", mime="application/json")
    site.service("echo")
    caller.respond("", metadata=to_route("echo.x"))
    error = caller.one()
    assert (error.code, error.text) == (0x204, "no route in metadata")


def test_a_routing_responder_of_an_addressed_request_gets_no_metadata(site: Site) -> None:
    caller, echo = site.connect("me"), site.connect("echo", mime=ROUTING, serves=["echo"])
    caller.fire("", metadata=to_tags(ServiceName="echo"))
    assert echo.one().metadata is None
