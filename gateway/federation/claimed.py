"""By which names the shared table knows principals and what they serve.

A device by its subject, others by their kind and subject. What a device serves under its own name is the same for all
that are like it: `thermo-17.read` is `{sub}.read` there, so that an edge of a thousand devices offers a few names.
"""

from __future__ import annotations

from typing import Final

from gateway.policy.principal import Kind

KINDS: Final = tuple(str(kind) for kind in Kind)
_DEVICE: Final = str(Kind.DEVICE)
_SUBJECT: Final = "{sub}"


def claim_name(kind: str, subject: str) -> str:
    return subject if kind == _DEVICE and "/" not in subject else f"{kind}/{subject}"


def principal_of(name: str) -> tuple[str, str]:
    """Kind and subject."""
    kind, slash, subject = name.partition("/")
    return (kind, subject) if slash else (_DEVICE, name)


def shared_name(service: str, subject: str) -> str:
    """A service's name, without the subject of the device that serves it."""
    rest = service[len(subject) :]
    return _SUBJECT + rest if subject and service.startswith(subject) and rest[:1] in ("", ".", "/") else service


def own_name(shared: str, subject: str) -> str:
    """The name of a service of this principal."""
    return subject + shared.removeprefix(_SUBJECT) if shared.startswith(_SUBJECT) else shared
