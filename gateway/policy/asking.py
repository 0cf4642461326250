"""Who asks for what, as access rules see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.policy.access import full_route
from gateway.policy.authorization import Act
from gateway.policy.principal import Principal

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Here:
    """The node that judges."""

    name: str = ""
    role: str = ""
    labels: Tags = ()


class Reached(NamedTuple):
    """What a connection is like; None where that is not known here. `ip`: empty for what has none."""

    tls: bool | None = None
    transport: str | None = None
    ip: str | None = None


#: What is inside a node: nobody can listen, and it comes from nowhere.
INSIDE: Final = Reached(True, "internal", "")
UNKNOWN: Final = Reached()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `node`: the name of the node it is connected to; `tls`, `transport`, `ip` as in `Reached`."""

    subject: str
    kind: str
    groups: tuple[str, ...] = ()
    labels: Tags = ()
    node: str = ""
    tls: bool | None = None
    transport: str | None = None
    ip: str | None = None

    @classmethod
    def of(cls, principal: Principal, node: str, reached: Reached = UNKNOWN) -> Caller:
        return cls(principal.subject, str(principal.kind), principal.groups, principal.labels, node, *reached)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for. `service`: the name that whoever would get it serves; empty where nobody bears it yet.
    `tags`: all that the request carries, of one name any number. `wide`: any request to the service, or all topics that
    `topic`, a filter, matches; refused is what is refused whole."""

    act: Act
    service: str = ""
    route: str = ""
    tags: Tags = ()
    topic: str = ""
    wide: bool = False
    places: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)
    full: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        full = full_route(self.service, self.route)
        object.__setattr__(self, "full", full)
        if self.service:
            places: tuple[tuple[str, str], ...] = ((self.service, full[len(self.service) + 1 :]),)
        else:
            # As `locate` would find it: any name that ends at a separator may be the service's.
            cuts = [at for at, letter in enumerate(full) if letter in "./"]
            places = ((full, ""), *((full[:at], full[at + 1 :]) for at in cuts))
        object.__setattr__(self, "places", places)
