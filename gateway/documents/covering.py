"""Whether one rule takes everything that another would. Where it cannot be told, the answer is no."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.documents.service import Match, Source
from gateway.policy.access import SUBJECT, Pattern


def pattern_covers(wide: str, narrow: str) -> bool:
    """A star in a name can only be met by a star, so what matches a pattern's text matches all that it stands for.
    `{sub}` is met by itself alone."""
    pattern = Pattern(wide, SUBJECT)
    return pattern.matches(narrow) and (not narrow.endswith((".*", "/*")) or pattern.matches(narrow[:-2]))


def covered(narrow: Iterable[str], wide: Iterable[str]) -> bool:
    """Whether each of the first is within one of the second."""
    patterns = tuple(wide)
    return all(any(pattern_covers(each, one) for each in patterns) for one in narrow)


def overlap(one: str, other: str) -> bool:
    """Whether two patterns have a name in common, as far as one of them is a name, or within the other."""
    return pattern_covers(one, other) or pattern_covers(other, one)


def match_covers(wide: Match, narrow: Match) -> bool:
    if wide.route is not None and (narrow.route is None or not pattern_covers(wide.route, narrow.route)):
        return False
    if wide.interaction and not (narrow.interaction and set(narrow.interaction) <= set(wide.interaction)):
        return False
    if not wide.source:
        return True
    return bool(narrow.source) and all(any(_covers(each, one) for each in wide.source) for one in narrow.source)


def _covers(wide: Source, narrow: Source) -> bool:
    return (
        _any_of(wide.principals, narrow.principals)
        and _any_of(wide.groups, narrow.groups)
        and (not wide.kinds or (bool(narrow.kinds) and set(narrow.kinds) <= set(wide.kinds)))
        and wide.labels.items() <= narrow.labels.items()
    )


def _any_of(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    return not wide or (bool(narrow) and covered(narrow, wide))
