"""What a principal may register and call.

The rules:

* Default deny: without a pattern that matches, the answer is no.
* In a pattern ``*`` stands for any run of characters, separators too; ``**`` is the same. A trailing ``.*`` or
  ``/*`` covers the name before it as well: ``thermo.*`` allows ``thermo`` and ``thermo.read``.
* ``{sub}`` stands for the principal's own subject, letter by letter: whatever the subject holds, the expansion is
  never a wildcard (fault 65).
* A name that could be read as a pattern, a path or a control sequence is refused whatever the patterns say (fault 65).
* Names under ``gateway`` are the node's own: every principal may call them, nobody may register them.

Matching is by prefix, suffix and parts in between, found from left to right, so its time is bounded by the length of
the pattern times that of the name; a regular expression with several stars would not be. Knows no connection, no clock
and no route table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.policy.limits import LimitsProfile
from gateway.policy.principal import Principal

MAX_NAME_CHARACTERS = 255
RESERVED = "gateway"
SUBJECT = "{sub}"

_SEPARATORS = (".", "/")
_WILDCARDS = "*#+"


def is_name(text: str) -> bool:
    """Whether a service or a full route may have this name at all (fault 65).

    1 to 255 printable characters, no wildcard of ours or of MQTT, no ``..``, not starting with ``$`` (reserved), not
    starting or ending with a separator. Printable leaves out NUL, line ends, escapes and invisible characters.
    """
    return (
        0 < len(text) <= MAX_NAME_CHARACTERS
        and text.isprintable()
        and not any(character in text for character in _WILDCARDS)
        and ".." not in text
        and not text.startswith(("$", *_SEPARATORS))
        and not text.endswith(_SEPARATORS)
    )


def is_pattern(text: str) -> bool:
    """Whether a token may carry this pattern: a name in which ``*`` and ``{sub}`` may stand, and no other brace."""
    plain = text.replace(SUBJECT, "s").replace("*", "s")
    return len(text) <= MAX_NAME_CHARACTERS and is_name(plain) and "{" not in plain and "}" not in plain


def is_reserved(name: str) -> bool:
    """Whether the name is ``gateway`` or below it."""
    return name == RESERVED or name.startswith(("gateway.", "gateway/"))


def full_route(service: str, route: str) -> str:
    """The name that call patterns are matched against.

    The route itself when it equals the service or continues it at a ``.`` or ``/``, or when no service is known; else
    ``service.route``; the service alone when there is no route. So a caller cannot reach service B with a route that
    reads as if it were service A's.
    """
    if not route:
        return service
    if not service or route == service:
        return route
    if route.startswith(service) and route[len(service)] in _SEPARATORS:
        return route
    return f"{service}.{route}"


class Pattern:
    """One compiled pattern. ``subject`` replaces ``{sub}`` after the stars were found, so it cannot bring new ones."""

    __slots__ = ("_itself", "_least", "_middle", "_prefix", "_suffix", "text")

    def __init__(self, text: str, subject: str) -> None:
        while "**" in text:
            text = text.replace("**", "*")
        parts = [part.replace(SUBJECT, subject) for part in text.split("*")]
        self.text = "*".join(parts)
        self._prefix = parts[0]
        self._suffix = parts[-1] if len(parts) > 1 else None
        self._middle = tuple(parts[1:-1])
        self._least = len(self._prefix) + len(self._suffix or "")
        self._itself = Pattern(text[:-2], subject) if text.endswith((".*", "/*")) else None

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def matches(self, name: str) -> bool:
        prefix, suffix = self._prefix, self._suffix
        if suffix is None:
            return name == prefix
        if self._itself is not None and self._itself.matches(name):
            return True
        if len(name) < self._least or not name.startswith(prefix) or not name.endswith(suffix):
            return False
        at, end = len(prefix), len(name) - len(suffix)
        for part in self._middle:
            found = name.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    def reaches(self, service: str) -> bool:
        """Whether it may match a name that begins with this one. True where that is not certain."""
        return self._prefix.startswith(service) or (self._suffix is not None and service.startswith(self._prefix))


@dataclass(frozen=True, slots=True)
class Rights:
    """Patterns of what may be registered and called."""

    services: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """The frozen answer to "what may this principal do": services to register, routes to call, limits.

    `bounds` are further rights, each of which must allow what the principal's own allow. Made once a connection, and
    again when what it rests on changes; the patterns are compiled here and never again.
    """

    principal: Principal
    limits: LimitsProfile
    bounds: tuple[Rights, ...] = ()
    _bounds: tuple[tuple[tuple[Pattern, ...], tuple[Pattern, ...]], ...] = field(init=False, repr=False, compare=False)
    _registers: tuple[Pattern, ...] = field(init=False, repr=False, compare=False)
    _calls: tuple[Pattern, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        subject = self.principal.subject
        object.__setattr__(self, "_registers", _compiled(self.principal.services, subject))
        object.__setattr__(self, "_calls", _compiled(self.principal.routes, subject))
        bounds = tuple((_compiled(each.services, subject), _compiled(each.routes, subject)) for each in self.bounds)
        object.__setattr__(self, "_bounds", bounds)

    def may_register(self, service: str) -> bool:
        """Whether the principal may serve under this name."""
        return (
            is_name(service)
            and not is_reserved(service)
            and _any(self._registers, service)
            and (not self._bounds or all(_any(services, service) for services, _ in self._bounds))
        )

    def may_call(self, service: str, route: str = "") -> bool:
        """Whether the principal may send a request to ``route`` of ``service``; see ``full_route``."""
        name = full_route(service, route)
        return is_name(name) and (
            is_reserved(name)
            or (_any(self._calls, name) and (not self._bounds or all(_any(routes, name) for _, routes in self._bounds)))
        )

    def may_call_into(self, service: str) -> bool:
        """Whether there can be a route of a service that the principal may call. True where that is not certain."""
        return any(each.reaches(service) for each in self._calls) and all(
            any(each.reaches(service) for each in calls) for _, calls in self._bounds
        )

    def allows_calls_of(self, other: Grant) -> bool:
        """Whether every call that `other` allows is certainly allowed by this one, too."""
        before = (other._calls, *(calls for _, calls in other._bounds))
        now = (self._calls, *(calls for _, calls in self._bounds))
        return all(any(_cover(wide, narrow) for narrow in before) for wide in now)


def _cover(wide: tuple[Pattern, ...], narrow: tuple[Pattern, ...]) -> bool:
    """Whether each pattern of `narrow` is within one of `wide`.

    A star in a name can only be met by a star, so a pattern that matches another's text matches all that it stands for.
    """
    return all(any(each.matches(one.text) and _matches_itself(each, one) for each in wide) for one in narrow)


def _matches_itself(wide: Pattern, narrow: Pattern) -> bool:
    return not narrow.text.endswith((".*", "/*")) or wide.matches(narrow.text[:-2])


def _compiled(patterns: Iterable[str], subject: str) -> tuple[Pattern, ...]:
    return tuple(Pattern(text, subject) for text in dict.fromkeys(patterns))


def _any(patterns: tuple[Pattern, ...], name: str) -> bool:
    # A loop, because a generator costs more than the matching, and this runs on every miss of the decision cache.
    for pattern in patterns:  # noqa: SIM110
        if pattern.matches(name):
            return True
    return False
