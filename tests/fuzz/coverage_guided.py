"""Runs one target under atheris (libFuzzer with coverage of the gateway's own code). The process is the fuzzer's.

    python -m tests.fuzz.coverage_guided TARGET [libFuzzer's options and corpus directories]

The gateway must not have been imported before the hook that instruments it is in place.
"""

from __future__ import annotations

import sys
from random import Random
from time import thread_time

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from tests.fuzz.catalogue import TARGETS
    from tests.fuzz.target import MAX_SECONDS, check


def main() -> None:
    target = TARGETS[sys.argv[1]]

    def once(data: bytes) -> None:
        started = thread_time()
        target.run(data)
        check(thread_time() - started <= MAX_SECONDS, "hangs")

    mutate = target.mutate
    if mutate is None:
        atheris.Setup([sys.argv[0], *sys.argv[2:]], once)
    else:

        def with_shape(data: bytes, max_bytes: int, seed: int) -> bytes:
            random = Random(seed)
            if random.random() < 0.3:
                return bytes(atheris.Mutate(data, max_bytes))
            return mutate(data, max_bytes, random)

        atheris.Setup([sys.argv[0], *sys.argv[2:]], once, custom_mutator=with_shape)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
