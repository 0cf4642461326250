"""File systems of a test's own: one that can lose its power, one that can be full and grow again."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: `_IOR('X', 125, __u32)` of Linux's ext4 and xfs: the file system goes down as it stands.
SHUTDOWN = 0x8004587D
WITHOUT_FLUSH = 2


@contextmanager
def mounted(image: Path, volume: Path) -> Iterator[Path]:
    volume.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, volume], check=True, capture_output=True)
    try:
        yield volume
    finally:
        subprocess.run(["umount", volume], check=True)


def cut_power(volume: Path) -> None:
    """The file system goes down with nothing more written to its device."""
    descriptor = os.open(volume, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
    finally:
        os.close(descriptor)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file system in a file. Where none can be mounted (no root, no loop device) the test is left out, with why."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        with mounted(image, tmp_path / "volume"):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device can be mounted here: {error}")
    return image


@contextmanager
def small_volume(volume: Path, size: str) -> Iterator[Path]:
    """A file system of so many bytes (`2m`). Where none can be mounted (no root) the test is left out, with why."""
    volume.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", volume]
    mounting = subprocess.run(command, check=False, capture_output=True)
    if mounting.returncode:
        pytest.skip(f"no file system can be mounted here: {mounting.stderr.decode().strip()}")
    try:
        yield volume
    finally:
        subprocess.run(["umount", "-l", volume], check=True)


def resize(volume: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", volume], check=True)
