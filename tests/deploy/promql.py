"""Which metrics and labels an expression of PromQL names. Not a parser: promtool is that."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<range>\[[^\]]*\])
    |(?P<number>(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?:ms|[smhdwy])?(?:\d+(?:ms|[smhdwy]))*)
    |(?P<name>[A-Za-z_:$][A-Za-z0-9_:]*)
    |(?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},@])
    |(?P<space>\s+)""",
    re.VERBOSE,
)
_LISTS: Final = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_WORDS: Final = frozenset({"and", "or", "unless", "offset", "bool", "inf", "nan", "start", "end"})


@dataclass
class Named:
    """`matchers`: labels that a metric's braces name, with operator and value; `grouped`: those of lists."""

    metrics: set[str] = field(default_factory=set)
    matchers: list[tuple[str, str, str, str]] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)


def named(expression: str) -> Named:
    """Raises ValueError where the text is not PromQL."""
    tokens = _tokens(expression)
    found = Named()
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if kind != "name" or text.startswith("$"):
            continue
        if text.lower() in _LISTS and following == "(":
            end = tokens.index(("sign", ")"), at)
            found.grouped |= {name for kind, name in tokens[at:end] if kind == "name"}
            at = end + 1
        elif following in ("(", "by", "without") or text.lower() in _WORDS:
            continue
        elif text.lower() in _LISTS:
            raise ValueError(f"{text} without labels in {expression!r}")
        else:
            found.metrics.add(text)
            if following == "{":
                end = tokens.index(("sign", "}"), at)
                found.matchers += _matchers(text, tokens[at + 1 : end])
                at = end + 1
    return found


def _matchers(metric: str, tokens: list[tuple[str, str]]) -> list[tuple[str, str, str, str]]:
    parts = [token for token in tokens if token != ("sign", ",")]
    if len(parts) % 3:
        raise ValueError(f"matchers of {metric}: {tokens}")
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return [(metric, name, operator, text[1:-1]) for (_, name), (_, operator), (_, text) in triples]


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"{expression[at:]!r} in {expression!r}")
        at = match.end()
        if match.lastgroup != "space":
            found.append((str(match.lastgroup), match.group()))
    return found
