"""Which part of the requests this one belongs to, when the parts have weights.

Drawn by a sequence that fills every range evenly instead of by chance (Weyl's, with a step next to the golden ratio):
of any run of n requests a part of 5 % gets 5 % of n, give or take two or three, where chance would miss by 70 in
100,000. The step shares no factor with the range, so somebody who sees only every k-th draw sees the same shares.
"""

from __future__ import annotations

from collections.abc import Sequence

_MASK = 0xFFFFFFFF
_STEP = 0x9E3779B1


class Split:
    """Some parts by weight. One for all requests of a rule, whoever sends them: a device with a single request belongs
    to the whole. A weight of 0 is never drawn.

    `weights` need not sum to anything; `start`, 32 bits, is where the sequence begins.
    """

    __slots__ = ("_bounds", "_last", "_state")

    def __init__(self, weights: Sequence[float], start: int = 0) -> None:
        """Raises ValueError when all weights are 0, or one is below."""
        total = sum(weights)
        if total <= 0 or any(weight < 0 for weight in weights):
            raise ValueError("weights are 0 or above, and one of them is above")
        self._bounds: list[int] = []
        reached = 0.0
        for weight in weights:
            reached += weight
            self._bounds.append(round(reached / total * (_MASK + 1)))
        # Nothing is drawn at or above the last bound, but a part of weight 0 must not be what is left over.
        self._last = max(index for index, weight in enumerate(weights) if weight > 0)
        self._state = start & _MASK

    def draw(self) -> int:
        """The index of the next request's part."""
        draw = self._state = (self._state + _STEP) & _MASK
        return self.at(draw)

    def at(self, point: int) -> int:
        """The index of the part that a point of 32 bits falls into: the same one for the same point."""
        for index in range(self._last):
            bound = self._bounds[index]
            if point < bound:
                return index
        return self._last


class Share:
    """A share of the requests, 0 to 1: `draw` says whether the next one belongs to it."""

    __slots__ = ("_bound", "_state")

    def __init__(self, share: float, start: int = 0) -> None:
        self._bound = round(share * (_MASK + 1))
        self._state = start & _MASK

    def draw(self) -> bool:
        draw = self._state = (self._state + _STEP) & _MASK
        return draw < self._bound
