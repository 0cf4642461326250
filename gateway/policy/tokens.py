"""Bearer tokens: the one place where a JWT becomes a principal, and the one where we make one.

The rules are RFC 8725's and faults 52 to 62:

* A token is refused by its length before anything of it is read.
* The key is chosen by ``kid``, a dictionary key and nothing else; the algorithm is pinned to the key and the header
  must name the same. ``jku``, ``jwk``, ``x5u`` and ``x5c`` are not looked at, so there is nothing to fetch; ``crit``
  and ``b64`` are refused.
* ``typ`` and ``iss`` are compared whole; ``aud`` is one string and compared whole; every claim of ``REQUIRED_CLAIMS``
  is there; nobody's token lives longer than the cap, whatever its ``exp`` says.
* What a stranger learns is one text, ``REFUSED``. Only the holder of a token that somebody we trust did sign is told
  more, and only where it helps: the wrong time, a life that is too long, the wrong audience. ``TokenError.reason``
  names the precise rule, for the counter and the audit.
* ``verify`` raises ``TokenError`` and nothing else, whatever bytes come.

PyJWT does the signatures; its own ``decode`` is not used because it reads the system clock, parses twice and checks
each character of a token in Python (75 of 210 µs). Knows no clock (``now`` is passed in), no file, no network.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import get_algorithm_by_name
from jwt.algorithms import Algorithm

from gateway.errors import TokenError
from gateway.policy.access import is_pattern
from gateway.policy.principal import Kind, Principal

TOKEN_TYPE = "gw-device+jwt"
AUDIENCE = "gateway"
MAX_TOKEN_BYTES = 8 * 1024
MAX_KEY_ID_CHARACTERS = 64
MAX_LIFETIME_S = 24 * 3600
LEEWAY_S = 60
REQUIRED_CLAIMS = ("exp", "iat", "iss", "aud", "sub", "jti")
REFUSED = "token not accepted"

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

_SEGMENTS = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_ID_CHARACTERS = 128
_KINDS = frozenset(kind.value for kind in Kind)
# Beyond it a float no longer holds a whole second, and an int of a thousand digits does not become a float at all.
_MAX_TIME = 2.0**53


class VerificationKey:
    """A public key that may vouch for tokens: its id, its one algorithm, its one issuer.

    ``algorithm`` is ``EdDSA`` (Ed25519), ``ES256`` (P-256) or ``RS256`` (2,048 bits or more). Shared secrets are not
    accepted: whoever verifies with one can sign with it.

    Raises:
        ValueError: the key does not fit the algorithm, or the id or issuer is empty or too long.
    """

    __slots__ = ("algorithm", "issuer", "key", "kid", "scheme")

    def __init__(self, kid: str, algorithm: str, key: PublicKey, issuer: str) -> None:
        fits = {
            "EdDSA": isinstance(key, Ed25519PublicKey),
            "ES256": isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1),
            "RS256": isinstance(key, RSAPublicKey) and key.key_size >= 2048,
        }
        if not fits.get(algorithm, False):
            raise ValueError(f"key {kid!r} does not fit algorithm {algorithm!r} (EdDSA, ES256, RS256 of 2,048 bits)")
        if not 0 < len(kid) <= MAX_KEY_ID_CHARACTERS:
            raise ValueError(f"a key id has 1 to {MAX_KEY_ID_CHARACTERS} characters")
        if not issuer:
            raise ValueError(f"key {kid!r} has no issuer")
        self.kid = kid
        self.algorithm = algorithm
        self.key = key
        self.issuer = issuer
        self.scheme: Algorithm = get_algorithm_by_name(algorithm)

    def __repr__(self) -> str:
        return f"VerificationKey({self.kid!r}, {self.algorithm}, issuer={self.issuer!r})"


class TokenVerifier:
    """Checks tokens against a fixed set of keys. A change of keys is a new verifier.

    Two issuers may use the same key id; a token is then tried with each key of that id and algorithm, and its ``iss``
    must be the issuer of the one that fits.

    ``leeway`` and ``max_lifetime`` are seconds.

    Raises:
        ValueError: two keys have the same id, algorithm and issuer.
    """

    __slots__ = ("_audience", "_keys", "_leeway", "_max_lifetime", "_token_type")

    def __init__(
        self,
        keys: Iterable[VerificationKey],
        *,
        audience: str = AUDIENCE,
        leeway: float = LEEWAY_S,
        max_lifetime: float = MAX_LIFETIME_S,
        token_type: str = TOKEN_TYPE,
    ) -> None:
        by_id: dict[str, tuple[VerificationKey, ...]] = {}
        for key in keys:
            others = by_id.get(key.kid, ())
            if any(other.algorithm == key.algorithm and other.issuer == key.issuer for other in others):
                raise ValueError(f"two keys of issuer {key.issuer!r} have the id {key.kid!r}")
            by_id[key.kid] = (*others, key)
        self._keys = by_id
        self._audience = audience
        self._leeway = leeway
        self._max_lifetime = max_lifetime
        self._token_type = token_type

    def verify(self, token: bytes | str, now: float, *, grace: float = 0.0) -> Principal:
        """Who holds this token, at ``now`` (seconds since the epoch). ``grace``: seconds for which a token that has run
        out is taken all the same.

        Raises:
            TokenError: it is not accepted; ``text`` is fit for the peer, ``reason`` for the counter.
        """
        if len(token) > MAX_TOKEN_BYTES:
            _refuse("token_too_long")
        key, payload = self._authentic(token)
        claims = _json_object(payload, "token_claims")
        for name in REQUIRED_CLAIMS:
            if name not in claims:
                _refuse(f"token_no_{name}")
        if claims["iss"] != key.issuer:
            _refuse("token_issuer")
        if claims["aud"] != self._audience:
            raise TokenError(f"token is for another audience, not for {self._audience!r}", reason="token_audience")
        issued_at, expires_at = self._times(claims, now, grace)
        return _principal(claims, issued_at, expires_at, key)

    def _authentic(self, token: bytes | str) -> tuple[VerificationKey, bytes]:
        """The key that signed the token, and its payload. Nothing of the payload is read before the signature holds."""
        if isinstance(token, str):
            try:
                token = token.encode("ascii")
            except UnicodeEncodeError:
                _refuse("token_malformed")
        segments = _SEGMENTS.fullmatch(token)
        if segments is None:
            _refuse("token_malformed")
        header = _json_object(_base64url(segments[1]), "token_malformed")
        if "crit" in header or "b64" in header:
            _refuse("token_critical_header")
        if header.get("typ") != self._token_type:
            _refuse("token_type")
        kid, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(kid, str) or len(kid) > MAX_KEY_ID_CHARACTERS or kid not in self._keys:
            _refuse("token_key_unknown")
        signature = _base64url(segments[3])
        signed = token[: segments.end(2)]
        pinned = False
        for key in self._keys[kid]:
            if key.algorithm == algorithm:
                pinned = True
                if key.scheme.verify(signed, key.key, signature):
                    return key, _base64url(segments[2])
        _refuse("token_signature" if pinned else "token_algorithm")

    def _times(self, claims: Mapping[str, Any], now: float, grace: float) -> tuple[float, float]:
        """``iat`` and ``exp``. Each test asks for what must hold, so that a clock that is no number lets nobody in."""
        issued_at, expires_at = _time(claims["iat"]), _time(claims["exp"])
        not_before = max(issued_at, _time(claims.get("nbf", issued_at)))
        lifetime = expires_at - issued_at
        if not lifetime > 0:
            _refuse("token_lifetime")
        if lifetime > self._max_lifetime:
            raise TokenError(
                f"token lives for {_duration(lifetime)}, at most {_duration(self._max_lifetime)} is accepted",
                reason="token_lifetime",
            )
        if not not_before <= now + self._leeway:
            raise TokenError(
                f"token becomes valid in {_duration(not_before - now)} only; a clock may be wrong",
                reason="token_not_yet_valid",
            )
        if not now < expires_at + self._leeway + grace:
            raise TokenError(
                f"token expired {_duration(now - expires_at)} ago; device clock may be wrong", reason="token_expired"
            )
        return issued_at, expires_at


def mint(
    key: Ed25519PrivateKey,
    kid: str,
    issuer: str,
    audience: str,
    subject: str,
    kind: Kind | str,
    services: Sequence[str],
    routes: Sequence[str],
    ttl: float,
    now: float,
    *,
    groups: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    token_id: str | None = None,
    token_type: str = TOKEN_TYPE,
    max_lifetime: float = MAX_LIFETIME_S,
) -> str:
    """A signed token that ``TokenVerifier`` accepts from ``now`` for ``ttl`` seconds.

    ``token_id`` is its ``jti``; 128 random bits when none is given.

    Raises:
        TokenError: what is asked for would be refused by the verifier; the text says what.
    """
    if not 1 <= ttl <= max_lifetime:
        text = f"a token lives from 1 s to {_duration(max_lifetime)}, not {_duration(ttl)}"
        raise TokenError(text, reason="token_lifetime")
    issued_at = int(now)
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "iat": issued_at,
        "exp": issued_at + int(ttl),
        "jti": token_id if token_id is not None else _unpadded(os.urandom(16)),
        "kind": str(kind),
        "services": list(services),
        "routes": list(routes),
    }
    if groups:
        claims["groups"] = list(groups)
    if labels:
        claims["labels"] = dict(labels)
    for claim, valid, rule in _RULES:
        if claim in claims and not valid(claims[claim]):
            raise TokenError(f"{claim} {claims[claim]!r} cannot be put into a token: {rule}", reason=f"token_{claim}")
    header = {"alg": "EdDSA", "kid": kid, "typ": token_type}
    signed = _segment(header) + b"." + _segment(claims)
    token = signed + b"." + _unpadded(key.sign(signed)).encode()
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError(f"token would have {len(token)} bytes, more than {MAX_TOKEN_BYTES}", reason="token_too_long")
    return token.decode()


def _principal(claims: Mapping[str, Any], issued_at: float, expires_at: float, key: VerificationKey) -> Principal:
    """The claims of ours, each of the right type and shape; kind defaults to device, the rights to none."""
    for claim, valid, _ in _RULES:
        if claim in claims and not valid(claims[claim]):
            _refuse(f"token_{claim}")
    return Principal(
        subject=claims["sub"],
        kind=Kind(claims.get("kind", Kind.DEVICE)),
        token_id=claims["jti"],
        issued_at=issued_at,
        expires_at=expires_at,
        services=tuple(claims.get("services", ())),
        routes=tuple(claims.get("routes", ())),
        groups=tuple(claims.get("groups", ())),
        labels=tuple(claims.get("labels", {}).items()),
        issuer=key.issuer,
        key_id=key.kid,
    )


def _is_subject(value: object) -> bool:
    return isinstance(value, str) and _SUBJECT.fullmatch(value) is not None


def _is_label(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARACTERS and value.isprintable()


def _is_kind(value: object) -> bool:
    return isinstance(value, str) and value in _KINDS


def _is_patterns(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and is_pattern(item) for item in value)


def _is_labels(value: object) -> bool:
    return isinstance(value, list) and all(_is_label(item) for item in value)


def _is_label_map(value: object) -> bool:
    return isinstance(value, dict) and all(_is_label(name) and _is_label(item) for name, item in value.items())


_PRINTABLE = f"1 to {_MAX_ID_CHARACTERS} printable characters"
_PATTERNS = "a list of names in which only * and {sub} may stand for others"
_RULES = (
    ("sub", _is_subject, "1 to 64 of A-Z a-z 0-9 _ -"),
    ("jti", _is_label, _PRINTABLE),
    ("kind", _is_kind, f"one of {', '.join(Kind)}"),
    ("services", _is_patterns, _PATTERNS),
    ("routes", _is_patterns, _PATTERNS),
    ("groups", _is_labels, f"a list of texts of {_PRINTABLE}"),
    ("labels", _is_label_map, f"texts of {_PRINTABLE} by texts of the same"),
)


def _refuse(reason: str) -> NoReturn:
    raise TokenError(REFUSED, reason=reason)


def _base64url(segment: bytes) -> bytes:
    """Decode one segment, in its one canonical form: a token has no second spelling (fault 60)."""
    try:
        decoded = b64decode(segment + b"=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except Base64Error:
        _refuse("token_malformed")
    if urlsafe_b64encode(decoded).rstrip(b"=") != segment:
        _refuse("token_malformed")
    return decoded


def _json_object(data: bytes, reason: str) -> dict[str, Any]:
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        _refuse(reason)
    if not isinstance(value, dict):
        _refuse(reason)
    return value


def _time(value: object) -> float:
    """A NumericDate (RFC 7519 section 2). ``True`` is an int to Python and no time to us."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TIME:
        _refuse("token_time")
    return float(value)


def _duration(seconds: float) -> str:
    """One figure that a person reads at a glance: ``45 s``, ``4 m``, ``3 h``, ``12 d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _unpadded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _segment(value: Mapping[str, Any]) -> bytes:
    return _unpadded(json.dumps(value, separators=(",", ":")).encode()).encode()
