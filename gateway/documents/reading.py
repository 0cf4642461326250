"""Text → the documents in it, with the line of each value. YAML 1.1 as PyYAML reads it, of which JSON is a part.

Only what JSON can say is taken: no anchors and aliases (a few lines of them are gigabytes), no tags, no name twice in a
map, keys that are text. Times and dates stay text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.documents.findings import Finding

if TYPE_CHECKING:
    import yaml

MAX_CHARACTERS = 64 * 1024
MAX_DEPTH = 32
_PLAIN = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")


@dataclass(frozen=True, slots=True)
class Raw:
    """One document as it was written. `lines`: of each value, by its pointer."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)

    def line(self, pointer: str) -> int:
        """Of the value at `pointer`, or of the nearest one around it."""
        while pointer not in self.lines and pointer:
            pointer = pointer.rpartition("/")[0]
        return self.lines.get(pointer, 0)


class _Unreadable(Exception):
    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def read(text: str) -> tuple[list[Raw], list[Finding]]:
    """The documents of a text, or why there are none."""
    # Here and below: a megabyte that a node without documents need not hold.
    import yaml

    try:
        if len(text) > MAX_CHARACTERS:
            raise _Unreadable(f"more than {MAX_CHARACTERS} characters", 0)
        found = [_raw(node) for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
    except _Unreadable as error:
        return [], [Finding("GW0101", str(error), line=error.line)]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        return [], [Finding("GW0101", error.problem or "cannot be read", line=line)]
    except (yaml.YAMLError, RecursionError) as error:
        return [], [Finding("GW0101", str(error).splitlines()[0] if str(error) else "nested too deeply")]
    # An editor leaves `---` at the end.
    return [raw for raw in found if raw.value is not None], []


def _raw(node: yaml.Node) -> Raw:
    lines: dict[str, int] = {}
    return Raw(_value(node, "", lines, set(), 0), lines)


def _value(node: yaml.Node, pointer: str, lines: dict[str, int], seen: set[int], depth: int) -> Any:
    import yaml

    line = node.start_mark.line + 1
    lines[pointer] = line
    if id(node) in seen:
        raise _Unreadable("anchors and aliases are not taken; write it out", line)
    seen.add(id(node))
    if depth > MAX_DEPTH:
        raise _Unreadable("nested too deeply", line)
    if isinstance(node, yaml.MappingNode):
        return _map(node, pointer, lines, seen, depth)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, f"{pointer}/{at}", lines, seen, depth + 1) for at, item in enumerate(node.value)]
    if node.tag in _TEXTS:
        return node.value
    if node.tag not in _PLAIN:
        raise _Unreadable(f"the tag {node.tag} is not taken", line)
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (ValueError, KeyError, OverflowError) as error:
        raise _Unreadable(f"{node.value!r} is no value", line) from error


def _map(node: yaml.MappingNode, pointer: str, lines: dict[str, int], seen: set[int], depth: int) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise _Unreadable("a name in a map is text", line)
        if key.value in found:
            raise _Unreadable(f"{key.value!r} is there twice", line)
        step = key.value.replace("~", "~0").replace("/", "~1")
        found[key.value] = _value(value, f"{pointer}/{step}", lines, seen, depth + 1)
    return found
