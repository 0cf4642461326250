"""Every rule for tokens, with the number of the fault that it stands against.

Tokens are signed here with PyJWT or by hand, never by the code under test, so that a claim or header can be wrong.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import socket
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import TokenError
from gateway.policy.principal import Kind, Principal
from gateway.policy.tokens import (
    MAX_TOKEN_BYTES,
    REFUSED,
    REQUIRED_CLAIMS,
    TOKEN_TYPE,
    TokenVerifier,
    VerificationKey,
    mint,
)
from tests.examples import examples

NOW = 1_800_000_000
ISSUER = "gateway:node-1"
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
CURVE_KEY = ec.derive_private_key(12345, ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)

VERIFIER = TokenVerifier(
    [
        VerificationKey("k1", "EdDSA", KEY.public_key(), ISSUER),
        VerificationKey("k2", "ES256", CURVE_KEY.public_key(), "https://idp.example"),
        VerificationKey("k3", "RS256", RSA_KEY.public_key(), "https://rsa.example"),
    ]
)


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims, changed; a claim set to ``...`` is left out."""
    good: dict[str, Any] = {
        "iss": ISSUER,
        "aud": "gateway",
        "sub": "thermostat-1",
        "iat": NOW - 10,
        "exp": NOW + 3590,
        "jti": "5f",
        "kind": "device",
        "services": ["thermo"],
        "routes": ["log.*"],
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed(payload: bytes, header: bytes, key: ed25519.Ed25519PrivateKey = KEY) -> bytes:
    text = base64url(header) + b"." + base64url(payload)
    return text + b"." + base64url(key.sign(text))


def token(header: dict[str, Any] | None = None, key: ed25519.Ed25519PrivateKey = KEY, **changes: Any) -> bytes:
    full = {"alg": "EdDSA", "kid": "k1", "typ": TOKEN_TYPE} | (header or {})
    full = {name: value for name, value in full.items() if value is not ...}
    return signed(json.dumps(claims(**changes)).encode(), json.dumps(full).encode(), key)


def refusal(bad: bytes | str, now: float = NOW, verifier: TokenVerifier = VERIFIER) -> TokenError:
    with pytest.raises(TokenError) as caught:
        verifier.verify(bad, now)
    return caught.value


def refused(bad: bytes | str, reason: str) -> None:
    """Refused for this reason, which the peer does not learn."""
    error = refusal(bad)
    assert (error.reason, error.text) == (reason, REFUSED)


def test_a_good_token_becomes_a_principal() -> None:
    principal = VERIFIER.verify(token(groups=["lab"], labels={"site": "7"}), NOW)
    assert principal == Principal(
        subject="thermostat-1",
        kind=Kind.DEVICE,
        token_id="5f",
        issued_at=NOW - 10,
        expires_at=NOW + 3590,
        services=("thermo",),
        routes=("log.*",),
        groups=("lab",),
        labels=(("site", "7"),),
        issuer=ISSUER,
        key_id="k1",
    )


def test_text_and_bytes_are_the_same_token() -> None:
    assert VERIFIER.verify(token().decode(), NOW) == VERIFIER.verify(bytearray(token()), NOW)


def test_without_claims_of_ours_a_token_is_a_devices_and_allows_nothing() -> None:
    principal = VERIFIER.verify(token(kind=..., services=..., routes=...), NOW)
    assert (principal.kind, principal.services, principal.routes) == (Kind.DEVICE, (), ())


@pytest.mark.parametrize(
    ("kid", "algorithm", "key", "issuer"),
    [("k2", "ES256", CURVE_KEY, "https://idp.example"), ("k3", "RS256", RSA_KEY, "https://rsa.example")],
)
def test_other_issuers_may_use_es256_and_rs256(kid: str, algorithm: str, key: Any, issuer: str) -> None:
    text = jwt.encode(claims(iss=issuer), key, algorithm, headers={"kid": kid, "typ": TOKEN_TYPE})
    assert VERIFIER.verify(text, NOW).issuer == issuer


# --- fault 52: the algorithm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "nOnE", "NONE", "", None, 7, ["EdDSA"]])
def test_fault_52_no_algorithm_is_no_signature(algorithm: object) -> None:
    """Fault 52: ``none`` in any spelling, and what is no algorithm at all."""
    refused(token(header={"alg": algorithm}), "token_algorithm")


def test_fault_52_an_unsigned_token() -> None:
    """Fault 52: the three forms of a token without a signature."""
    header = base64url(json.dumps({"alg": "none", "kid": "k1", "typ": TOKEN_TYPE}).encode())
    body = base64url(json.dumps(claims()).encode())
    refused(header + b"." + body + b".", "token_malformed")
    refused(header + b"." + body, "token_malformed")
    refused(header + b"." + body + b".AA", "token_algorithm")


@pytest.mark.parametrize("kid", ["k1", "k2", "k3"])
@pytest.mark.parametrize("encoding", ["raw", "pem"])
def test_fault_52_hs256_signed_with_the_public_key(kid: str, encoding: str) -> None:
    """Fault 52: the public key is no shared secret (CVE-2022-29217)."""
    public = {"k1": KEY, "k2": CURVE_KEY, "k3": RSA_KEY}[kid].public_key()
    if encoding == "raw" and isinstance(public, ed25519.Ed25519PublicKey):
        secret = public.public_bytes_raw()
    else:
        secret = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "kid": kid, "typ": TOKEN_TYPE}
    text = base64url(json.dumps(header).encode()) + b"." + base64url(json.dumps(claims()).encode())
    refused(text + b"." + base64url(hmac.new(secret, text, hashlib.sha256).digest()), "token_algorithm")


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "ES512", "HS256", "eddsa", "Ed25519"])
def test_fault_52_the_algorithm_is_the_keys_not_the_tokens(algorithm: str) -> None:
    """Fault 52: a good EdDSA signature under a header that names another algorithm."""
    refused(token(header={"alg": algorithm}), "token_algorithm")


def test_fault_52_every_forgery_gets_one_text() -> None:
    """Fault 52: signature, key, algorithm and format failures cannot be told apart by the peer."""
    forgeries = [
        b"",
        b"a.b",
        b"a.b.c.d.e",
        token(key=STRANGER),
        token(header={"alg": "none"}),
        token(header={"kid": "unknown"}),
        token(header={"typ": "JWT"}),
        token(header={"crit": ["exp"]}),
        token(key=STRANGER, exp=NOW - 9999, iat=NOW - 99999),
        token(key=STRANGER, aud="elsewhere"),
        b"x" * 10_000,
    ]
    assert {refusal(forgery).text for forgery in forgeries} == {REFUSED}
    assert len({refusal(forgery).reason for forgery in forgeries}) == 7


# --- fault 53: the required claims ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUIRED_CLAIMS)
def test_fault_53_a_missing_claim(name: str) -> None:
    """Fault 53: exp, iat, iss, aud, sub and jti must be there."""
    refused(token(**{name: ...}), f"token_no_{name}")


@pytest.mark.parametrize("audience", ["gateway2", "gatewa", "Gateway", "", "gateway "])
def test_fault_53_a_wrong_audience_is_told_to_who_holds_a_signed_token(audience: str) -> None:
    error = refusal(token(aud=audience))
    assert error.reason == "token_audience"
    assert error.text == "token is for another audience, not for 'gateway'"


@pytest.mark.parametrize(
    "issuer",
    ["gateway:node-2", "gateway:node", "gateway", "gateway:node-11", "", None, [ISSUER], "https://idp.example"],
)
def test_fault_53_the_issuer_is_compared_whole(issuer: object) -> None:
    """Fault 53: no part of the issuer, no list with it, no other key's issuer (CVE-2024-53861)."""
    refused(token(iss=issuer), "token_issuer")


@pytest.mark.parametrize("changes", [{"iat": NOW + 300, "exp": NOW + 600}, {"nbf": NOW + 300}])
def test_fault_53_a_token_of_the_future(changes: dict[str, int]) -> None:
    """Fault 53: iat or nbf ahead of the clock by more than the leeway."""
    error = refusal(token(**changes))
    assert (error.reason, error.text) == (
        "token_not_yet_valid",
        "token becomes valid in 5 m only; a clock may be wrong",
    )


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_fault_53_the_leeway_is_exact(claim: str) -> None:
    """Fault 53: 60 s ahead is accepted, 61 s is not."""
    assert VERIFIER.verify(token(**{claim: NOW + 60}), NOW)
    assert refusal(token(**{claim: NOW + 61})).reason == "token_not_yet_valid"


def test_an_expired_token_says_so_and_what_to_look_at() -> None:
    error = refusal(token(iat=NOW - 3840, exp=NOW - 240))
    assert (error.reason, error.text) == ("token_expired", "token expired 4 m ago; device clock may be wrong")


@pytest.mark.parametrize(("late", "ok"), [(0, True), (59, True), (60, False), (61, False)])
def test_expiry_allows_the_leeway_and_not_a_second_more(late: int, ok: bool) -> None:
    text = token(iat=NOW - 3600, exp=NOW - late)
    if ok:
        assert VERIFIER.verify(text, NOW).expires_at == NOW - late
    else:
        assert refusal(text).reason == "token_expired"


@pytest.mark.parametrize(
    ("seconds", "words"), [(61, "1 m"), (3540, "59 m"), (7200, "2 h"), (86400 * 3, "3 d"), (60, "1 m")]
)
def test_an_age_is_told_in_one_figure(seconds: int, words: str) -> None:
    assert f"expired {words} ago" in refusal(token(iat=NOW - seconds - 60, exp=NOW - seconds)).text


@pytest.mark.parametrize("now", [math.nan, -math.inf, 0.0, -1.0, math.inf])
def test_a_node_without_a_clock_lets_nobody_in(now: float) -> None:
    """Faults 3, JWT rule 6: no clock, no entry."""
    assert refusal(token(), now).reason in ("token_not_yet_valid", "token_expired")


@pytest.mark.parametrize("claim", ["iat", "exp", "nbf"])
@pytest.mark.parametrize("value", ["1800000000", None, True, [], {}, -1, 2**53 + 1, 10**400, math.nan, math.inf, 1e300])
def test_a_time_that_is_none(claim: str, value: object) -> None:
    refused(token(**{claim: value}), "token_time")


# --- fault 54: the lifetime cap ------------------------------------------------------------------------------------


def test_fault_54_a_token_for_the_year_9999() -> None:
    """Fault 54: exp - iat is capped at 24 h, which PyJWT does not do."""
    error = refusal(token(exp=253_402_300_799))
    assert error.reason == "token_lifetime"
    assert error.text == "token lives for 2912064 d, at most 1 d is accepted"


def test_fault_54_the_cap_is_exact() -> None:
    """Fault 54: 24 h is accepted, a second more is not."""
    assert VERIFIER.verify(token(iat=NOW, exp=NOW + 86400), NOW)
    assert refusal(token(iat=NOW, exp=NOW + 86401)).reason == "token_lifetime"


def test_fault_54_the_cap_can_be_set() -> None:
    verifier = TokenVerifier([VerificationKey("k1", "EdDSA", KEY.public_key(), ISSUER)], max_lifetime=600)
    assert refusal(token(), verifier=verifier).reason == "token_lifetime"


@pytest.mark.parametrize("life", [0, -1, -86400])
def test_fault_54_a_token_that_ends_before_it_begins(life: int) -> None:
    refused(token(iat=NOW, exp=NOW + life), "token_lifetime")


# --- fault 55: the kind of token -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JWT", "gw-admin+jwt", "at+jwt", "GW-DEVICE+JWT", "", None, ..., [TOKEN_TYPE]])
def test_fault_55_a_token_of_another_kind(kind: object) -> None:
    """Fault 55: typ must be ours, to the letter."""
    refused(token(header={"typ": kind}), "token_type")


@pytest.mark.parametrize("audience", [["gateway"], ["gateway", "other"], [], {"gateway": 1}, None, True])
def test_fault_55_the_audience_is_one_string(audience: object) -> None:
    """Fault 55: a list is refused even where it holds our audience."""
    assert refusal(token(aud=audience)).reason == "token_audience"


# --- fault 56: the header ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critical", [["exp"], ["x-unknown"], [], "exp", None])
def test_fault_56_critical_headers(critical: object) -> None:
    """Fault 56: ``crit`` in any form (CVE-2026-32597)."""
    refused(token(header={"crit": critical}), "token_critical_header")


@pytest.mark.parametrize("value", [False, True])
def test_fault_56_an_unencoded_payload(value: bool) -> None:
    """Fault 56 and faults 3, JWT rule 4: ``b64``."""
    refused(token(header={"b64": value}), "token_critical_header")


def test_fault_56_an_encrypted_token() -> None:
    """Faults 3, JWT rule 4: five segments are a JWE."""
    refused(b"eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn", "token_malformed")
    refused(token() + b".aXY.dGFn", "token_malformed")


def test_fault_56_headers_that_bring_a_key_are_not_looked_at() -> None:
    """Fault 56: nothing is fetched from jku or x5u, and a key in jwk or x5c vouches for nobody."""
    public = STRANGER.public_key().public_bytes_raw()
    key = {"kty": "OKP", "crv": "Ed25519", "x": base64url(public).decode(), "kid": "k1"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/keys"
        bait = {"jku": url, "x5u": url, "jwk": key, "x5c": [base64.b64encode(public).decode()]}
        refused(token(header=bait, key=STRANGER), "token_signature")
        refused(token(header={**bait, "kid": "other"}, key=STRANGER), "token_key_unknown")
        assert VERIFIER.verify(token(header=bait), NOW).key_id == "k1"
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "kid",
    [
        "../../etc/passwd",
        "/dev/null",
        "k1' OR '1'='1",
        "k1; DROP TABLE keys",
        "k1\0",
        "K1",
        " k1",
        "",
        "k" * 5_000,
        "k" * 65,
        None,
        1,
        ["k1"],
        {"k1": 1},
        ...,
    ],
)
def test_fault_56_a_key_id_is_a_dictionary_key_and_nothing_else(kid: object) -> None:
    """Fault 56: no path, no SQL, nothing long, nothing but a string."""
    refused(token(header={"kid": kid}), "token_key_unknown")


def test_fault_56_a_key_id_of_10_kB_is_refused_by_length() -> None:
    refused(token(header={"kid": "k" * 10_000}), "token_too_long")


# --- fault 57: the keys --------------------------------------------------------------------------------------------


def test_fault_57_unknown_key_ids_change_nothing() -> None:
    """Fault 57: a flood of random ids leaves the good keys where they are."""
    for number in range(1_000):
        refused(token(header={"kid": f"random-{number}"}), "token_key_unknown")
    assert VERIFIER.verify(token(), NOW)


def test_two_issuers_may_use_one_key_id() -> None:
    other = VerificationKey("k1", "EdDSA", STRANGER.public_key(), "https://other.example")
    curve = VerificationKey("k1", "ES256", CURVE_KEY.public_key(), "https://curve.example")
    verifier = TokenVerifier([other, curve, VerificationKey("k1", "EdDSA", KEY.public_key(), ISSUER)])
    assert verifier.verify(token(), NOW).issuer == ISSUER
    assert verifier.verify(token(key=STRANGER, iss="https://other.example"), NOW).issuer == "https://other.example"
    assert refusal(token(key=STRANGER), verifier=verifier).reason == "token_issuer"


def test_one_issuer_may_not_use_a_key_id_twice() -> None:
    keys = [VerificationKey("k1", "EdDSA", key.public_key(), ISSUER) for key in (KEY, STRANGER)]
    with pytest.raises(ValueError, match="two keys of issuer 'gateway:node-1' have the id 'k1'"):
        TokenVerifier(keys)


def test_a_verifier_without_keys_accepts_nobody() -> None:
    assert refusal(token(), verifier=TokenVerifier([])).reason == "token_key_unknown"


@pytest.mark.parametrize(
    ("kid", "algorithm", "key", "issuer"),
    [
        ("k", "HS256", KEY.public_key(), ISSUER),
        ("k", "none", KEY.public_key(), ISSUER),
        ("k", "ES256", KEY.public_key(), ISSUER),
        ("k", "EdDSA", CURVE_KEY.public_key(), ISSUER),
        ("k", "EdDSA", ed448.Ed448PrivateKey.generate().public_key(), ISSUER),
        ("k", "ES256", ec.derive_private_key(7, ec.SECP384R1()).public_key(), ISSUER),
        ("k", "RS256", KEY.public_key(), ISSUER),
        ("k", "EdDSA", b"secret", ISSUER),
        ("k", "EdDSA", KEY, ISSUER),
        ("", "EdDSA", KEY.public_key(), ISSUER),
        ("k" * 65, "EdDSA", KEY.public_key(), ISSUER),
        ("k", "EdDSA", KEY.public_key(), ""),
    ],
)
def test_a_key_is_pinned_to_an_algorithm_that_fits_it(kid: str, algorithm: str, key: Any, issuer: str) -> None:
    with pytest.raises(ValueError, match=r"does not fit algorithm|a key id has|has no issuer"):
        VerificationKey(kid, algorithm, key, issuer)


def test_an_rsa_key_of_1024_bits_is_too_small() -> None:
    with pytest.raises(ValueError, match="does not fit algorithm"):
        VerificationKey("k", "RS256", rsa.generate_private_key(65537, 1024).public_key(), ISSUER)


def test_a_key_shows_no_secret() -> None:
    assert repr(VerificationKey("k1", "EdDSA", KEY.public_key(), ISSUER)) == (
        "VerificationKey('k1', EdDSA, issuer='gateway:node-1')"
    )


# --- fault 60: one token has one identity --------------------------------------------------------------------------


def test_fault_60_the_twin_of_a_signature_is_the_same_principal() -> None:
    """Fault 60: (r, n - s) is as good as (r, s); what a revocation names does not change with it."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    text = jwt.encode(
        claims(iss="https://idp.example"), CURVE_KEY, "ES256", headers={"kid": "k2", "typ": TOKEN_TYPE}
    ).encode()
    body, _, signature = text.rpartition(b".")
    raw = base64.urlsafe_b64decode(signature + b"==")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    assert decode_dss_signature(encode_dss_signature(r, order - s)) == (r, order - s)
    twin = body + b"." + base64url(r.to_bytes(32, "big") + (order - s).to_bytes(32, "big"))
    assert twin != text
    first, second = VERIFIER.verify(text, NOW), VERIFIER.verify(twin, NOW)
    assert (first.subject, first.key_id, first.token_id) == (second.subject, second.key_id, second.token_id)


def test_fault_60_a_token_has_no_second_spelling() -> None:
    """Fault 60: unused bits, padding and line ends in base64 do not make another token of it."""
    good = token()
    body, _, signature = good.rpartition(b".")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1:])
    respelt = signature[:-1] + alphabet[last ^ 1 : (last ^ 1) + 1]
    assert base64.urlsafe_b64decode(respelt + b"==") == base64.urlsafe_b64decode(signature + b"==")
    for bad in (body + b"." + respelt, good + b"==", good + b"\n", b" " + good, good.replace(b"-", b"+") + b"/"):
        refused(bad, "token_malformed")


# --- fault 62: the length ------------------------------------------------------------------------------------------


class OnlyALength:
    """A token of which nothing but the length can be asked."""

    def __len__(self) -> int:
        return 5_000_000


def test_fault_62_a_token_of_5_MB_is_refused_unread() -> None:
    """Fault 62: by its length, before parsing."""
    unread: Any = OnlyALength()
    refused(unread, "token_too_long")
    refused("x" * 5_000_000, "token_too_long")


def test_fault_62_the_length_limit_is_exact() -> None:
    """Fault 62: 8 KiB is read, a byte more is not."""
    refused(b"x" * MAX_TOKEN_BYTES, "token_malformed")
    refused(b"x" * (MAX_TOKEN_BYTES + 1), "token_too_long")


# --- subject and claims of ours ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    ["", "x" * 65, "a.b", "a/b", "*", "a*", "#", "+", "..", "$SYS", "a\0", "a\n", "\n", "é", "a b", None, 1, ["a"]],
)
def test_fault_65_a_subject_is_letters_digits_dash_and_underscore(subject: object) -> None:
    """Fault 65: nothing that a pattern, a path or a topic could read."""
    refused(token(sub=subject), "token_sub")


@pytest.mark.parametrize("subject", ["a", "x" * 64, "Thermostat_1-b", "-"])
def test_a_good_subject(subject: str) -> None:
    assert VERIFIER.verify(token(sub=subject), NOW).subject == subject


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("jti", ""),
        ("jti", 7),
        ("jti", "x" * 129),
        ("jti", "a\nb"),
        ("kind", "root"),
        ("kind", "Device"),
        ("kind", None),
        ("kind", ["device"]),
        ("services", "thermo"),
        ("services", {"thermo": 1}),
        ("services", [1]),
        ("services", [""]),
        ("services", ["a\0"]),
        ("services", ["a..b"]),
        ("services", ["{other}"]),
        ("services", None),
        ("routes", "*"),
        ("routes", ["*", None]),
        ("routes", ["#"]),
        ("groups", "lab"),
        ("groups", [1]),
        ("groups", [""]),
        ("labels", ["site"]),
        ("labels", {"site": 7}),
        ("labels", {"": "x"}),
        ("labels", {"site": "\x1b[2J"}),
    ],
)
def test_a_claim_of_the_wrong_type_or_shape(claim: str, value: object) -> None:
    refused(token(**{claim: value}), f"token_{claim}")


# --- format --------------------------------------------------------------------------------------------------------

HEADER = json.dumps({"alg": "EdDSA", "kid": "k1", "typ": TOKEN_TYPE}).encode()


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b".",
        b"..",
        b"...",
        b"a.b",
        b"A.A.A",
        b"AA.AA.AA",
        b"\xff.\xff.\xff",
        "é.é.é",
        "\ud800.a.a",
        b"null",
        "a b.c.d",
    ],
)
def test_what_is_no_token(bad: bytes | str) -> None:
    refused(bad, "token_malformed")


@pytest.mark.parametrize(
    "header", [b"{", b"[]", b"null", b"7", b"\xff", b"[" * 3_000, b'"x"', HEADER.decode().encode("utf-16")]
)
def test_a_header_that_is_no_json_object(header: bytes) -> None:
    refused(signed(json.dumps(claims()).encode(), header), "token_malformed")


@pytest.mark.parametrize("payload", [b"{", b"[]", b"null", b"\xff", b"[" * 3_000, b'{"exp":' + b"9" * 5_000 + b"}"])
def test_a_payload_that_is_no_json_object(payload: bytes) -> None:
    refused(signed(payload, HEADER), "token_claims")


@pytest.mark.parametrize("cut", [0, 1, 31, 63, 65])
def test_a_signature_of_another_length(cut: int) -> None:
    body, _, signature = token().rpartition(b".")
    raw = base64.urlsafe_b64decode(signature + b"==")
    bad = (raw + b"\0" * 65)[:cut]
    refused(body + b"." + base64url(bad), "token_signature" if bad else "token_malformed")


@given(st.binary(max_size=400))
def test_random_bytes_meet_a_token_error_and_nothing_else(data: bytes) -> None:
    refusal(data)


@given(st.text(max_size=400))
def test_random_text_meets_a_token_error_and_nothing_else(text: str) -> None:
    refusal(text)


@given(st.lists(st.binary(max_size=80), min_size=3, max_size=3))
def test_random_segments_meet_a_token_error_and_nothing_else(parts: list[bytes]) -> None:
    refusal(b".".join(base64url(part) for part in parts))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "cty"]), JSON))
def test_random_headers_meet_a_token_error_or_a_good_signature(header: dict[str, Any]) -> None:
    try:
        VERIFIER.verify(token(header=header), NOW)
    except TokenError as error:
        text = error.text
    else:
        text = None
    good = {"alg": "EdDSA", "kid": "k1", "typ": TOKEN_TYPE}
    same = all(header.get(name, value) == value for name, value in good.items())
    harmless = same and header.keys().isdisjoint({"crit", "b64"})
    assert text == (None if harmless else REFUSED)


CLAIMS = ["iss", "aud", "sub", "iat", "exp", "nbf", "jti", "kind", "services", "routes", "groups", "labels"]


@given(st.dictionaries(st.sampled_from(CLAIMS), JSON, max_size=4))
def test_random_claims_meet_a_token_error_or_a_principal(changes: dict[str, Any]) -> None:
    try:
        principal = VERIFIER.verify(token(**changes), NOW)
    except TokenError:
        return
    assert principal.issuer == ISSUER
    assert 0 < principal.expires_at - principal.issued_at <= 86400


GOOD = token()


@settings(max_examples=examples(100))
@given(st.integers(0, len(GOOD) * 8 - 1))
@example(len(GOOD) * 8 - 1)
def test_a_flipped_bit_is_always_noticed(bit: int) -> None:
    bad = bytearray(GOOD)
    bad[bit // 8] ^= 1 << (bit % 8)
    assert refusal(bytes(bad)).text == REFUSED


@given(st.integers(0, len(GOOD) - 1))
def test_a_cut_token_is_always_noticed(length: int) -> None:
    assert refusal(GOOD[:length]).text == REFUSED


# --- minting -------------------------------------------------------------------------------------------------------


def minted(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "key": KEY,
        "kid": "k1",
        "issuer": ISSUER,
        "audience": "gateway",
        "subject": "bench",
        "kind": Kind.SERVICE,
        "services": ["bench"],
        "routes": ["*"],
        "ttl": 3600,
        "now": NOW + 0.7,
    }
    return mint(**(arguments | changes))


def test_what_is_minted_is_accepted() -> None:
    text = minted(groups=["lab"], labels={"site": "7"}, token_id="fixed")
    assert VERIFIER.verify(text, NOW) == Principal(
        subject="bench",
        kind=Kind.SERVICE,
        token_id="fixed",
        issued_at=NOW,
        expires_at=NOW + 3600,
        services=("bench",),
        routes=("*",),
        groups=("lab",),
        labels=(("site", "7"),),
        issuer=ISSUER,
        key_id="k1",
    )
    assert jwt.decode(
        text, KEY.public_key(), ["EdDSA"], audience="gateway", options={"verify_exp": False, "verify_iat": False}
    )


def test_each_minted_token_has_an_id_of_its_own() -> None:
    ids = {VERIFIER.verify(minted(), NOW).token_id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(token_id) == 22 for token_id in ids)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ttl": 0}, "token_lifetime"),
        ({"ttl": 0.5}, "token_lifetime"),
        ({"ttl": 86401}, "token_lifetime"),
        ({"ttl": math.nan}, "token_lifetime"),
        ({"ttl": math.inf}, "token_lifetime"),
        ({"ttl": 700, "max_lifetime": 600}, "token_lifetime"),
        ({"subject": "a.b"}, "token_sub"),
        ({"kind": "root"}, "token_kind"),
        ({"services": ["#"]}, "token_services"),
        ({"routes": ["{x}"]}, "token_routes"),
        ({"groups": [""]}, "token_groups"),
        ({"labels": {"a": "\n"}}, "token_labels"),
        ({"token_id": ""}, "token_jti"),
        ({"services": ["x" * 200] * 40}, "token_too_long"),
    ],
)
def test_what_would_be_refused_is_not_minted(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokenError) as caught:
        minted(**changes)
    assert caught.value.reason == reason
    assert caught.value.text != REFUSED
