"""Which of many filters match a topic: a tree by levels, so that it costs no more for a thousand filters than for
one.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from gateway.policy.mqtt_filters import ONE, REST, SEPARATOR

Leaf = TypeVar("Leaf")


class _Level(Generic[Leaf]):
    __slots__ = ("any", "ends", "named", "rests")

    def __init__(self) -> None:
        self.named: dict[str, _Level[Leaf]] = {}
        self.any: _Level[Leaf] | None = None
        self.ends: list[Leaf] = []
        self.rests: list[Leaf] = []


class FilterTree(Generic[Leaf]):
    """Filters, each with what it leads to."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Level[Leaf] = _Level()

    def add(self, pattern: str, leaf: Leaf) -> None:
        """`pattern` is a filter (`filters.is_filter`)."""
        level = self._root
        for name in pattern.split(SEPARATOR):
            if name == REST:
                level.rests.append(leaf)
                return
            if name == ONE:
                if level.any is None:
                    level.any = _Level()
                level = level.any
            else:
                level = level.named.setdefault(name, _Level())
        level.ends.append(leaf)

    def find(self, levels: list[str]) -> list[Leaf]:
        """What the filters lead to that match a topic, cut into its levels; in no order."""
        root = self._root
        if levels[0].startswith("$"):
            # No wildcard at the first level stands for these.
            named = root.named.get(levels[0])
            return [] if named is None else self._below([named], levels, 1)
        return self._below([root], levels, 0)

    def near(self, pattern: str) -> list[Leaf]:
        """What the filters lead to that may match a topic which `pattern` matches, too: all that do, and besides these
        only some of topics that begin with `$`."""
        found: list[Leaf] = []
        nodes = [self._root]
        for name in pattern.split(SEPARATOR):
            if name == REST:
                return found + _all(nodes)
            following: list[_Level[Leaf]] = []
            for node in nodes:
                found += node.rests
                if name == ONE:
                    following += node.named.values()
                elif name in node.named:
                    following.append(node.named[name])
                if node.any is not None:
                    following.append(node.any)
            nodes = following
        for node in nodes:
            found += node.ends
            found += node.rests
        return found

    @staticmethod
    def _below(nodes: list[_Level[Leaf]], levels: list[str], at: int) -> list[Leaf]:
        found: list[Leaf] = []
        for name in levels[at:] if at else levels:
            following = []
            for node in nodes:
                if node.rests:
                    found += node.rests
                child = node.named.get(name)
                if child is not None:
                    following.append(child)
                if node.any is not None:
                    following.append(node.any)
            if not following:
                return found
            nodes = following
        for node in nodes:
            found += node.ends
            found += node.rests
        return found


def _all(nodes: list[_Level[Leaf]]) -> list[Leaf]:
    """What is at these levels and below them."""
    found: list[Leaf] = []
    waiting = list(nodes)
    for node in waiting:
        found += node.ends
        found += node.rests
        waiting += node.named.values()
        if node.any is not None:
            waiting.append(node.any)
    return found
