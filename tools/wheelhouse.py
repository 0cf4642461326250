"""All that a host without Docker and without the Internet installs: wheels, and the list of them with their hashes.

    wheelhouse.py --out DIR [--arch amd64|arm64] [--wheels dist] [--python 3.11 …] [--check]

Every package of deploy/requirements.txt, as a wheel, for each Python; the product's own wheels out of --wheels; pip,
because a host may have none. `requirements.txt` there is deploy/requirements.txt and the product, by hash. With --check
nothing is kept: it says whether there is a wheel, with a hash in the list, of everything. Asks pypi.org.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / "deploy" / "requirements.txt"
INSTALLER = ROOT / "deploy" / "bundle-requirements.txt"
PRODUCT = "rsocket-edge-gateway"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
HERE = next((arch for arch, machine in MACHINES.items() if machine == platform.machine()), "amd64")
#: C libraries that wheels may ask for: glibc 2.28 is that of Debian 10 and RHEL 8.
LIBRARIES = ("manylinux_2_28", "manylinux_2_26", "manylinux_2_17", "manylinux2014", "manylinux_2_5", "manylinux1")
MUSL = ("musllinux_1_2", "musllinux_1_1")
WHEEL = re.compile(r"rsocket_edge_gateway-(?P<version>[^-]+)-cp(?P<major>\d)(?P<minor>\d+)-cp\d+-(?P<platform>.+)\.whl")


def own(wheels: Path, version: str, arch: str) -> dict[str, Path]:
    """The product's wheels of this version for this machine, by Python; of several for one, the portable one."""
    found: dict[str, Path] = {}
    for path in sorted(wheels.glob("rsocket_edge_gateway-*.whl"), key=lambda path: "manylinux" in path.name):
        named = WHEEL.fullmatch(path.name)
        if not named or named["version"] != version:
            continue
        if not named["platform"].startswith("musl") and named["platform"].endswith(f"_{MACHINES[arch]}"):
            found[f"{named['major']}.{named['minor']}"] = path
    return {python: found[python] for python in sorted(found, key=lambda name: int(name.partition(".")[2]))}


def download(lists: Iterable[Path], python: str, platforms: Iterable[str], out: Path) -> None:
    """Every package of the lists as a wheel whose hash is in them. Raises CalledProcessError."""
    chosen = [option for platform in platforms for option in ("--platform", platform)]
    listed = [option for path in lists for option in ("--requirement", str(path))]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"),
            *("--no-deps", "--only-binary", ":all:", "--python-version", python, *chosen, *listed, "--dest", str(out)),
        ],
        check=True,
    )


def collect(out: Path, arch: str, wheels: dict[str, Path]) -> None:
    """Write the wheelhouse for the Pythons that there are wheels of the product for."""
    out.mkdir(parents=True, exist_ok=True)
    platforms = [f"{library}_{MACHINES[arch]}" for library in LIBRARIES]
    for python, wheel in wheels.items():
        download((LOCKED, INSTALLER), python, platforms, out)
        shutil.copy2(wheel, out)
    (out / "requirements.txt").write_text(requirements(LOCKED.read_text(), wheels.values()))


def requirements(locked: str, wheels: Iterable[Path]) -> str:
    """The list that is installed from: the locked one, and whichever of the product's wheels fits."""
    paths = list(wheels)
    (version,) = {path.name.split("-")[1] for path in paths}
    hashes = [f"    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths]
    return locked + " \\\n".join([f"{PRODUCT}=={version}", *hashes]) + "\n"


def check(pythons: Iterable[str]) -> bool:
    """Say for each machine, C library and Python whether every package is there as a wheel with a locked hash."""
    whole = True
    for machine in MACHINES.values():
        for names in (LIBRARIES, MUSL):
            for python in pythons:
                with tempfile.TemporaryDirectory() as directory:
                    try:
                        download((LOCKED,), python, [f"{name}_{machine}" for name in names], Path(directory))
                        found = f"{len(list(Path(directory).glob('*.whl')))} wheels"
                    except subprocess.CalledProcessError:
                        whole, found = False, "NOT WHOLE"
                print(f"{machine:8} {names[0].rstrip('_0123456789'):10} Python {python}: {found}", flush=True)
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "wheelhouse")
    parser.add_argument("--arch", choices=MACHINES, default=HERE)
    parser.add_argument("--wheels", type=Path, default=ROOT / "dist")
    parser.add_argument("--python", nargs="+", default=list(PYTHONS))
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    if asked.check:
        return 0 if check(asked.python) else 1
    from gateway import __version__

    wheels = own(asked.wheels, __version__, asked.arch)
    wheels = {python: path for python, path in wheels.items() if python in asked.python}
    if not wheels:
        print(f"{asked.wheels} has no wheel of {__version__} for {asked.arch}: make wheels", file=sys.stderr)
        return 1
    shutil.rmtree(asked.out, ignore_errors=True)
    collect(asked.out, asked.arch, wheels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
