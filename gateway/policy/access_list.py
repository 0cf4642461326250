"""What is known about principals beyond their tokens: registered, disabled, revoked, bounded.

An access list is frozen; a change is a new one. It is asked at SETUP and again whenever it changes, so that a token
ends when somebody says so and not only when it expires (fault 61). Revocations name the subject, the key or the token
id, never the token's text (fault 60).

Rights: what a token says is an upper bound, and so is each of its `bounds` (the device's record, its issuer's). A
principal may do what all of them allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, NoReturn

from gateway.errors import TokenError
from gateway.policy.access import Rights
from gateway.policy.principal import Kind, Principal

REVOKED = "token was revoked"
#: How the subject of a connection begins that was opened with an enrolment's token.
ENROLLING = "enroll-"
#: What another node of the federation may refuse: a token by its id, tokens of a subject that were issued before a
#: time, tokens that a key signed, a device that is disabled.
TOKEN, SUBJECT, KEY, DEVICE = "token", "subject", "key", "device"
REFUSAL_KINDS: Final = frozenset({TOKEN, SUBJECT, KEY, DEVICE})


class Refused(NamedTuple):
    """`issuer`: of the tokens that are meant; empty: any. `at`: when the token ends, before when the subject's tokens
    were issued, in Unix seconds; 0 where it is for good."""

    issuer: str
    at: float


@dataclass(frozen=True, slots=True)
class Registered:
    """One registered device or service."""

    kind: Kind
    enabled: bool
    groups: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    rights: Rights


@dataclass(frozen=True, slots=True)
class IssuerBounds:
    """What tokens of one trusted issuer may say: kinds and rights. `key_ids`: the keys that it has now."""

    kinds: frozenset[Kind]
    rights: Rights
    key_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class AccessList:
    """`devices`: by subject. `tokens`: when a token ends, by its id. `keys`: revoked, as (issuer, key id). `subjects`:
    the time before which tokens of a subject are refused. `issuers`: bounds of trusted issuers other than this node.
    `own_issuer`: this node. `registered_only`: whether a device or service that is not registered is refused.
    `joining`, `enrolling`: secrets with which a node may ask to join, and a device for its credential, by id: the
    SHA-256, and when it ends. `elsewhere`: what other nodes of the federation refuse, by kind and value."""

    devices: Mapping[str, Registered] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    keys: frozenset[tuple[str, str]] = frozenset()
    subjects: Mapping[str, float] = field(default_factory=dict)
    issuers: Mapping[str, IssuerBounds] = field(default_factory=dict)
    own_issuer: str = ""
    registered_only: bool = False
    joining: Mapping[str, tuple[bytes, float]] = field(default_factory=dict)
    enrolling: Mapping[str, tuple[bytes, float]] = field(default_factory=dict)
    elsewhere: Mapping[tuple[str, str], tuple[Refused, ...]] = field(default_factory=dict)

    def judge(self, principal: Principal, now: float) -> Principal:
        """The principal as it stands at `now`: its groups and labels are its record's, where it has one.

        Raises:
            TokenError: it may not be here (any more).
        """
        self._judge_revoked(principal, now)
        if principal.issuer != self.own_issuer and self.own_issuer and principal.issuer:
            self._judge_issuer(principal)
        if self.elsewhere:
            self._judge_elsewhere(principal, now)
        registered = self.devices.get(principal.subject)
        if registered is None:
            # Who enrols is about to be registered, and can do nothing else.
            enrols = principal.renewal_only and principal.subject.startswith(ENROLLING)
            if self.registered_only and principal.kind in (Kind.DEVICE, Kind.SERVICE) and not enrols:
                _refuse("device is not registered", "token_unregistered")
            return principal
        if not registered.enabled:
            _refuse("device is disabled", "token_disabled")
        if principal.groups == registered.groups and principal.labels == registered.labels:
            return principal
        return replace(principal, groups=registered.groups, labels=registered.labels)

    def judge_guest(self, principal: Principal, now: float) -> None:
        """Judge somebody who is another node's client and was let in there: only what is revoked counts.

        Raises:
            TokenError: it may not speak (any more).
        """
        self._judge_revoked(principal, now)
        if self.elsewhere:
            self._judge_elsewhere(principal, now)

    def _judge_revoked(self, principal: Principal, now: float) -> None:
        ends_at = self.tokens.get(principal.token_id)
        if ends_at is not None and ends_at <= now:
            _refuse(REVOKED, "token_revoked")
        if (principal.issuer, principal.key_id) in self.keys:
            _refuse("the key of this token was revoked", "token_key_revoked")
        if principal.issued_at < self.subjects.get(principal.subject, 0.0):
            _refuse(REVOKED, "token_revoked")

    def _judge_elsewhere(self, principal: Principal, now: float) -> None:
        if any(each.at <= now for each in self._refused(TOKEN, principal.token_id, principal.issuer)):
            _refuse(REVOKED, "token_revoked")
        if any(principal.issued_at < each.at for each in self._refused(SUBJECT, principal.subject, principal.issuer)):
            _refuse(REVOKED, "token_revoked")
        if any(self._refused(KEY, principal.key_id, principal.issuer)):
            _refuse("the key of this token was revoked", "token_key_revoked")
        if any(self._refused(DEVICE, principal.subject, principal.issuer)):
            _refuse("device is disabled", "token_disabled")

    def _refused(self, kind: str, value: str, issuer: str) -> list[Refused]:
        return [each for each in self.elsewhere.get((kind, value), ()) if each.issuer in ("", issuer)]

    def _judge_issuer(self, principal: Principal) -> None:
        issuer = self.issuers.get(principal.issuer)
        if issuer is None or principal.key_id not in issuer.key_ids:
            _refuse("its issuer or its key is not trusted any more", "token_key_revoked")
        if principal.kind not in issuer.kinds:
            _refuse(f"its issuer may not vouch for kind {principal.kind}", "token_kind")

    def bounds(self, principal: Principal) -> tuple[Rights, ...]:
        """What bounds the rights that its token gives."""
        found: list[Rights] = []
        registered = self.devices.get(principal.subject)
        # An operator's token is not the device's, even if it names the same subject.
        if registered is not None and principal.kind is not Kind.ADMIN:
            found.append(registered.rights)
        issuer = self.issuers.get(principal.issuer)
        if issuer is not None:
            found.append(issuer.rights)
        return tuple(found)


def _refuse(text: str, reason: str) -> NoReturn:
    raise TokenError(text, reason=reason)
