"""The script that lists unnamed rules, on trees of its own. The ids here are none of the real ones, so that this file
does not name a rule that it does not hold.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULES = """\
# Comment

P91: first things first
P92 later: leases
X91: extensions
"""


def run(tmp_path: Path, rules: str, **files: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "rules.txt").write_text(rules)
    tests = tmp_path / "tests"
    tests.mkdir()
    for name, source in files.items():
        path = tests / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return subprocess.run(
        [sys.executable, ROOT / "tools/rules.py", "--rules", tmp_path / "rules.txt", "--tests", tests],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_rule_that_no_test_names_fails(tmp_path: Path) -> None:
    result = run(tmp_path, RULES, test_a='"""P91: holds."""\n', wire__test_b='"""P92."""\n')
    assert result.returncode == 1
    assert result.stdout == "Rules that no test names:\n  X91: extensions\n3 rules, 2 named by tests\n"


def test_a_later_rule_is_listed_and_does_not_fail(tmp_path: Path) -> None:
    result = run(tmp_path, RULES, test_a="# P91\n", wire__test_b="# X91\n")
    assert result.returncode == 0
    assert result.stdout == "Rules that no test names:\n  P92 (later): leases\n3 rules, 2 named by tests\n"


def test_all_named(tmp_path: Path) -> None:
    result = run(tmp_path, RULES, test_a='"""P91, P92 and X91."""\n')
    assert (result.returncode, result.stdout) == (0, "3 rules, 3 named by tests\n")


@pytest.mark.parametrize(
    "source",
    [
        '"""P91: text."""',
        "# (P91)",
        'RULE = "P91"',
        "def test_p91_first_frame(): ...",
        "async def test_first_frame_p91(): ...",
        "class TestP91: ...",
        "class TestP91FirstFrame:\n    pass",
        "class TestFirstFrame:\n    async def test_p91(self): ...",
        '"""P91-P95: a range names its ends."""',
    ],
)
def test_what_names_a_rule(tmp_path: Path, source: str) -> None:
    result = run(tmp_path, "P91: first\n", test_a=source)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "source",
    [
        '"""Fault 91: text."""',
        "# faults 90 and 91",
        '"""P1, faults 8, 91, 92: text."""',
        '"""Faults 89, 90,\n    91: text."""',
        "# fault 91, and 2 more",
        "# faults 8, 102 and 91",
        "# Faults 91 to 95",
    ],
)
def test_what_names_a_fault(tmp_path: Path, source: str) -> None:
    assert run(tmp_path, "fault 91: first\n", test_a=source).returncode == 0


@pytest.mark.parametrize(
    "source", ["# default 91", "# fault 910", "# fault 9, 1", "# faults 90 to 95", "# 91 faults", "fault_91 = 1"]
)
def test_what_names_no_fault(tmp_path: Path, source: str) -> None:
    assert run(tmp_path, "fault 91: first\n", test_a=source).returncode == 1


@pytest.mark.parametrize(
    "source",
    [
        "",
        '"""P911 and XP91 and p91."""',
        '"""P90-P95: ranges are not expanded."""',
        "value_p91 = 1",
        "def make_p91(): ...",
        "def test_p911(): ...",
        'data = b"\\x91"',
    ],
)
def test_what_does_not(tmp_path: Path, source: str) -> None:
    assert run(tmp_path, "P91: first\n", test_a=source).returncode == 1
    (tmp_path / "x").mkdir()
    assert run(tmp_path / "x", "X91: first\n", test_a=source).returncode == 1


def test_a_fault_of_three_digits(tmp_path: Path) -> None:
    assert run(tmp_path, "fault 910: first\n", test_a="# fault 910").returncode == 0


@pytest.mark.parametrize("source", ["# fault 91", "# fault 9101"])
def test_what_names_no_fault_of_three_digits(tmp_path: Path, source: str) -> None:
    assert run(tmp_path, "fault 910: first\n", test_a=source).returncode == 1


def test_what_was_installed_under_the_tests_is_not_read(tmp_path: Path) -> None:
    result = run(tmp_path, "P91: first\n", interop__js__node_modules__gyp="# P91\n")
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ("P91: first\nP91: again\n", "line 2 lists P91 again"),
        ("P9: first\n", "line 1 is not"),
        ("P91 sometimes: first\n", "line 1 is not"),
        ("P91:\n", "line 1 is not"),
        ("fault 0: first\n", "line 1 is not"),
        ("fault 1000: first\n", "line 1 is not"),
        ("faults 91: first\n", "line 1 is not"),
    ],
)
def test_a_wrong_list_is_an_error(tmp_path: Path, rules: str, complaint: str) -> None:
    result = run(tmp_path, rules)
    assert result.returncode == 2
    assert complaint in result.stderr


def test_the_real_list_is_well_formed_and_whole() -> None:
    """Ids are in order, and nothing is for later."""
    lines = [line for line in (ROOT / "tests/rules.txt").read_text().splitlines() if line and not line.startswith("#")]
    faults = [line for line in lines if line.startswith("fault ")]
    numbers = [int(line.partition(":")[0].removeprefix("fault ")) for line in faults]
    assert numbers == sorted(set(numbers))
    assert {*range(1, 78), *range(97, 103)} <= set(numbers)
    ids = [line[:3] for line in lines if line not in faults]
    assert ids == sorted(ids)
    by_tens = {"P0": 9, "P1": 3, "P2": 5, "P3": 7, "P4": 4, "P5": 7, "X0": 6}
    assert {tens: sum(rule.startswith(tens) for rule in ids) for tens in by_tens} == by_tens
    assert not [line for line in lines if re.match(r"[\w ]+ later:", line)]
