"""List the numbered rules that no test names.

    python tools/rules.py [--rules tests/rules.txt] [--tests tests]

A test names a rule by writing its id (P34, X03) in a docstring or comment, or in its own name (`test_p34_…`). A fault
is named in words, alone or with others: "fault 12", "Faults 8, 9 and 13". Ranges are not expanded: "P20-P24" names P20
and P24, "faults 41 to 45" names two. A rule marked `later` belongs to a feature that the product does not have yet and
may stay unnamed. Exits 1 when any other rule is unnamed, 2 when the list itself is wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

_RULE = re.compile(r"(?P<id>[PX]\d\d|fault [1-9]\d{0,2})(?P<later> later)?: (?P<summary>\S.*)")
_NAMED = re.compile(r"\b[PX]\d\d\b")
_FAULTS = re.compile(r"\b[Ff]aults? (?P<numbers>\d+(?:(?:, and|,|\s+and|\s+to)\s+\d+\b)*)")
_IDENTIFIER = re.compile(r"^\s*(?:async )?(?:def|class) (?P<name>[Tt]est\w*)", re.MULTILINE)
_NAMED_IN_IDENTIFIER = re.compile(r"(?:_|^Test)(?P<id>[pPxX]\d\d)(?![0-9a-z])")

_INSTALLED = {"node_modules", "target"}


class Rule(NamedTuple):
    id: str
    later: bool
    summary: str


def read_rules(text: str) -> list[Rule]:
    """One rule a line: `P34: summary`, `P50 later: summary`, `fault 12: summary`; `#` starts a comment.

    Raises ValueError.
    """
    rules: dict[str, Rule] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _RULE.fullmatch(line.rstrip())
        if match is None:
            raise ValueError(
                f"line {number} is not `P34: summary`, `P50 later: summary` or `fault 12: summary`: {line}"
            )
        rule = Rule(match["id"], match["later"] is not None, match["summary"])
        if rule.id in rules:
            raise ValueError(f"line {number} lists {rule.id} again")
        rules[rule.id] = rule
    return list(rules.values())


def named_in(source: str) -> set[str]:
    """The ids that the text of a test file names."""
    in_identifiers = (
        match["id"].upper() for name in _IDENTIFIER.findall(source) for match in _NAMED_IN_IDENTIFIER.finditer(name)
    )
    faults = (number for match in _FAULTS.finditer(source) for number in re.findall(r"\d+", match["numbers"]))
    return {*_NAMED.findall(source), *in_identifiers, *(f"fault {number}" for number in faults)}


def report(rules: Iterable[Rule], named: set[str]) -> tuple[list[str], bool]:
    """The lines to print, and whether every rule that is due is named."""
    missing = [rule for rule in rules if rule.id not in named]
    due = [rule for rule in missing if not rule.later]
    lines = [f"{rule.id}{' (later)' if rule.later else ''}: {rule.summary}" for rule in missing]
    return lines, not due


def main() -> int:
    parser = argparse.ArgumentParser(description="List the numbered rules that no test names.")
    parser.add_argument("--rules", type=Path, default=ROOT / "tests/rules.txt")
    parser.add_argument("--tests", type=Path, default=ROOT / "tests")
    arguments = parser.parse_args()
    try:
        rules = read_rules(arguments.rules.read_text())
    except (OSError, ValueError) as error:
        print(f"{arguments.rules}: {error}", file=sys.stderr)
        return 2
    named: set[str] = set()
    for path in arguments.tests.rglob("*.py"):
        if _INSTALLED.isdisjoint(path.parts):
            named |= named_in(path.read_text())
    lines, complete = report(rules, named)
    if lines:
        print("Rules that no test names:", *lines, sep="\n  ")
    print(f"{len(rules)} rules, {len(rules) - len(lines)} named by tests")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
