"""`make run-mqtt`, as a test: a thermostat of each kind, read and set by the same two commands of Mosquitto's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.usefixtures("mosquitto_clients")
def test_the_demonstration() -> None:
    program = Path(__file__).parents[2] / "tools" / "run-mqtt"
    ended = subprocess.run([sys.executable, program, "--check"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-3:] == [
        "thermostat-1: read and set by the same two commands",
        "thermostat-mqtt: read and set by the same two commands",
        "mosquitto_sub sees the readings of both",
    ]
