"""Which records of the flow log somebody wants: an expression such as `verdict != "FORWARDED" || latency_ms > 500`.

    expression   := all { "||" all }            all := one { "&&" one }
    one          := "!" one | "(" expression ")" | field                         (a field alone: it is true)
                  | field ("==" | "!=" | "<" | ">" | "<=" | ">=") value
                  | field "=~" text             (a pattern in which * stands for any run of characters)
                  | field "in" "[" value { "," value } "]"

Parsed once into a tree, which is walked; nothing is evaluated as code, and no pattern takes more than its length times
that of the text. What a record does not say equals nothing and fits no pattern and no order. Beside the record's own
fields there are `latency_ms` and `latency_s`. Must not know: who filters what.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from operator import ge, gt, le, lt
from typing import Any, Final, NoReturn

from gateway.observe.flow_fields import FIELDS, LOST, VERDICTS, Record, Type, type_of, value_of

MAX_CHARACTERS: Final = 2048
MAX_DEPTH: Final = 32

_LATENCIES: Final = {"latency_ns": 1, "latency_ms": 1_000_000, "latency_s": 1_000_000_000}
"""In nanoseconds."""
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {"<": lt, ">": gt, "<=": le, ">=": ge}
_COMPARES: Final = frozenset({"==", "!=", *_ORDERS})
_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
        (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_\-]*(?:\.[A-Za-z0-9_\-/]+)*)
      | (?P<mark>&&|\|\||==|!=|<=|>=|=~|[<>!()\[\],])
    )""",
    re.VERBOSE,
)

Value = str | float | bool


class FilterError(ValueError):
    """`position`: of the character, from 0, at which the expression cannot be read."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(f"{text} (at character {position + 1})")
        self.text = text
        self.position = position


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a record before it is written: its verdict's place, and that its latency is nothing at all or
    at most so many nanoseconds."""

    verdict: int
    most_ns: float


class Node(ABC):
    """A part of an expression."""

    __slots__ = ()

    @abstractmethod
    def fits(self, record: Record) -> bool:
        """Whether a record fits."""

    def judge(self, known: Known) -> bool | None:
        """Whether every, or no, record of which that is known fits; None where it depends on the rest."""
        return None


@dataclass(frozen=True, slots=True)
class Either(Node):
    parts: tuple[Node, ...]

    def fits(self, record: Record) -> bool:
        return any(part.fits(record) for part in self.parts)

    def judge(self, known: Known) -> bool | None:
        found = [part.judge(known) for part in self.parts]
        return True if True in found else None if None in found else False


@dataclass(frozen=True, slots=True)
class Both(Node):
    parts: tuple[Node, ...]

    def fits(self, record: Record) -> bool:
        return all(part.fits(record) for part in self.parts)

    def judge(self, known: Known) -> bool | None:
        found = [part.judge(known) for part in self.parts]
        return False if False in found else None if None in found else True


@dataclass(frozen=True, slots=True)
class Not(Node):
    part: Node

    def fits(self, record: Record) -> bool:
        return not self.part.fits(record)

    def judge(self, known: Known) -> bool | None:
        found = self.part.judge(known)
        return None if found is None else not found


@dataclass(frozen=True, slots=True)
class Compare(Node):
    field: str
    operator: str
    value: Value

    def fits(self, record: Record) -> bool:
        return self._holds(_read(record, self.field))

    def _holds(self, said: Any) -> bool:
        if isinstance(said, list | tuple):
            fits = any(self._equals(each) for each in said)
            return not fits if self.operator == "!=" else fits
        if self.operator == "==":
            return self._equals(said)
        if self.operator == "!=":
            return not self._equals(said)
        return said is not None and _ORDERS[self.operator](said, self.value)

    def _equals(self, said: Any) -> bool:
        return said is not None and said == self.value

    def judge(self, known: Known) -> bool | None:
        if self.field == "verdict":
            return self._holds(VERDICTS[known.verdict])
        scale = _LATENCIES.get(self.field)
        if scale is None:
            return None
        # Each way to compare is the same below the value and above it, so the two ends and the value itself tell all.
        value_ns = float(self.value) * scale
        inside = {0.0, known.most_ns} | ({value_ns} if 0.0 <= value_ns <= known.most_ns else set())
        verdicts = {self._holds(None), *(self._holds(each / scale) for each in inside)}
        return verdicts.pop() if len(verdicts) == 1 else None


@dataclass(frozen=True, slots=True)
class In(Node):
    field: str
    values: tuple[Value, ...]

    def fits(self, record: Record) -> bool:
        said = _read(record, self.field)
        if isinstance(said, list | tuple):
            return any(each in self.values for each in said)
        return said is not None and said in self.values

    def judge(self, known: Known) -> bool | None:
        return VERDICTS[known.verdict] in self.values if self.field == "verdict" else None


@dataclass(frozen=True, slots=True)
class Like(Node):
    field: str
    parts: tuple[str, ...]

    def fits(self, record: Record) -> bool:
        said = _read(record, self.field)
        if isinstance(said, list | tuple):
            return any(self._matches(each) for each in said)
        return isinstance(said, str) and self._matches(said)

    def _matches(self, text: str) -> bool:
        first, *middle = self.parts
        if not middle:
            return text == first
        last = middle.pop()
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    def judge(self, known: Known) -> bool | None:
        return self._matches(VERDICTS[known.verdict]) if self.field == "verdict" else None


@dataclass(frozen=True, slots=True)
class Flag(Node):
    field: str

    def fits(self, record: Record) -> bool:
        return _read(record, self.field) is True


def _read(record: Record, name: str) -> Any:
    scale = _LATENCIES.get(name)
    if scale is None:
        return value_of(record, name)
    latency = record.get("latency_ns")
    return None if latency is None else latency / scale


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """An expression, ready to be asked. `None` stands for it where everything is wanted."""

    text: str
    root: Node

    @classmethod
    def parse(cls, text: str) -> FlowFilter | None:
        """None for a text without an expression. Raises FilterError."""
        if not text.strip():
            return None
        if len(text) > MAX_CHARACTERS:
            raise FilterError(f"over {MAX_CHARACTERS} characters", MAX_CHARACTERS)
        return cls(text, _Parser(text).whole())

    def fits(self, record: Record) -> bool:
        """Whether somebody wants it; a record of loss is for everybody."""
        return record.get("verdict") == VERDICTS[LOST] or self.root.fits(record)

    def unwanted_ns(self) -> tuple[float, ...]:
        """For each verdict the latency up to which no record of it can fit, in nanoseconds; infinity: none of it fits
        at all; minus infinity: any might. A record without a latency counts as less than 0."""
        marks = sorted(set(_marks(self.root)))
        return tuple(
            -math.inf if verdict == LOST else self._unwanted(verdict, marks) for verdict, _ in enumerate(VERDICTS)
        )

    def _unwanted(self, verdict: int, marks: list[float]) -> float:
        found = -math.inf
        for most in (0.0, *marks, math.inf):
            if self.root.judge(Known(verdict, most)) is not False:
                break
            found = most
        return found


def _marks(node: Node) -> list[float]:
    """The latencies at which the answer may change, and the whole nanoseconds around them."""
    if isinstance(node, Either | Both):
        return [mark for part in node.parts for mark in _marks(part)]
    if isinstance(node, Not):
        return _marks(node.part)
    if isinstance(node, Compare) and node.field in _LATENCIES:
        at = float(node.value) * _LATENCIES[node.field]
        return [float(mark) for mark in (math.floor(at) - 1, math.floor(at), math.ceil(at)) if mark > 0]
    return []


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """One run over a text."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    def whole(self) -> Node:
        node = self._either(0)
        if self._next.kind != "end":
            self._fail("expected && or || or the end")
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _fail(self, text: str, token: _Token | None = None) -> NoReturn:
        raise FilterError(text, (token or self._next).at)

    def _takes(self, mark: str) -> bool:
        if self._next.kind == "mark" and self._next.text == mark:
            self._at += 1
            return True
        return False

    def _either(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self._fail("too many parentheses within each other")
        parts = [self._both(depth)]
        while self._takes("||"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self, depth: int) -> Node:
        parts = [self._one(depth)]
        while self._takes("&&"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _one(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self._fail("too many ! behind each other")
        if self._takes("!"):
            return Not(self._one(depth + 1))
        if self._takes("("):
            node = self._either(depth + 1)
            if not self._takes(")"):
                self._fail("expected )")
            return node
        return self._about_field()

    def _about_field(self) -> Node:
        token = self._next
        if token.kind != "name":
            self._fail("expected the name of a field")
        self._at += 1
        field, type_ = token.text, _type_of(token)
        mark = self._next
        if mark.kind == "name" and mark.text == "in":
            self._at += 1
            return In(field, self._values(field, type_))
        if mark.kind == "mark" and mark.text == "=~":
            self._at += 1
            if type_ not in (Type.TEXT, Type.TEXTS):
                self._fail(f"=~ is for texts; {field} is {type_.value}", mark)
            return Like(field, tuple(_without_doubles(str(self._value(field, Type.TEXT, pattern=True))).split("*")))
        if mark.kind == "mark" and mark.text in _COMPARES:
            self._at += 1
            if mark.text in _ORDERS and type_ not in (Type.NUMBER, Type.TEXT):
                self._fail(f"{mark.text} is for numbers and texts; {field} is {type_.value}", mark)
            return Compare(field, mark.text, self._value(field, type_))
        if type_ is not Type.TRUTH:
            self._fail("expected ==, !=, <, >, <=, >=, =~ or in")
        return Flag(field)

    def _values(self, field: str, type_: Type) -> tuple[Value, ...]:
        if not self._takes("["):
            self._fail("expected [")
        values = [self._value(field, type_)]
        while self._takes(","):
            values.append(self._value(field, type_))
        if not self._takes("]"):
            self._fail("expected , or ]")
        return tuple(values)

    def _value(self, field: str, type_: Type, *, pattern: bool = False) -> Value:
        token = self._next
        value: Value
        if token.kind == "text":
            value, given = _unquoted(token.text), Type.TEXT
        elif token.kind == "number":
            value, given = float(token.text), Type.NUMBER
        elif token.kind == "name" and token.text in ("true", "false"):
            value, given = token.text == "true", Type.TRUTH
        else:
            self._fail("expected a text in quotes, a number, true or false")
        wanted = Type.TEXT if type_ is Type.TEXTS else type_
        if given is not wanted:
            self._fail(f"{field} is compared with {wanted.value}, and this is {given.value}", token)
        if field == "verdict" and not pattern and value not in VERDICTS:
            self._fail(f"no verdict {value}{_meant(str(value).upper(), VERDICTS)}", token)
        self._at += 1
        return value


def _tokens(text: str) -> list[_Token]:
    found = []
    at, end = 0, len(text.rstrip(" \t\r\n"))
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n"))
            quoted = text[at] in "\"'"
            raise FilterError("a text without its end" if quoted else f"what {text[at]!r} is for is not clear", at)
        kind = match.lastgroup or ""
        found.append(_Token(kind, match.group(kind), match.start(kind)))
        at = match.end()
    found.append(_Token("end", "", end))
    return found


def _type_of(token: _Token) -> Type:
    name = token.text
    type_ = Type.NUMBER if name in _LATENCIES else type_of(name)
    if type_ is None:
        raise FilterError(f"no field {name}{_meant(name, [*FIELDS, *_LATENCIES])}", token.at)
    if type_ is Type.OBJECT:
        within = ", ".join(each for each in FIELDS if each.startswith(f"{name}.")) or f"{name}.NAME"
        raise FilterError(f"{name} is compared by what is in it: {within}", token.at)
    return type_


def _meant(name: str, names: Any) -> str:
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _without_doubles(pattern: str) -> str:
    return re.sub(r"\*+", "*", pattern)
