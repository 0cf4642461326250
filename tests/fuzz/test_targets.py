"""Fault 51: random bytes, bit-flipped captures, truncated frames: a value or a documented error, in time, in bounds.

`make test` runs every input of the corpus and a few hundred changed ones a target, the same ones each time; `make soak`
runs 10,000,000. `python -m tests.fuzz` is the same by hand.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import mutation
from tests.fuzz.campaign import ROOT, Campaign, default_engine
from tests.fuzz.catalogue import TARGETS
from tests.fuzz.mutation import Crash, minimised, run
from tests.fuzz.target import CORPUS, Finding, Target, check

SEED = 51
SOAK_EXECUTIONS = 10_000_000
CORPUS_LIMIT = 1 << 20


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_target(target: Target) -> None:
    outcome = run(target, max(target.quick, len(target.seeds())), SEED)
    if outcome.crash is not None:
        crash = minimised(target, outcome.crash, attempts=500)
        pytest.fail(f"{target.name}: {crash.data.hex()}: {type(crash.error).__name__}: {crash.error}")
    assert len(outcome.outcomes) > 1


def test_a_run_with_the_fuzzer(tmp_path: Path) -> None:
    """Two targets in processes of their own, with whichever driver is installed."""
    lines: list[str] = []
    campaign = Campaign(
        [TARGETS["zipkin"], TARGETS["plane"]],
        300,
        seed=SEED,
        processes=2,
        engine=default_engine(),
        directory=tmp_path,
        say=lines.append,
    )
    campaign.run()
    assert campaign.crashes == [], "\n".join(lines)
    assert campaign.executed == 300
    assert "300 executions" in campaign.summary()


@pytest.mark.parametrize("name", ["plane", "websocket", "prefixed"])
def test_both_builds_of_the_hot_path_agree(name: str, tmp_path: Path) -> None:
    """The same inputs, the same outcomes: where the hot path is compiled, bounds are not checked by the language."""
    campaign = Campaign([TARGETS[name]], 0, seed=SEED, processes=1, engine="own", directory=tmp_path)
    executions = max(400, len(TARGETS[name].seeds()))
    printed = [
        subprocess.run(
            [sys.executable, "-m", "tests.fuzz.mutation", name, str(executions), str(SEED), str(tmp_path / "crash-")],
            cwd=tree,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for tree in (ROOT, campaign.interpreted())
    ]
    assert printed[0] == printed[1]
    assert "digest" in printed[0]


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    say("")
    campaign = Campaign(
        TARGETS.values(),
        SOAK_EXECUTIONS,
        seed=SEED,
        processes=os.cpu_count() or 1,
        engine=default_engine(),
        directory=tmp_path,
        say=say,
    )
    campaign.run()
    say(campaign.summary())
    assert campaign.crashes == []
    assert campaign.executed >= SOAK_EXECUTIONS


def test_the_corpus_is_small_and_named_by_its_content() -> None:
    import hashlib

    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) < CORPUS_LIMIT
    for path in files:
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()[:16]


# The drivers themselves: a broken target must be seen.


def _breaks(data: bytes) -> str:
    check(b"\x07" not in data, "a seven")
    if data.endswith(b"!!"):
        raise KeyError("exclamation")
    return f"{len(data) > 4}"


BROKEN = Target("broken", _breaks)


def test_a_finding_ends_the_run_and_is_made_small() -> None:
    outcome = run(BROKEN, 100_000, seed=1)
    assert outcome.crash is not None
    assert outcome.executions < 100_000
    small = minimised(BROKEN, Crash(b"abc\x07defghij", _raised(b"\x07")))
    assert small.data == b"\x07"
    assert isinstance(small.error, Finding)


def test_minimising_keeps_to_the_same_mistake() -> None:
    crash = Crash(b"lots of text!!", _raised(b"lots of text!!"))
    assert minimised(BROKEN, crash).data == b"!!"


def test_the_same_seed_gives_the_same_run() -> None:
    seen: list[list[bytes]] = [[], []]
    for inputs in seen:
        run(Target("watched", lambda data, inputs=inputs: inputs.append(data) or ""), 200, seed=9)  # type: ignore[misc]
    assert seen[0] == seen[1]


def test_memory_and_time_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    hoard = Target("hoard", lambda data: str(len(bytearray(1 << 20))))
    assert "memory" in str(run(hoard, 1, seed=1).crash)
    monkeypatch.setattr(mutation, "MAX_SECONDS", 0.01)
    slow = Target("slow", lambda data: str(sum(range(1_000_000))), memory=(1 << 20, 0))
    assert "hangs" in str(run(slow, 1, seed=1).crash)


def test_a_collection_is_not_the_targets_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutation, "MAX_SECONDS", 0.01)
    # What a collection in the middle of an execution does, where the rest of the process has left much.
    unlucky = Target("unlucky", lambda data: str(gc.isenabled() and sum(range(1_000_000))), memory=(1 << 20, 0))
    assert run(unlucky, 1, seed=1).crash is None


def _raised(data: bytes) -> BaseException:
    try:
        _breaks(data)
    except Exception as error:
        return error
    raise AssertionError("it did not break")
