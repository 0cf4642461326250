"""Who may do what with the control plane: a role says how much, explicit scopes say of what. Deny by default.

Scope names do not change between versions. An absent list of scopes is no list: whoever is created names them.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    ADMIN = "admin"
    AUDITOR = "auditor"


class Action(StrEnum):
    """`operate`: kick, disable, drain, reload. `publish`: send data. `write`: create, change, delete."""

    READ = "read"
    OPERATE = "operate"
    PUBLISH = "publish"
    WRITE = "write"


SCOPES = (
    "monitoring",
    "connections",
    "devices",
    "enrollment",
    "routing",
    "federation",
    "mqtt",
    "policy",
    "publish",
    "config",
    "system",
    "audit",
    "backup",
    "users",
    "api_keys",
)
#: Only for who has logged in with a password: a key can never make keys or users.
LOGIN_ONLY = frozenset({"users", "api_keys"})
ALLOWED: dict[Role, frozenset[Action]] = {
    Role.VIEWER: frozenset({Action.READ}),
    Role.OPERATOR: frozenset({Action.READ, Action.OPERATE}),
    Role.PUBLISHER: frozenset({Action.READ, Action.PUBLISH}),
    Role.AUDITOR: frozenset({Action.READ}),
    Role.ADMIN: frozenset(Action),
}
_ONLY: dict[str, frozenset[Role]] = {
    "audit": frozenset({Role.ADMIN, Role.AUDITOR}),
    "backup": frozenset({Role.ADMIN}),
    "users": frozenset({Role.ADMIN}),
    "api_keys": frozenset({Role.ADMIN}),
}


def permits(role: Role, scopes: Collection[str], scope: str, action: Action) -> bool:
    """Whether a role with these scopes may do `action` within `scope`."""
    return scope in scopes and action in ALLOWED[role] and role in _ONLY.get(scope, ALLOWED)
