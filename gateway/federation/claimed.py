"""By which name the shared table knows a principal: a device by its subject, others by their kind and subject."""

from __future__ import annotations

from typing import Final

from gateway.policy.principal import Kind

KINDS: Final = tuple(str(kind) for kind in Kind)
_DEVICE: Final = str(Kind.DEVICE)


def claim_name(kind: str, subject: str) -> str:
    return subject if kind == _DEVICE and "/" not in subject else f"{kind}/{subject}"


def principal_of(name: str) -> tuple[str, str]:
    """Kind and subject."""
    kind, slash, subject = name.partition("/")
    return (kind, subject) if slash else (_DEVICE, name)
