"""Which data directory a command means, and what may be signed with the keys in it.

`--data`, else GATEWAY_DATA, else GATEWAY__NODE__DATA (the node's own setting), else /var/lib/gateway where that exists
and this user may use it, else ~/.local/share/gateway (XDG_DATA_HOME counts).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

SYSTEM_DIRECTORY = Path("/var/lib/gateway")
OPERATOR = "operator"
#: For one answer; and for what goes on until somebody ends it, since a node closes a connection whose token expires.
BRIEF_S, LASTING_S = 900.0, 43_200.0


def default_directory(environ: Mapping[str, str] = os.environ, system: Path = SYSTEM_DIRECTORY) -> Path:
    """Return the directory that is meant when none is named."""
    if system.is_dir() and os.access(system, os.R_OK | os.W_OK | os.X_OK):
        return system
    base = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "gateway"


def data_directory(named: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of this command. `named` is the value of `--data`."""
    if named is not None:
        return named
    variable = environ.get("GATEWAY_DATA") or environ.get("GATEWAY__NODE__DATA")
    return Path(variable) if variable else default_directory(environ)


def has_identity(directory: Path) -> bool:
    """Whether a node has been started or initialised there, and this user may read its keys."""
    identity = directory / "identity"
    return os.access(identity, os.R_OK | os.X_OK) and identity.is_dir()


def operator_token(directory: Path, ttl: float) -> Callable[[], str]:
    """Return a source of tokens for whoever can read the node's keys: they may call everything, for `ttl` seconds."""

    def fresh() -> str:
        from gateway.control.identity import Identity
        from gateway.policy.principal import Kind

        return Identity.open(directory).mint(OPERATOR, Kind.ADMIN, (), ("*",), ttl, time.time())

    return fresh
