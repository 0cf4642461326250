"""The data plane's modules, each as the first one that a process imports: where they are compiled, a circle that ends
well from one side may not from the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gateway.forwarding

MODULES = sorted(path.name.partition(".")[0] for path in Path(gateway.forwarding.__path__[0]).glob("[a-z]*.py"))

#: A process for each module, forked from one that has loaded a part of Python's own library and nothing of the product.
EACH_FIRST = """
import asyncio, dataclasses, importlib, importlib.metadata, inspect, ipaddress, os, sys, tempfile, traceback, uuid

assert not any(name.partition(".")[0] == "gateway" for name in sys.modules)
for module in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(f"gateway.forwarding.{module}")
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(module, os.waitpid(child, 0)[1], flush=True)
"""


def each_first(*modules: str) -> dict[str, bool]:
    """Whether the import of each went well where it was the first one."""
    said = subprocess.run(
        [sys.executable, "-c", EACH_FIRST, *modules],
        cwd=Path(gateway.__path__[0]).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    print(said.stderr)
    return {module: status == "0" for module, status in map(str.split, said.stdout.splitlines())}


def test_each_module_can_be_imported_first() -> None:
    assert len(MODULES) > 40
    assert each_first(*MODULES) == dict.fromkeys(MODULES, True)


def test_one_that_cannot_is_found() -> None:
    assert each_first("plane", "no_such_module") == {"plane": True, "no_such_module": False}
