"""`runtime.json`: what a running node says of itself to this machine."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from gateway.control.runtime import NAME, Runtime, birth_of


def test_is_read_as_written_by_its_owner_alone(tmp_path: Path) -> None:
    written = Runtime(os.getpid(), 1_700_000_000.5, admin="http://127.0.0.1:9878")
    written.write(tmp_path)
    assert Runtime.read(tmp_path) == written
    assert written.alive
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    Runtime.remove(tmp_path)
    assert Runtime.read(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": 1}', '{"pid": 1, "started_at": 2, "else": 3}'])
def test_what_cannot_be_read_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    assert Runtime.read(tmp_path) is None


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert not Runtime(child.pid, 0.0).alive


def test_a_process_that_has_got_the_number_since(tmp_path: Path) -> None:
    """After a reboot, or in another container, the number may be that of anything."""
    birth = birth_of(os.getpid())
    assert birth
    assert Runtime(os.getpid(), 0.0, birth=birth).alive
    assert not Runtime(os.getpid(), 0.0, birth=birth - 1).alive


def test_a_process_that_nobody_has_waited_for() -> None:
    with subprocess.Popen(["true"]) as child:
        birth = birth_of(os.getpid())
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert birth_of(child.pid) == 0
        assert not Runtime(child.pid, 0.0, birth=birth or 0).alive
