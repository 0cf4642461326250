"""Fuzz target of the token verifier: a principal for what somebody we trust signed, a TokenError for all else."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.errors import TokenError
from gateway.policy.principal import Kind
from gateway.policy.tokens import MAX_TOKEN_BYTES, REFUSED, TOKEN_TYPE, TokenVerifier, VerificationKey, mint
from tests.fuzz.target import check

NOW = 1_800_000_000.0
ISSUER = "gateway:node-1"
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CURVE_KEY = ec.derive_private_key(12345, ec.SECP256R1())
#: Reasons whose holder may be told more than that the token is refused.
_TOLD = {"token_audience", "token_lifetime", "token_not_yet_valid", "token_expired"}


@cache
def _verifier() -> TokenVerifier:
    return TokenVerifier(
        [
            VerificationKey("k1", "EdDSA", KEY.public_key(), ISSUER),
            VerificationKey("k2", "ES256", CURVE_KEY.public_key(), "https://idp.example"),
            VerificationKey("k3", "RS256", rsa.generate_private_key(65537, 2048).public_key(), "https://rsa.example"),
        ]
    )


@cache
def good() -> bytes:
    token = mint(KEY, "k1", ISSUER, "gateway", "thermo-1", Kind.DEVICE, ["thermo"], ["log.*"], 600, NOW, token_id="5f")
    return token.encode()


def token(data: bytes) -> str:
    """An odd first byte: the rest is a token. An even one: a u16, a header of that size and claims, which get signed.

    What is not signed by us is nobody's but for the one good token; what is signed is somebody's or refused.
    """
    if not data or data[0] & 1:
        text = data[1:]
        signed = text == good()
    else:
        end = 3 + int.from_bytes(data[1:3], "big")
        text = _signed(data[3:end], data[end:])
        signed = True
    try:
        principal = _verifier().verify(text, NOW)
    except TokenError as error:
        check(error.reason.startswith("token_"), f"reason {error.reason}")
        check(error.text == REFUSED or error.reason in _TOLD, f"a stranger is told {error.text}")
        str(error).encode()
        return f"{error.reason}"
    check(signed, "accepted without a signature")
    check(len(text) <= MAX_TOKEN_BYTES, "accepted beyond its length")
    check(principal.expires_at > NOW - 61 and 0 < principal.expires_at - principal.issued_at <= 86400, "its time")
    for text_of in (principal.subject, principal.token_id, *principal.services, *principal.routes, *principal.groups):
        check(text_of.isprintable() and text_of, f"{text_of!r} in a principal")
    return f"{principal.kind}"


def _signed(header: bytes, claims: bytes) -> bytes:
    text = _base64url(header) + b"." + _base64url(claims)
    return text + b"." + _base64url(KEY.sign(text))


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def seeds() -> list[bytes]:
    """The good token; signed headers and claims, good and not so good."""
    header = {"alg": "EdDSA", "kid": "k1", "typ": TOKEN_TYPE}
    claims = {
        "iss": ISSUER,
        "aud": "gateway",
        "sub": "thermo-1",
        "iat": NOW - 10,
        "exp": NOW + 590,
        "jti": "5f",
        "kind": "device",
        "services": ["thermo", "{sub}.*"],
        "routes": ["log.*"],
        "groups": ["lab"],
        "labels": {"site": "7"},
        "nbf": NOW - 10,
    }
    dump: Callable[[object], bytes] = lambda value: json.dumps(value, separators=(",", ":")).encode()  # noqa: E731
    variants: list[tuple[object, object]] = [
        (header, claims),
        (header | {"kid": "k2", "alg": "ES256"}, claims),
        (header | {"kid": "k3", "alg": "RS256"}, claims),
        (header | {"alg": "none"}, claims),
        (header | {"crit": ["b64"], "b64": False}, claims),
        (header | {"jku": "http://127.0.0.1/", "jwk": {}, "x5c": [""]}, claims),
        (header, claims | {"exp": 253402300799}),
        (header, claims | {"exp": NOW - 90, "iat": NOW - 600}),
        (header, claims | {"aud": ["gateway"]}),
        (header, claims | {"sub": "a.*", "labels": {"\ud800": "x"}}),
        (header, [claims]),
    ]
    made = []
    for head, body in variants:
        raw = dump(head)
        made.append(b"\x00" + len(raw).to_bytes(2, "big") + raw + dump(body))
    return [b"\x01" + good(), b"\x01" + _signed(dump(header), b"[" * 3000), *made]
