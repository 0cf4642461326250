import os
import resource
import time
from pathlib import Path

from gateway.observe.process import process_usage


def test_the_system_s_own_figures() -> None:
    usage = process_usage()
    assert 0 < usage.cpu_seconds <= time.process_time()
    assert usage.resident_bytes is not None
    assert 1_000_000 < usage.resident_bytes < 4 * 2**30
    assert usage.start_time_seconds is not None
    assert time.time() - 86_400 < usage.start_time_seconds < time.time() + 2
    assert usage.max_fds in (None, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def test_open_descriptors_are_counted() -> None:
    before = process_usage().open_fds
    assert before is not None
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    try:
        assert process_usage().open_fds == before + 20
    finally:
        for fd in opened:
            os.close(fd)


def test_a_kernel_whose_fd_directory_has_no_size(tmp_path: Path) -> None:
    """Before Linux 6.2 the directory is listed, through one descriptor of its own."""
    sizeless = Path("/proc/self/ns")
    assert sizeless.stat().st_size == 0
    (tmp_path / "self").mkdir()
    (tmp_path / "self/fd").symlink_to(sizeless)
    assert process_usage(tmp_path).open_fds == len(os.listdir(sizeless)) - 1


def test_a_system_without_proc_leaves_out_what_it_cannot_say(tmp_path: Path) -> None:
    usage = process_usage(tmp_path)
    assert (usage.resident_bytes, usage.open_fds, usage.start_time_seconds) == (None, None, None)
    assert usage.cpu_seconds > 0


def test_a_command_name_with_brackets_does_not_shift_the_fields(tmp_path: Path) -> None:
    fields = ["S", *["0"] * 18, "500", "0"]
    (tmp_path / "self").mkdir()
    (tmp_path / "self/stat").write_text(f"42 (a) b (c) {' '.join(fields)}\n")
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1700000000\n")
    assert process_usage(tmp_path).start_time_seconds == 1_700_000_000 + 500 / os.sysconf("SC_CLK_TCK")
