"""What the data plane has to know, in memory: the source of every access list that is published.

The parts of the control plane tell it what they committed; it publishes at the end of the loop turn, once for however
many changes there were. It also publishes when a credential's overlap ends, because that changes nothing on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.policy.access import Rights
from gateway.policy.access_list import DEVICE, KEY, SUBJECT, TOKEN, AccessList, IssuerBounds, Refused, Registered
from gateway.policy.principal import Kind
from gateway.policy.tokens import VerificationKey


@dataclass(frozen=True, slots=True)
class Publication:
    """What the data plane goes by from now on. `subjects`: whose connections to judge again; None: everybody's."""

    access: AccessList
    keys: tuple[VerificationKey, ...]
    subjects: frozenset[str] | None = None


class DeviceRecord(Protocol):
    """What the registry reads of a device."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> dict[str, str]: ...
    @property
    def services(self) -> tuple[str, ...]: ...
    @property
    def routes(self) -> tuple[str, ...]: ...


class Registry:
    """`own_keys` vouch for this node's tokens, whatever is trusted besides."""

    def __init__(
        self,
        own_keys: tuple[VerificationKey, ...],
        publish: Callable[[Publication], None],
        wall: Callable[[], float],
        *,
        registered_only: bool = False,
    ) -> None:
        self.registered_only = registered_only
        self._own_keys = own_keys
        self._own = own_keys[0].issuer
        self._publish = publish
        self._wall = wall
        self._devices: dict[str, Registered] = {}
        self._tokens: dict[str, float] = {}
        self._holders: dict[str, str] = {}
        self._keys: set[tuple[str, str]] = set()
        self._subjects: dict[str, float] = {}
        self._issuers: dict[str, IssuerBounds] = {}
        self._issuer_keys: dict[str, tuple[VerificationKey, ...]] = {}
        self._joining: dict[str, tuple[bytes, float]] = {}
        self._enrolling: dict[str, tuple[bytes, float]] = {}
        self._elsewhere: Mapping[tuple[str, str], tuple[Refused, ...]] = {}
        #: Told of each change of what this node refuses by itself; see `refusals`.
        self.on_refusal: Callable[[str, str, str | None, float | None], None] = lambda kind, value, issuer, at: None
        self._touched: set[str] | None = set()
        self._scheduled: asyncio.Handle | None = None
        self._due: asyncio.TimerHandle | None = None
        self._started = False

    def start(self) -> None:
        """Everything that is on disk was told: publish it, and from now on every change."""
        self._started = True
        self._touched = None
        self._send()

    def stop(self) -> None:
        self._started = False
        for handle in (self._scheduled, self._due):
            if handle is not None:
                handle.cancel()

    def govern(self, registered_only: bool) -> None:
        """Whether devices that are not registered are refused, from now on."""
        if registered_only != self.registered_only:
            self.registered_only = registered_only
            self._touch(None)

    def publication(self, subjects: frozenset[str] | None = None) -> Publication:
        access = AccessList(
            devices=dict(self._devices),
            tokens=dict(self._tokens),
            keys=frozenset(self._keys),
            subjects=dict(self._subjects),
            issuers=dict(self._issuers),
            own_issuer=self._own_keys[0].issuer,
            registered_only=self.registered_only,
            joining=dict(self._joining),
            enrolling=dict(self._enrolling),
            elsewhere=self._elsewhere,
        )
        keys = tuple(key for keys in (self._own_keys, *self._issuer_keys.values()) for key in keys)
        return Publication(access, keys, subjects)

    # What the parts tell

    def device(self, device: DeviceRecord) -> None:
        self._devices[device.id] = Registered(
            device.kind,
            device.enabled,
            device.groups,
            tuple(device.labels.items()),
            Rights(device.services, device.routes),
        )
        self.on_refusal(DEVICE, device.id, self._own, None if device.enabled else 0.0)
        self._touch((device.id,))

    def no_device(self, device_id: str) -> None:
        self._devices.pop(device_id, None)
        self.on_refusal(DEVICE, device_id, self._own, None)
        self._touch((device_id,))

    def token_ends(self, token_id: str, at: float, subject: str | None) -> None:
        """A token ends before it expires; `subject` is whose it is, None when that is not known."""
        self._tokens[token_id] = min(at, self._tokens.get(token_id, at))
        if subject is not None:
            self._holders[token_id] = subject
        self.on_refusal(TOKEN, token_id, None if subject is None else self._own, self._tokens[token_id])
        self._touch(None if subject is None else (subject,))

    def token_forgiven(self, token_id: str) -> None:
        known = self._holders.pop(token_id, None) is not None
        self._tokens.pop(token_id, None)
        self.on_refusal(TOKEN, token_id, self._own if known else None, None)
        self._touch(())

    def key_revoked(self, issuer: str, key_id: str, revoked: bool = True) -> None:
        (self._keys.add if revoked else self._keys.discard)((issuer, key_id))
        self.on_refusal(KEY, key_id, issuer, 0.0 if revoked else None)
        self._touch(None)

    def subject_not_before(self, subject: str, not_before: float | None) -> None:
        if not_before is None:
            self._subjects.pop(subject, None)
        else:
            self._subjects[subject] = not_before
        self.on_refusal(SUBJECT, subject, None, not_before)
        self._touch((subject,))

    def not_before(self, subject: str) -> float:
        """The time before which tokens of a subject are refused."""
        return self._subjects.get(subject, 0.0)

    def issuer(self, issuer: str, bounds: IssuerBounds | None, keys: tuple[VerificationKey, ...] = ()) -> None:
        """Trust an issuer's keys within bounds; without bounds, no longer."""
        if bounds is None:
            self._issuers.pop(issuer, None)
            self._issuer_keys.pop(issuer, None)
        else:
            self._issuers[issuer] = bounds
            self._issuer_keys[issuer] = keys
        self._touch(None)

    def refusals(self) -> Iterator[tuple[str, str, str | None, float]]:
        """What this node refuses by itself: kind, value, issuer of the tokens that are meant, and the time that goes
        with the kind (`Refused.at`). Without an issuer an operator has said so, whoever issued them."""
        for token_id, at in self._tokens.items():
            yield TOKEN, token_id, self._own if token_id in self._holders else None, at
        for subject, not_before in self._subjects.items():
            yield SUBJECT, subject, None, not_before
        for issuer, key_id in self._keys:
            yield KEY, key_id, issuer, 0.0
        for device_id, device in self._devices.items():
            if not device.enabled:
                yield DEVICE, device_id, self._own, 0.0

    def refused_elsewhere(
        self, refused: Mapping[tuple[str, str], tuple[Refused, ...]], subjects: Iterable[str] | None
    ) -> None:
        """All that other nodes of the federation refuse. `subjects`: whom the change is about; None: anybody."""
        self._elsewhere = refused
        self._touch(subjects)

    def joining(self, enrolment_id: str, secret: tuple[bytes, float] | None) -> None:
        """A node may ask to join with this secret (its SHA-256, and when it ends); None: no longer."""
        self._let_in(self._joining, enrolment_id, secret)

    def enrolling(self, enrolment_id: str, secret: tuple[bytes, float] | None) -> None:
        """A device may ask for its credential with this secret, as `joining`."""
        self._let_in(self._enrolling, enrolment_id, secret)

    def _let_in(
        self, secrets: dict[str, tuple[bytes, float]], enrolment_id: str, secret: tuple[bytes, float] | None
    ) -> None:
        now = self._wall()
        for ended in [each for each, (_, ends_at) in secrets.items() if ends_at <= now]:
            del secrets[ended]
        if secret is not None:
            secrets[enrolment_id] = secret
        elif secrets.pop(enrolment_id, None) is None:
            return
        self._touch(())

    # Telling the data plane

    def _touch(self, subjects: Iterable[str] | None) -> None:
        if not self._started:
            return
        if subjects is None or self._touched is None:
            self._touched = None
        else:
            self._touched.update(subjects)
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = None
        subjects = None if self._touched is None else frozenset(self._touched)
        self._touched = set()
        self._publish(self.publication(subjects))
        self._watch_ends()

    def _watch_ends(self) -> None:
        """Come back when the next token ends, within a second."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        now = self._wall()
        coming = [at for _, at in self._ending() if at > now]
        if coming:
            delay = min(max(min(coming) - now, 0.05), 3600.0)
            self._due = asyncio.get_running_loop().call_later(delay, self._ends, now)

    def _ending(self) -> Iterator[tuple[str, float]]:
        """Tokens by id, and when they end."""
        yield from self._tokens.items()
        for (kind, value), refused in self._elsewhere.items():
            if kind == TOKEN:
                yield from ((value, each.at) for each in refused)

    def _ends(self, since: float) -> None:
        self._due = None
        now = self._wall()
        ended = [token_id for token_id, at in self._ending() if since < at <= now]
        holders = {self._holders.get(token_id) for token_id in ended}
        if ended:
            self._touch(None if None in holders else [holder for holder in holders if holder is not None])
        else:
            self._watch_ends()
