"""The data plane's modules, each as the first one that a process imports: where they are compiled, a circle that ends
well from one side may not from the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gateway.forwarding

MODULES = sorted(path.name.partition(".")[0] for path in Path(gateway.forwarding.__path__[0]).glob("[a-z]*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_imported_first(module: str) -> None:
    root = Path(gateway.__path__[0]).parent
    subprocess.run([sys.executable, "-c", f"import gateway.forwarding.{module}"], cwd=root, check=True)
