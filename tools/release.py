"""Whether this commit may be released: one version everywhere, a changelog for it, a clean tree, pins that fit.

`tools/release.py --check` asks nobody; docs/release.md has what else is done for a release.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import inventory
import sbom

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.]+)?")
SECTION = re.compile(r"^## (?P<name>\S+)(?: \((?P<day>\d{4}-\d{2}-\d{2})\))?\n(?P<lines>.*?)(?=^## |\Z)", re.M | re.S)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", required=True, help="say what is in the way, change nothing")
    parser.parse_args()
    version = sbom.product_version()
    complaints = [
        *of_versions(inventory.ROOT, version),
        *of_changelog(inventory.ROOT, version, datetime.now(UTC).date()),
    ]
    complaints += [*of_tree(inventory.ROOT, version), *inventory.unfit()]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print(f"{version}: {len(complaints)} things are in the way" if complaints else f"{version} may be released")
    return 1 if complaints else 0


def of_versions(root: Path, version: str) -> Iterator[str]:
    """gateway/__init__.py has the version; everything else takes it from there or is made with it."""
    if not VERSION.fullmatch(version):
        yield f"{version} is no version of the form 1.2.3 or 1.2.3-rc.1"
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    if "version" in project or "version" not in project["dynamic"]:
        yield "pyproject.toml has a version of its own"
    described = json.loads((root / "device_sdk" / "package.json").read_text("utf-8"))["version"]
    if described != version:
        yield f"device_sdk/package.json is of {described}: tools/sdk_package.py"


def of_changelog(root: Path, version: str, today: date) -> Iterator[str]:
    """Behind an empty `Unreleased` comes the version, with a day that is not to come, and what users notice of it."""
    sections = [match.groupdict() for match in SECTION.finditer((root / "CHANGELOG.md").read_text("utf-8"))]
    if not sections or sections[0]["name"] != "Unreleased":
        yield "CHANGELOG.md does not begin with `## Unreleased`"
        return
    if sections[0]["lines"].strip():
        yield f"CHANGELOG.md has lines under Unreleased: they belong under `## {version} ({today})`"
    released = sections[1] if len(sections) > 1 else {"name": "nothing", "day": None, "lines": ""}
    if released["name"] != version:
        yield f"CHANGELOG.md has {released['name']} where {version} must be"
    elif released["day"] is None or date.fromisoformat(released["day"]) > today:
        yield f"CHANGELOG.md must say on which day {version} was made: `## {version} ({today})`"
    elif not released["lines"].strip():
        yield f"CHANGELOG.md says nothing of {version}"


def of_tree(root: Path, version: str) -> Iterator[str]:
    """What is released is a commit, and a tag is never moved."""
    if git(root, "status", "--porcelain"):
        yield "the tree is not clean: git status"
    tagged = git(root, "rev-parse", "--quiet", "--verify", f"refs/tags/v{version}^{{commit}}")
    if tagged and tagged != git(root, "rev-parse", "HEAD"):
        yield f"v{version} is the tag of another commit, {tagged[:12]}: take the next version"


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
