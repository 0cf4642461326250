"""Memory watermarks, from made-up figures of the system."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from gateway.observe.memory import MemoryGauge, Pressure

PAGE = resource.getpagesize()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path / "proc"


def _resident(proc: Path, size: int) -> None:
    (proc / "self/statm").write_text(f"999999 {size // PAGE} 7 7 0 7 0\n")


@pytest.mark.parametrize(
    ("percent", "pressure"),
    [
        (84, Pressure.NONE),
        (85, Pressure.NO_NEW_CONNECTIONS),
        (86, Pressure.NO_NEW_CONNECTIONS),
        (91, Pressure.NO_NEW_CONNECTIONS),
        (92, Pressure.NO_DURABLE_WORK),
        (93, Pressure.NO_DURABLE_WORK),
        (96, Pressure.NO_DURABLE_WORK),
        (97, Pressure.NO_BUFFERS),
        (98, Pressure.NO_BUFFERS),
        (200, Pressure.NO_BUFFERS),
    ],
)
def test_watermarks(proc: Path, percent: int, pressure: Pressure) -> None:
    """limits.memory_bytes: 85, 92 and 97 %."""
    _resident(proc, percent * PAGE * 1000)
    assert MemoryGauge(100 * PAGE * 1000, proc=proc).pressure() is pressure
    assert MemoryGauge(0, proc=proc).pressure() is Pressure.NONE


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/", {"memory.max": "max"}, 0),
        ("0::/", {"memory.max": "1000"}, 1000),
        ("0::/a/b", {"memory.max": "5000", "a/memory.max": "1000", "a/b/memory.max": "max"}, 1000),
        ("0::/of/the/host", {"memory.max": "1000"}, 1000),
        ("4:memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "1000"}, 1000),
        ("4:cpu,memory:/a", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 0),
        ("1:cpu:/", {"memory.max": "1000"}, 0),
        ("0::/", {}, 0),
    ],
)
def test_limit_of_the_control_group(proc: Path, tmp_path: Path, group: str, files: dict[str, str], limit: int) -> None:
    (proc / "self/cgroup").write_text(group + "\n")
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert MemoryGauge(proc=proc, cgroups=tmp_path / "cgroup").limit == limit


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    gauge = MemoryGauge(proc=tmp_path, cgroups=tmp_path)
    assert (gauge.limit, gauge.resident(), gauge.pressure()) == (0, 0, Pressure.NONE)
    assert MemoryGauge(1000, proc=tmp_path).pressure() is Pressure.NONE


def test_this_process() -> None:
    assert MemoryGauge().resident() > 1 << 20
