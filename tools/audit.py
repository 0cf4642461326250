"""Known vulnerabilities of what is shipped: the locks of `deploy/` (pip-audit), the dashboard's libraries (npm audit).

Exit code 0: none is known; 1: a finding; 75: a database was not to be had, so that nothing can be said. What
`deploy/audit-ignore.toml` gives a reason for is no finding until the day it says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import inventory

IGNORED = inventory.ROOT / "deploy" / "audit-ignore.toml"
NONE, FINDING, UNKNOWN = 0, 1, 75
#: For one database; those who wait for it have something else to do.
TIMEOUT_S = 30
PIP_AUDIT = "pip-audit==2.10.1"


class Unavailable(Exception):
    """A database, or what asks it, was not to be had."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A vulnerability of a package. `names` are all ids that it has."""

    package: str
    version: str
    names: frozenset[str]
    fixed_in: str

    def __str__(self) -> str:
        names = ", ".join(sorted(self.names))
        return f"{self.package} {self.version}: {names}; fixed in {self.fixed_in or 'no version yet'}"


@dataclass(frozen=True, slots=True)
class Excuse:
    """An entry of the list: `name` does not count for `package` before `until`."""

    name: str
    package: str
    until: date
    reason: str


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--ignored", type=Path, default=IGNORED, metavar="FILE", help="default: deploy/audit-ignore.toml"
    )
    ignored = excuses(parser.parse_args().ignored)
    return judged(
        {"Python packages": python, "libraries of the dashboard": javascript}, ignored, datetime.now(UTC).date()
    )


def judged(databases: dict[str, Callable[[], Iterable[Finding]]], ignored: list[Excuse], today: date) -> int:
    """Ask each and say what came of it; the exit code."""
    worst = NONE
    for what, ask in databases.items():
        try:
            found = list(ask())
        except Unavailable as error:
            print(f"{what}: NOT CHECKED: {error}", file=sys.stderr)
            worst = worst or UNKNOWN
            continue
        left = [finding for finding in found if not excused(finding, ignored, today)]
        for finding in left:
            print(f"{what}: {finding}", file=sys.stderr)
        print(f"{what}: {len(left)} known vulnerabilities, {len(found) - len(left)} excused")
        worst = FINDING if left else worst
    for entry in ignored:
        if today >= entry.until:
            print(f"{IGNORED.name}: {entry.name} was excused until {entry.until}: {entry.reason}", file=sys.stderr)
            worst = FINDING
    return worst


def excuses(path: Path) -> list[Excuse]:
    """Raises SystemExit for an entry without a reason or a day."""
    found = []
    for entry in tomllib.loads(path.read_text("utf-8")).get("ignore", ()):
        if (
            set(entry) != {"id", "package", "until", "reason"}
            or not entry["reason"]
            or type(entry["until"]) is not date
        ):
            raise SystemExit(f"{path}: an entry has id, package, until (a date) and reason: {entry}")
        found.append(Excuse(entry["id"], inventory.canonical(entry["package"]), entry["until"], entry["reason"]))
    return found


def excused(finding: Finding, ignored: list[Excuse], today: date) -> bool:
    return any(
        entry.name in finding.names and entry.package == inventory.canonical(finding.package) and today < entry.until
        for entry in ignored
    )


def python() -> list[Finding]:
    """A package that the index does not know of is Unavailable: nothing is known of it then."""
    locks = [argument for lock in (inventory.LOCK, inventory.BUILD_LOCK) for argument in ("-r", str(lock))]
    program = Path(sys.executable).parent / "pip-audit"
    if not program.exists():
        code, _, err = ran(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PIP_AUDIT]
        )
        if code:
            raise Unavailable(last_line(err) or f"pip ended with {code}")
    command = [
        str(program),
        "--strict",
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    return of_pip_audit(*ran([*command, *locks]))


def javascript() -> list[Finding]:
    """What is built with, esbuild, counts too: it made what is shipped."""
    return of_npm(*ran(["npm", "audit", "--package-lock-only", "--json"], inventory.NPM_LOCK.parent))


def of_pip_audit(code: int, out: str, err: str) -> list[Finding]:
    """It ends with 1 for findings, and for whatever goes wrong, without a document then."""
    read = document(out)
    if code not in (0, 1) or "dependencies" not in read:
        raise Unavailable(last_line(err) or f"pip-audit ended with {code}")
    return [
        Finding(
            package["name"],
            package["version"],
            frozenset({found["id"], *found.get("aliases", ())}),
            ", ".join(found["fix_versions"]),
        )
        for package in read["dependencies"]
        for found in package.get("vulns", ())
    ]


def of_npm(code: int, out: str, err: str) -> list[Finding]:
    """`error` and `message` are of a registry that does not answer; each `via` that is a table is an advisory."""
    read = document(out)
    if code not in (0, 1) or "vulnerabilities" not in read:
        raise Unavailable(str(read.get("message") or last_line(err) or f"npm audit ended with {code}"))
    return [
        Finding(
            name,
            entry.get("range", ""),
            frozenset({str(via["source"]), via["url"].rpartition("/")[2]}),
            "a newer version" if entry.get("fixAvailable") else "",
        )
        for name, entry in read["vulnerabilities"].items()
        for via in entry["via"]
        if isinstance(via, dict)
    ]


def ran(command: list[str], folder: Path = inventory.ROOT) -> tuple[int, str, str]:
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"no answer within {TIMEOUT_S} s") from None
    return ended.returncode, ended.stdout, ended.stderr


def document(out: str) -> dict[str, Any]:
    try:
        read = json.loads(out)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


if __name__ == "__main__":
    sys.exit(main())
