"""MQTT topic filters (MQTT 5, 4.7): what one matches, what two have in common.

`+` stands for one level, `#` at the end for any number of them, none included. A filter that begins with a wildcard
does not match topics that begin with `$`. What two filters have in common is again one filter, or nothing."""

from __future__ import annotations

MAX_BYTES = 65_535
ONE, REST = "+", "#"
SEPARATOR = "/"
#: Before the name of who share a subscription, which stands before its filter (MQTT 5.0, 4.8.2).
SHARE = "$share/"


def is_topic(text: str) -> bool:
    """Whether a message may be published to it."""
    return _is_text(text) and ONE not in text and REST not in text


def is_group(text: str) -> bool:
    """Whether a shared subscription may have it for its name."""
    return is_topic(text) and SEPARATOR not in text


def is_filter(text: str) -> bool:
    """Whether it may be subscribed to: a wildcard is a whole level, `#` the last one."""
    if not _is_text(text):
        return False
    levels = text.split(SEPARATOR)
    return REST not in levels[:-1] and all(
        level in (ONE, REST) or (ONE not in level and REST not in level) for level in levels
    )


def matches(pattern: str, topic: str) -> bool:
    """Whether the filter `pattern` matches a topic."""
    wanted, given = pattern.split(SEPARATOR), topic.split(SEPARATOR)
    if _hides(wanted[0], given[0]):
        return False
    for at, level in enumerate(wanted):
        if level == REST:
            return True
        if at == len(given) or level not in (ONE, given[at]):
            return False
    return len(wanted) == len(given)


def common(one: str, other: str) -> str | None:
    """The filter that matches what both do; None when that is nothing."""
    # No topic is empty, though `/#` would have it that way.
    return _common(one, other) or None


def _common(one: str, other: str) -> str | None:
    a, b = one.split(SEPARATOR), other.split(SEPARATOR)
    if _hides(a[0], b[0]) or _hides(b[0], a[0]):
        return None
    found: list[str] = []
    for at in range(max(len(a), len(b)) + 1):
        left, right = a[at : at + 1], b[at : at + 1]
        if left == [REST]:
            return _joined([*found, *b[at:]])
        if right == [REST]:
            return _joined([*found, *a[at:]])
        if not left or not right:
            return _joined(found) if left == right else None
        if left != right and ONE not in (left[0], right[0]):
            return None
        found.append(right[0] if left[0] == ONE else left[0])
    return _joined(found)


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches whatever `narrow` does."""
    return common(wide, narrow) == narrow


def example(pattern: str) -> str:
    """A topic that the filter matches."""
    levels = pattern.split(SEPARATOR)
    if levels[-1] == REST:
        levels = levels[:-1] or [ONE]
    return SEPARATOR.join("x" if level == ONE else level for level in levels)


def _joined(levels: list[str]) -> str:
    return SEPARATOR.join(levels)


def _hides(wanted: str, given: str) -> bool:
    return wanted in (ONE, REST) and given.startswith("$")


def _is_text(text: str) -> bool:
    if not text or "\0" in text:
        return False
    try:
        return len(text.encode()) <= MAX_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
