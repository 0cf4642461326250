"""Posts that outlive the link and the power: the device's side, on plain files and on LittleFS that loses its power."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.device.conftest import Start, micropython_compiled
from tests.device.interpreters import FIRMWARE, Interpreter


@pytest.fixture
def on_flash(compiled: Path) -> Interpreter:
    """MicroPython with the host's stubs, and room for a flash in its heap."""
    interpreter = micropython_compiled(compiled, "8m")
    return replace(interpreter, path=(*interpreter.path, FIRMWARE / "host"))


async def test_rules(interpreter: Interpreter, start: Start) -> None:
    program = await start(interpreter.with_heap("256k"), "outbox_rules")
    numbers = [0, 1, 1, 1, 1, *range(2, 31)]
    await program.expect(numbers=numbers, lost=1, files=[])
    await program.expect(full="oldest")
    await program.expect(full="newest")
    await program.expect(numbers=[0, 1, 2, 3, 4, 6], epochs=3)
    await program.expect(damaged=[0])
    await program.expect(numbers=[1, 2, 4], lost=2)
    await program.expect(later=[5, 6, 7], lost=1)
    await program.expect(early=0, late=0, files=1)
    assert await program.finish() == []


@pytest.mark.parametrize("points", [24, pytest.param(1 << 20, marks=pytest.mark.soak)])
async def test_power_cuts(points: int, on_flash: Interpreter, start: Start) -> None:
    """At 24 writes of each scenario, in the long run at every one: nothing that was on flash is lost, nothing that is
    damaged is sent, and the next run starts."""
    program = await start(on_flash, "outbox_power", points)
    scenarios = await program.finish()
    assert len(scenarios) == 3
    assert all(scenario["cuts"] >= 24 for scenario in scenarios), scenarios


async def test_wear_and_heap(on_flash: Interpreter, start: Start) -> None:
    """At most an erase for five 64-byte records; on a board the heap is five eighths of what is measured here."""
    program = await start(on_flash, "outbox_wear", 500)
    cost = await program.expect(got=500)
    assert cost["erases"] <= 0.2 * 500, cost
    assert cost["imported"] <= 4096, cost
    assert cost["page"] <= 3 * 1024, cost
    failing = await program.expect(left=0)
    assert failing["kept"] + failing["lost"] == 30
    assert 0 < failing["lost"] < 30
    await program.finish()
