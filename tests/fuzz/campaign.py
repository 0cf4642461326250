"""A long run: many executions over several targets, in a few processes, with progress and a summary.

Each target's share is cut into jobs, so that processes stay busy and what one job finds helps the next. A job is a
process of its own: libFuzzer under atheris where that is installed, else the project's own driver. Its gateway is
always the interpreted one, because only that shows its coverage; what it finds worth keeping, and what crashes, is run
again here, on the build that is installed. A crash is made smaller, and kept with its traceback.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from tests.fuzz.catalogue import TARGETS
from tests.fuzz.mutation import Crash, execute, minimised
from tests.fuzz.target import CORPUS, Target

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("atheris", "own")
_JOB_SECONDS = 30
_FIRST_JOB = 20_000
_MAX_RSS_MB = 1024
#: An execution that does not end at all. What is merely too slow the job itself finds, by the processor's clock.
_GIVE_UP_SECONDS = 60
_EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: \d+")


def default_engine() -> str:
    return "atheris" if find_spec("atheris") else "own"


@dataclass
class Tally:
    """What one target has come to."""

    target: Target
    wanted: int
    executed: int = 0
    given_out: int = 0
    seconds: float = 0.0
    jobs: int = 0
    coverage: int = 0
    crashes: list[Path] = field(default_factory=list)

    @property
    def speed(self) -> float:
        return self.executed / self.seconds if self.seconds else 0.0


def shares(targets: Iterable[Target], executions: int) -> list[Tally]:
    """The executions divided by weight; together exactly as many as asked for."""
    chosen = list(targets)
    left, weight = executions, sum(target.weight for target in chosen)
    tallies = []
    for target in chosen:
        share = left * target.weight // weight
        tallies.append(Tally(target, share))
        left -= share
        weight -= target.weight
    return tallies


class Campaign:
    """`directory` keeps what was found: a corpus a target, and crashes. `say` gets lines for a person."""

    def __init__(
        self,
        targets: Iterable[Target],
        executions: int,
        *,
        seed: int,
        processes: int,
        engine: str,
        directory: Path,
        say: Callable[[str], None] = print,
    ) -> None:
        self.tallies = shares(targets, executions)
        self.seconds = 0.0
        self._seed = seed
        self._processes = processes
        self._engine = engine
        self._directory = directory.absolute()
        self._sources = ROOT
        self._say = say
        self._lock = Lock()
        self._started = time.monotonic()

    @property
    def executed(self) -> int:
        return sum(tally.executed for tally in self.tallies)

    @property
    def crashes(self) -> list[Path]:
        return [crash for tally in self.tallies for crash in tally.crashes]

    def run(self) -> None:
        """Work until every target has had its share or has crashed."""
        self._started = time.monotonic()
        self._sources = self.interpreted()
        for tally in self.tallies:
            self._prepare(tally.target)
        with ThreadPoolExecutor(self._processes) as pool:
            for worker in [pool.submit(self._work) for _ in range(self._processes)]:
                worker.result()
        for tally in self.tallies:
            self._measure(tally)
        self.seconds = time.monotonic() - self._started

    def summary(self) -> str:
        head = f"{'target':16}{'executions':>12}{'a second':>10}{'coverage':>10}{'crashes':>9}"
        lines = [
            f"{tally.target.name:16}{tally.executed:>12,}{tally.speed:>10,.0f}{tally.coverage or '':>10}"
            f"{len(tally.crashes):>9}"
            for tally in self.tallies
        ]
        total = f"{self.executed:,} executions in {self.seconds:,.0f} s with {self._engine}, seed {self._seed}"
        crashed = f"{len(self.crashes)} crashes" + "".join(f"\n  {path}" for path in self.crashes)
        return "\n".join([head, *lines, total, crashed])

    # Jobs

    def interpreted(self) -> Path:
        """A tree of links to the sources alone, without extension modules that were built over them."""
        tree = self._directory / "sources"
        shutil.rmtree(tree, ignore_errors=True)
        for source in (ROOT / "gateway").rglob("*.py"):
            link = tree / source.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
        (tree / "tests").symlink_to(ROOT / "tests")
        return tree

    def _work(self) -> None:
        while (job := self._next()) is not None:
            tally, executions, seed = job
            started = time.monotonic()
            finished = subprocess.run(
                self._command(tally.target, executions, seed),
                cwd=self._sources,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            with self._lock:
                self._record(tally, executions, finished, time.monotonic() - started)

    def _next(self) -> tuple[Tally, int, int] | None:
        with self._lock:
            open_tallies = [t for t in self.tallies if t.given_out < t.wanted and not t.crashes]
            if not open_tallies:
                return None
            tally = min(open_tallies, key=lambda t: t.given_out / t.wanted)
            size = int(tally.speed * _JOB_SECONDS) if tally.jobs else _FIRST_JOB
            left = tally.wanted - tally.given_out
            size = left if left < 1.5 * size else max(size, 1000)
            tally.given_out += size
            tally.jobs += 1
            return tally, size, self._seed * 1000 + tally.jobs

    def _command(self, target: Target, executions: int, seed: int) -> list[str]:
        if self._engine == "own":
            command = [sys.executable, "-m", "tests.fuzz.mutation", target.name, str(executions), str(seed)]
            return [*command, str(self._crash_prefix(target))]
        return [
            sys.executable,
            "-m",
            "tests.fuzz.coverage_guided",
            target.name,
            f"-runs={executions}",
            f"-seed={seed}",
            f"-max_len={target.max_bytes}",
            f"-timeout={_GIVE_UP_SECONDS}",
            f"-rss_limit_mb={_MAX_RSS_MB}",
            f"-artifact_prefix={self._crash_prefix(target)}",
            "-print_final_stats=1",
            "-len_control=20",
            str(self._found(target)),
            *([str(CORPUS / target.name)] if (CORPUS / target.name).is_dir() else []),
        ]

    def _record(self, tally: Tally, wanted: int, finished: subprocess.CompletedProcess[str], seconds: float) -> None:
        output = finished.stdout + finished.stderr
        executed = _EXECUTED.search(output)
        done = int(executed[1]) if executed else 0
        tally.executed += done
        tally.seconds += seconds
        tally.coverage = max([tally.coverage, *(int(found) for found in _COVERAGE.findall(output))])
        self._confirm(tally)
        if finished.returncode and not tally.crashes:
            if executed is None:
                raise RuntimeError(
                    f"{tally.target.name}: the fuzzer ended with {finished.returncode}\n{output[-4000:]}"
                )
            # What crashed does not when run again: what is left of this job is done again.
            tally.given_out -= max(0, wanted - done)
        elapsed = time.monotonic() - self._started
        self._say(
            f"{elapsed:7.0f} s  {self.executed:>12,}  {tally.target.name:16}"
            f"{tally.executed:>12,} of {tally.wanted:,}  {done / seconds:,.0f}/s"
        )

    # Inputs

    def _found(self, target: Target) -> Path:
        return self._directory / "found" / target.name

    def _crash_prefix(self, target: Target) -> Path:
        return self._directory / "crashes" / f"{target.name}-"

    def _prepare(self, target: Target) -> None:
        self._found(target).mkdir(parents=True, exist_ok=True)
        self._crash_prefix(target).parent.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.more_seeds()):
            (self._found(target) / f"seed-{number}").write_bytes(seed)

    def _confirm(self, tally: Tally) -> None:
        """Run again what a job left as a crash; keep what crashes here, too, in its smallest form."""
        prefix = self._crash_prefix(tally.target)
        for path in sorted(prefix.parent.glob(f"{prefix.name}*-*")):
            if path.suffix:
                continue
            crash, _ = execute(tally.target, path.read_bytes(), measured=False)
            if crash is None:
                path.rename(path.with_suffix(".unconfirmed"))
                self._say(f"{path.name} does not crash when run again")
                continue
            tally.crashes.append(self._kept(tally.target, crash, path))

    def _kept(self, target: Target, crash: Crash, path: Path) -> Path:
        smallest = minimised(target, crash)
        small = path.with_suffix(".smallest")
        small.write_bytes(smallest.data)
        path.rename(path.with_suffix(".found"))
        text = "".join(traceback.format_exception(smallest.error))
        path.with_suffix(".txt").write_text(text)
        self._say(f"CRASH {target.name} {smallest.data[:80].hex()}\n{text}")
        return small

    def _measure(self, tally: Tally) -> None:
        """Everything that was worth keeping, once more, with an eye on time and memory."""
        for path in sorted(self._found(tally.target).iterdir()):
            crash, _ = execute(tally.target, path.read_bytes(), measured=True)
            if crash is not None:
                copy = Path(f"{self._crash_prefix(tally.target)}{path.name}")
                copy.write_bytes(crash.data)
                tally.crashes.append(self._kept(tally.target, crash, copy))
                return


def campaign_targets(names: Iterable[str]) -> list[Target]:
    """The named targets, or all."""
    return [TARGETS[name] for name in names] or list(TARGETS.values())
