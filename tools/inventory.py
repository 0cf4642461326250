"""What is shipped of other people's work, and whether the files that say so fit each other.

Shipped are the packages that `deploy/requirements.txt` pins, the libraries of the dashboard
(`gateway/admin/dashboard/vendor`), and, in the image, its base. `deploy/components.json` records what the pins do not
say: licence and dependencies of each package, as the package index had them when it was pinned.

The image is built without anything that is not pinned, so what it imports from here needs the standard library alone.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "requirements.txt"
BUILD_LOCK = ROOT / "deploy" / "build-requirements.txt"
RECORDS = ROOT / "deploy" / "components.json"
VENDORED = ROOT / "gateway" / "admin" / "dashboard" / "vendor" / "VENDOR.json"
NPM_LOCK = ROOT / "tools" / "vendor" / "package-lock.json"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PIN = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))? \\\n(?P<hashes>(?:    --hash=.*\n?)+)", re.M
)
#: Where a node can run: what is pinned for other systems alone is not shipped.
PLATFORMS = [
    {
        "sys_platform": "linux",
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    for machine in ("x86_64", "aarch64")
    for python in ("3.11", "3.12", "3.13", "3.14")
]
#: What packages say in words that are no SPDX expression.
IN_WORDS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


@dataclass(frozen=True, slots=True)
class Pin:
    """A line of a lock: `marker` is empty or an environment marker, `hashes` are SHA-256 in hex, one for each file."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a pinned package: an SPDX expression, and the packages that it asks for where a node runs."""

    version: str
    licence: str
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """A library of the dashboard. `sha512`, in hex, is that of its archive at `url`; `files` have been made of it."""

    name: str
    version: str
    licence: str
    url: str
    sha512: str
    files: tuple[str, ...]


def pins(path: Path = LOCK) -> list[Pin]:
    """All pins of a lock. Raises ValueError for a line that is none: without a hash or without a version."""
    text = "".join(line for line in path.read_text("utf-8").splitlines(keepends=True) if not line.startswith("#"))
    found = [
        Pin(
            canonical(match["name"]),
            match["version"],
            match["marker"] or "",
            tuple(re.findall(r"sha256:([0-9a-f]{64})", match["hashes"])),
        )
        for match in PIN.finditer(text)
    ]
    left = PIN.sub("", text).strip()
    if left:
        raise ValueError(f"{path.name}: no pin with hashes: {left.splitlines()[0]}")
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def records(path: Path = RECORDS) -> dict[str, Record]:
    read = json.loads(path.read_text("utf-8"))
    return {
        name: Record(entry["version"], entry["licence"], tuple(entry["requires"]))
        for name, entry in read["packages"].items()
    }


def asked_for(path: Path = RECORDS) -> tuple[str, ...]:
    """The packages that the product itself asks for."""
    return tuple(json.loads(path.read_text("utf-8"))["product"])


def libraries() -> list[Library]:
    locked = json.loads(NPM_LOCK.read_text("utf-8"))["packages"]
    files: dict[str, list[str]] = {}
    described = {}
    for item in json.loads(VENDORED.read_text("utf-8")):
        for package in item["packages"]:
            files.setdefault(package["name"], []).append(item["file"])
            described[package["name"]] = package
    found = []
    for name, package in sorted(described.items()):
        lock = locked[f"node_modules/{name}"]
        if lock["version"] != package["version"]:
            raise ValueError(f"{name} {package['version']} is vendored, {lock['version']} is locked: make vendor")
        kind, _, digest = lock["integrity"].partition("-")
        if kind != "sha512":
            raise ValueError(f"{name} is locked by {kind}")
        url = lock.get(
            "resolved", f"https://registry.npmjs.org/{name}/-/{name.partition('/')[2] or name}-{package['version']}.tgz"
        )
        found.append(
            Library(
                name, package["version"], package["license"], url, base64.b64decode(digest).hex(), tuple(files[name])
            )
        )
    return found


def base_image() -> str:
    """The base of the image, unless who builds it names another."""
    match = re.search(r"^ARG BASE_IMAGE=(\S+)$", DOCKERFILE.read_text("utf-8"), re.M)
    if match is None:
        raise ValueError("deploy/Dockerfile names no base image")
    return match[1]


def unfit(pyproject: Path = ROOT / "pyproject.toml", lock: Path = LOCK, known: Path = RECORDS) -> Iterator[str]:
    """Each thing in which lock, records and pyproject.toml do not fit; what to do is always `tools/lock`."""
    from packaging.requirements import Requirement

    project = tomllib.loads(pyproject.read_text("utf-8"))
    pinned = {pin.name: pin for pin in shipped(pins(lock))}
    recorded, roots = records(known), asked_for(known)
    wanted = [Requirement(text) for text in runtime(project)]
    for requirement in wanted:
        pin = pinned.get(canonical(requirement.name))
        if pin is None:
            yield f"{requirement} is asked for and not pinned"
        elif not requirement.specifier.contains(pin.version):
            yield f"{requirement} is asked for, {pin.version} is pinned"
    if set(roots) != {canonical(requirement.name) for requirement in wanted}:
        yield f"{known.name} is of another list of dependencies than {pyproject.name}"
    for name, pin in pinned.items():
        record = recorded.get(name)
        if record is None or record.version != pin.version:
            yield f"{name} {pin.version} is pinned, {known.name} has {record.version if record else 'nothing of it'}"
    for name in sorted(recorded.keys() - pinned.keys()):
        yield f"{known.name} has {name}, which is not pinned"
    reached, waiting = set(), list(roots)
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name not in pinned:
            yield f"{name} is needed and not pinned"
        elif name in recorded:
            waiting += recorded[name].requires
    for name in sorted(pinned.keys() - reached):
        yield f"{name} is pinned and nobody asks for it"
    build = {pin.name: pin for pin in pins(BUILD_LOCK)}
    for requirement in map(Requirement, project["build-system"]["requires"]):
        pin = build.get(canonical(requirement.name))
        if pin is None or not requirement.specifier.contains(pin.version):
            yield f"{requirement} builds the product, {BUILD_LOCK.name} has {pin.version if pin else 'nothing of it'}"


def runtime(project: dict[str, dict[str, object]]) -> list[str]:
    """What the lock is made from: the dependencies, and those of the extras that tools/lock names."""
    table = project["project"]
    extras = re.findall(r"--extra (\w+)", (ROOT / "tools" / "lock").read_text("utf-8"))
    return [*table["dependencies"], *(text for extra in extras for text in table["optional-dependencies"][extra])]  # type: ignore[misc,index]


def shipped(locked: Iterable[Pin]) -> list[Pin]:
    """Those that are installed somewhere where a node can run."""
    from packaging.markers import Marker

    linux = {"implementation_name": "cpython", "platform_python_implementation": "CPython", "os_name": "posix"}
    return [
        pin
        for pin in locked
        if not pin.marker or any(Marker(pin.marker).evaluate({**linux, **platform}) for platform in PLATFORMS)
    ]


def recorded(
    report: dict[str, list[dict[str, dict[str, object]]]], wanted: list[str], names: set[str]
) -> dict[str, object]:
    """The records of what pip reports that it would install, as `deploy/components.json` has them."""
    from packaging.requirements import Requirement

    metadata = {canonical(str(item["metadata"]["name"])): item["metadata"] for item in report["install"]}
    edges: dict[str, set[str]] = {name: set() for name in names}
    waiting = [(canonical(r.name), tuple(sorted(r.extras))) for r in map(Requirement, wanted)]
    seen = set()
    while waiting:
        name, extras = place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        for requirement in map(Requirement, metadata[name].get("requires_dist", ())):  # type: ignore[arg-type]
            marker = requirement.marker
            if canonical(requirement.name) in names and (
                marker is None
                or any(
                    marker.evaluate({**platform, "extra": extra}) for platform in PLATFORMS for extra in ("", *extras)
                )
            ):
                edges[name].add(canonical(requirement.name))
                waiting.append((canonical(requirement.name), tuple(sorted(requirement.extras))))
    return {
        "product": sorted({canonical(Requirement(text).name) for text in wanted}),
        "packages": {
            name: {
                "version": metadata[name]["version"],
                "licence": licence(metadata[name]),
                "requires": sorted(edges[name]),
            }
            for name in sorted(names)
        },
    }


def licence(metadata: dict[str, object]) -> str:
    """An SPDX expression. Raises ValueError where the package has none, and none can be made of its classifiers."""
    if metadata.get("license_expression"):
        return str(metadata["license_expression"])
    said = str(metadata.get("license") or "")
    if said in {"MIT", "BSD-3-Clause", "BSD-2-Clause", "Apache-2.0", "MPL-2.0", "ISC"}:
        return said
    words = [IN_WORDS[line] for line in metadata.get("classifier", ()) if line in IN_WORDS]  # type: ignore[attr-defined]
    if not words:
        raise ValueError(f"{metadata['name']} {metadata['version']} says nothing of its licence")
    # Two of them: whether both hold or either is not said, so both are taken to hold.
    return " AND ".join(sorted(words))


def refresh() -> None:
    """Ask the package index what it has of the pinned packages, and write `deploy/components.json`."""
    wanted = runtime(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8")))
    names = {pin.name for pin in shipped(pins())}
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"),
                *("--ignore-installed", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
                *("--report", report.name, "--requirement", str(LOCK)),
            ],
            check=True,
        )
        found = recorded(json.load(report), wanted, names)
    RECORDS.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--refresh", action="store_true", help="ask the package index, and write deploy/components.json"
    )
    if parser.parse_args().refresh:
        refresh()
    complaints = list(unfit())
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if complaints:
        print("run tools/lock", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
