"""Where the two planes meet: what the settings say and the control plane knows, as the data plane takes it.

Knows both and is known by neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.config import Config
from gateway.control import bearer
from gateway.control.access_rules import AccessRules
from gateway.control.registry import Publication
from gateway.errors import TokenError
from gateway.forwarding.plane import Authenticator, Snapshot
from gateway.policy.access_list import ENROLLING, AccessList
from gateway.policy.limits import profile_for
from gateway.policy.principal import Kind, Principal, anonymous
from gateway.policy.tokens import REFUSED, TokenVerifier
from gateway.session.setup import SetupRules
from gateway.transport.admission import AdmissionRules

#: How a secret begins with which a node may ask to join and a device to enrol, and how long it has for that, in
#: seconds.
_ENROLMENT = b"ge_"
JOINING_S = 30.0
#: How long a device whose token has run out has for its renewal, in seconds.
RENEWAL_S = 60.0


def access_rules(config: Config) -> AccessRules:
    auth = config.auth
    return AccessRules(
        audience=auth.audience,
        leeway_s=auth.leeway_s,
        max_lifetime_s=auth.max_lifetime_s,
        registered_only=auth.registered_only,
        device_ttl_s=min(auth.device_ttl_s, auth.max_lifetime_s),
        renewal_grace_s=auth.renewal_grace_s,
    )


def admission_rules(config: Config) -> AdmissionRules:
    """Those of one process: of what is a rate each takes its part."""
    limits = config.limits
    processes = config.node.workers
    return AdmissionRules(
        max_connections=limits.max_connections,
        accept_rate=-(-limits.accept_rate // processes),
        accept_burst=-(-limits.accept_burst // processes),
        max_unauthenticated=limits.max_unauthenticated,
        max_flaps=limits.flapping,
        max_token_failures=limits.token_failures,
        ban_s=limits.ban_s,
        loopback=limits.loopback,
    )


def snapshot(
    config: Config,
    publication: Publication,
    generation: int,
    unknown_key: Callable[[], None] = lambda: None,
    insiders: Mapping[bytes, Principal] | None = None,
) -> Snapshot:
    """What connections go by from now on. `unknown_key` is told of a token whose key nobody knows. `insiders`: other
    processes of this node, by what they have in the place of a token; it may change without a new snapshot."""
    limits = config.limits
    profiles = {kind: profile_for(kind, getattr(limits, kind.value).overrides()) for kind in Kind}
    return Snapshot(
        generation=generation,
        authenticate=_authenticator(config, publication, unknown_key, {} if insiders is None else insiders),
        profiles=profiles,
        setup_rules=SetupRules(
            lifetime_min_ms=limits.keepalive_min_ms,
            lifetime_max_ms=limits.lifetime_max_ms,
            max_bytes=max(profile.max_setup_bytes for profile in profiles.values()),
            max_mime_bytes=max(profile.max_mime_bytes for profile in profiles.values()),
        ),
        setup_timeout_s=limits.setup_timeout_s,
        access=publication.access,
    )


def _authenticator(
    config: Config, publication: Publication, unknown_key: Callable[[], None], insiders: Mapping[bytes, Principal]
) -> Authenticator:
    if config.auth.mode == "off":
        nobody = anonymous()
        return lambda token, now: nobody if token is None else insiders.get(token, nobody)
    access = publication.access
    grace, own_issuer = config.auth.renewal_grace_s, access.own_issuer
    verifier = TokenVerifier(
        publication.keys,
        audience=config.auth.audience,
        leeway=config.auth.leeway_s,
        max_lifetime=config.auth.max_lifetime_s,
    )

    def authenticate(token: bytes | None, now: float) -> Principal:
        if token is not None and token.startswith(_ENROLMENT):
            return _newcomer(access, token, now)
        if token is None:
            raise TokenError("no token: send it as bearer authentication in SETUP metadata", reason="token_missing")
        if token in insiders:
            return insiders[token]
        try:
            return verifier.verify(token, now)
        except TokenError as error:
            if error.reason == "token_key_unknown":
                unknown_key()
            if error.reason != "token_expired" or not grace:
                raise
            lapsed = verifier.verify(token, now, grace=grace)
            if lapsed.issuer != own_issuer or lapsed.subject not in access.devices:
                raise
            return replace(lapsed, services=(), routes=(), expires_at=now + RENEWAL_S, renewal_only=True)

    return authenticate


def _newcomer(access: AccessList, token: bytes, now: float) -> Principal:
    """Who holds the secret of a join token or of an enrolment: a node may ask to join, a device for its credential,
    and nothing else. Raises TokenError."""
    ident, secret = bearer.read("ge", token.decode("ascii", "replace")) or ("", "")
    joins = ident in access.joining
    digest, ends_at = (access.joining if joins else access.enrolling).get(ident, (None, 0.0))
    if not bearer.matches(secret, digest) or ends_at <= now:
        raise TokenError(REFUSED, reason="token_join" if joins else "token_enrolment")
    subject, kind = (f"join-{ident}", Kind.NODE) if joins else (ENROLLING + ident, Kind.DEVICE)
    return Principal(subject, kind, "", now, now + JOINING_S, renewal_only=True)
