"""The project's own driver: no coverage, no process of its own, and the same inputs for the same seed on any machine.

It changes corpus inputs at random, keeps those with a new outcome for further changes, and checks time and memory of
every execution. `make test` uses it; long runs do where atheris has no wheel.
"""

from __future__ import annotations

import gc
import hashlib
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter, thread_time
from zlib import crc32

from tests.fuzz.target import MAX_SECONDS, Finding, Target

_MAX_KEPT = 512
#: Every so many executions one is measured for memory, which makes it several times slower.
_MEMORY_EVERY = 97
_INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\x00\x00",
    b"\xff\xff",
    b"\x00\x00\x00\x01",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\r\n\r\n",
    b"Id{",
    b"gateway.",
    b"sub=",
    b'{"token":"\\ud800"}',
    b"1e999",
    b"message/x.rsocket.",
)


@dataclass
class Crash:
    """An input and what it raised."""

    data: bytes
    error: BaseException

    @property
    def signature(self) -> tuple[str, str, int]:
        """Class, file and line of what was raised: the same for the same mistake."""
        at = self.error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        where = (at.tb_frame.f_code.co_filename, at.tb_lineno) if at is not None else ("", 0)
        # Findings are all raised in one place; their text says which one it is.
        text = str(self.error).split(":")[0] if isinstance(self.error, Finding) else ""
        return f"{type(self.error).__name__}{text}", *where


@dataclass
class Outcome:
    """`executions` done in `seconds`; `outcomes` kinds of results; the crash that ended the run.

    `digest` is of all inputs and what came of them: the same for the same seed, whichever build of the gateway runs.
    """

    executions: int = 0
    seconds: float = 0.0
    outcomes: set[str] = field(default_factory=set)
    crash: Crash | None = None
    digest: int = 0


def run(target: Target, executions: int, seed: int, progress: Callable[[Outcome], None] | None = None) -> Outcome:
    """Every seed input, then changed ones, up to `executions` in all or the first crash."""
    random = Random(f"{target.name} {seed}")
    outcome = Outcome()
    started = perf_counter()
    pool = target.seeds()
    fixed = len(pool)
    while outcome.executions < executions:
        at = outcome.executions
        data = pool[at] if at < fixed else mutated(target, pool, random)
        crash, label = execute(target, data, measured=at % _MEMORY_EVERY == 0)
        outcome.executions += 1
        if crash is not None:
            outcome.crash = crash
            break
        outcome.digest = crc32(label.encode(errors="replace"), crc32(data, outcome.digest))
        label = label.partition("\n")[0]
        if label not in outcome.outcomes:
            outcome.outcomes.add(label)
            if len(pool) < fixed + _MAX_KEPT:
                pool.append(data)
            else:
                pool[fixed + random.randrange(_MAX_KEPT)] = data
        if progress is not None and outcome.executions % 10_000 == 0:
            outcome.seconds = perf_counter() - started
            progress(outcome)
    outcome.seconds = perf_counter() - started
    return outcome


def execute(target: Target, data: bytes, *, measured: bool = False) -> tuple[Crash | None, str]:
    """Run one input; too slow or too much memory is a crash, too."""
    fixed, factor = target.memory
    if measured:
        # Once before: what is made once a process is not this input's.
        crash, _ = execute(target, data)
        if crash is not None:
            return crash, ""
        tracemalloc.start()
    started = thread_time()
    try:
        label = target.run(data)
    except Exception as error:
        return Crash(data, error), ""
    finally:
        seconds = thread_time() - started
        peak = 0
        if measured:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    if seconds > MAX_SECONDS and not measured and (seconds := _undisturbed(target, data)) > MAX_SECONDS:
        return Crash(data, Finding(f"hangs: {seconds:.1f} s")), ""
    if peak > fixed + factor * len(data):
        return Crash(data, Finding(f"takes memory: {peak} bytes for an input of {len(data)}")), ""
    return None, label


def _undisturbed(target: Target, data: bytes) -> float:
    """The time of an execution without the collector, which looks at all that this process has, whoever made it.

    In a process of many tests that is a second now and then, and a target that makes and drops whole connections is
    where it falls most often.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        started = thread_time()
        target.run(data)
        return thread_time() - started
    finally:
        if collecting:
            gc.enable()


def mutated(target: Target, pool: list[bytes], random: Random) -> bytes:
    """One of the pool, changed."""
    data = random.choice(pool)
    if target.mutate is not None and random.random() < 0.8:
        return target.mutate(data, target.max_bytes, random)
    raw = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 5, 8))):
        _change(raw, pool, random)
    return bytes(raw[: target.max_bytes])


def _change(raw: bytearray, pool: list[bytes], random: Random) -> None:
    at = random.randrange(len(raw) + 1)
    size = min(random.choice((1, 1, 2, 3, 4, 8, 16, 64)), len(raw) - at)
    kind = random.randrange(9)
    if kind == 0 and at < len(raw):
        raw[at] ^= 1 << random.randrange(8)
    elif kind == 1 and at < len(raw):
        raw[at] = random.randrange(256)
    elif kind == 2 and at < len(raw):
        raw[at] = (raw[at] + random.choice((-1, 1, -16, 16))) & 0xFF
    elif kind == 3:
        del raw[at : at + size]
    elif kind == 4:
        raw[at:at] = raw[at : at + size] * random.choice((1, 1, 2, 30))
    elif kind == 5:
        raw[at:at] = random.choice(_INTERESTING)
    elif kind == 6:
        token = random.choice(_INTERESTING)
        raw[at : at + len(token)] = token
    elif kind == 7:
        other = random.choice(pool)
        start = random.randrange(len(other) + 1)
        raw[at : at + size] = other[start : start + random.choice((4, 16, 64, 256))]
    else:
        raw[at:at] = random.randbytes(random.choice((1, 2, 4, 16)))


def minimised(target: Target, crash: Crash, attempts: int = 5000) -> Crash:
    """The same crash with as few bytes, and as many zeros, as some thousands of attempts find."""
    best = crash
    size = max(1, len(best.data) // 2)
    while size and attempts > 0:
        at = 0
        shorter = False
        while at < len(best.data) and attempts > 0:
            attempts -= 1
            found, _ = execute(target, best.data[:at] + best.data[at + size :])
            if found is not None and found.signature == crash.signature:
                best, shorter = found, True
            else:
                at += size
        if not shorter:
            size //= 2
    for at in range(len(best.data)):
        if best.data[at] and attempts > 0:
            attempts -= 1
            found, _ = execute(target, best.data[:at] + b"\x00" + best.data[at + 1 :])
            if found is not None and found.signature == crash.signature:
                best = found
    return best


def main() -> int:
    """One job of a long run: TARGET EXECUTIONS SEED CRASH_PREFIX."""
    from tests.fuzz.catalogue import TARGETS

    name, executions, seed, prefix = sys.argv[1:]
    outcome = run(TARGETS[name], int(executions), int(seed))
    print(f"stat::number_of_executed_units: {outcome.executions}")
    print(f"digest: {outcome.digest:08x}")
    if outcome.crash is None:
        return 0
    digest = hashlib.sha256(outcome.crash.data).hexdigest()[:16]
    Path(f"{prefix}crash-{digest}").write_bytes(outcome.crash.data)
    return 1


if __name__ == "__main__":
    sys.exit(main())
