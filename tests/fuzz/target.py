"""What a fuzz target is: bytes in, one word out, everything else a finding.

A target takes any bytes and drives one piece of the gateway with them. It returns a short label of what came of it (the
same label for the same kind of outcome, so that a driver can tell new outcomes from old ones; behind a line end, what
else two builds of the gateway must agree in) and raises for everything that must not be: an exception that is not
documented, an answer that breaks a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"
#: An execution that takes more of a processor hangs (fault 51).
MAX_SECONDS = 1.0


class Finding(AssertionError):
    """The gateway did what it must not do."""


@dataclass(frozen=True)
class Target:
    """`run` may be called any number of times in one process and keeps nothing from call to call.

    `weight`: its share of a long run's executions. `quick`: executions in `make test`. `max_bytes` bounds inputs.
    `memory` is how many bytes an execution may allocate at its peak, as a fixed part and a factor of the input's size.
    `mutate(data, max_bytes, random)` knows the shape of the input; None where bytes are as good as anything.
    `more_seeds` gives inputs besides those in the corpus.
    """

    name: str
    run: Callable[[bytes], str]
    weight: int = 1
    quick: int = 1000
    max_bytes: int = 4096
    memory: tuple[int, int] = (64 * 1024, 64)
    mutate: Callable[[bytes, int, Random], bytes] | None = None
    more_seeds: Callable[[], list[bytes]] = list

    def seeds(self) -> list[bytes]:
        """The corpus in a fixed order, then the other seeds; never empty."""
        files = sorted((CORPUS / self.name).glob("*"))
        return [file.read_bytes() for file in files] + self.more_seeds() or [b""]


def outcome(error: Exception) -> str:
    """The label of a documented error: its class and the words of its text, without the figures in it."""
    words = [word for word in str(error).split() if not any(character.isdigit() for character in word)]
    return f"{type(error).__name__}: {' '.join(words)[:80]}"


def check(condition: object, text: str) -> None:
    """Raise a Finding with `text` unless the condition holds."""
    if not condition:
        raise Finding(text)
