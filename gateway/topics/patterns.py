"""Patterns with names, `sensors/{device}/#`, and templates that use them, `telemetry.{device}`.

In a pattern a name stands for one whole level, as `+` does. In a template it may stand anywhere. `{topic}` is the whole
local topic, `{rest}` what `#` stood for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.policy.mqtt_filters import ONE, REST, SEPARATOR, is_filter

WHOLE, BEHIND = "topic", "rest"
#: What a template may use beside what a pattern captures.
GIVEN = frozenset({WHOLE, BEHIND})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PART = re.compile(r"\{([^{}]*)\}")


class Pattern:
    """`filter`: what it is without names. `names`: of levels, by their place; `rest`: the place of `#`, or -1."""

    __slots__ = ("filter", "names", "rest", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError for what is no pattern."""
        self.text = text
        levels = text.split(SEPARATOR)
        names: list[tuple[int, str]] = []
        for at, level in enumerate(levels):
            if "{" not in level and "}" not in level:
                continue
            name = level[1:-1]
            if (level[0], level[-1]) != ("{", "}") or not _NAME.fullmatch(name):
                raise ValueError(f"{level!r}: a name in braces stands for a whole level")
            if name in GIVEN or any(name == known for _, known in names):
                raise ValueError(f"the name {name!r} is {'given already' if name in GIVEN else 'there twice'}")
            names.append((at, name))
            levels[at] = ONE
        self.names = tuple(names)
        self.filter = SEPARATOR.join(levels)
        self.rest = len(levels) - 1 if levels[-1] == REST else -1
        if not is_filter(self.filter):
            raise ValueError(f"{text!r} is no topic pattern: + and names are whole levels, # is the last one")

    def captures(self, levels: list[str]) -> dict[str, str]:
        """What the names stand for in a topic that the filter matches, cut into its levels."""
        found = {name: levels[at] for at, name in self.names}
        if self.rest >= 0:
            found[BEHIND] = SEPARATOR.join(levels[self.rest :])
        return found

    @property
    def known(self) -> frozenset[str]:
        """The names that it gives to a template."""
        return frozenset(name for _, name in self.names) | ({BEHIND} if self.rest >= 0 else frozenset())


class Template:
    """`names`: what it needs. A text without names is one, too, and `is_fixed`."""

    __slots__ = ("_literals", "_names", "_only", "is_fixed", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError for braces that hold no name."""
        pieces = _PART.split(text)
        self.text = text
        self._literals = tuple(pieces[::2])
        self._names = tuple(pieces[1::2])
        self.is_fixed = not self._names
        # `{name}` and nothing else is what most tags are.
        self._only = self._names[0] if self._literals == ("", "") else None
        if any("{" in literal or "}" in literal for literal in self._literals):
            raise ValueError(f"{text!r}: a brace without its other half")
        for name in self._names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} in braces is no name")

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._names)

    @property
    def head(self) -> str:
        """What stands before the first name."""
        return self._literals[0]

    def fill(self, values: Mapping[str, str]) -> str:
        """Raises KeyError for a name without a value."""
        if self._only is not None:
            return values[self._only]
        if self.is_fixed:
            return self.text
        literals = self._literals
        filled = [values[name] + literal for name, literal in zip(self._names, literals[1:], strict=True)]
        return literals[0] + "".join(filled)

    def with_each(self, text: str) -> str:
        """The template with `text` for every name."""
        return text.join(self._literals)
