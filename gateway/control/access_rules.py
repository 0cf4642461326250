"""Which settings the control plane goes by. A reload puts others in their place."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.policy.tokens import AUDIENCE, LEEWAY_S, MAX_LIFETIME_S


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Times in seconds. `registered_only`: whether devices that are not registered are refused. `device_ttl_s`: life of
    a device's token where nobody says otherwise. `renewal_grace_s`: how long after its token has run out a device may
    renew with its key."""

    audience: str = AUDIENCE
    leeway_s: float = LEEWAY_S
    max_lifetime_s: float = MAX_LIFETIME_S
    registered_only: bool = False
    device_ttl_s: float = 3600.0
    renewal_grace_s: float = 30 * 86_400.0
