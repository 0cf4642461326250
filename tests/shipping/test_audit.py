"""`make audit`: a finding, none, and a database that does not answer are three things."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import audit
import pytest

TODAY = date(2026, 11, 24)
KNOWN = audit.Finding("Some_Package", "1.0", frozenset({"GHSA-aaaa", "CVE-2026-1"}), "1.1")


def nothing() -> Iterable[audit.Finding]:
    return []


def unreachable() -> Iterable[audit.Finding]:
    raise audit.Unavailable("no route to host")


def excuse(until: date, package: str = "some-package") -> audit.Excuse:
    return audit.Excuse("CVE-2026-1", package, until, "never called")


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.judged({"a": nothing}, [], TODAY) == 0
    assert audit.judged({"a": lambda: [KNOWN], "b": unreachable}, [], TODAY) == 1
    assert audit.judged({"a": unreachable, "b": nothing}, [], TODAY) == 75
    said = capsys.readouterr()
    assert "a: Some_Package 1.0: CVE-2026-1, GHSA-aaaa; fixed in 1.1" in said.err
    assert "a: NOT CHECKED: no route to host" in said.err
    assert "b: 0 known vulnerabilities, 0 excused" in said.out


def test_an_excuse_holds_for_its_package_until_its_day(capsys: pytest.CaptureFixture[str]) -> None:
    ask = {"a": lambda: [KNOWN]}
    assert audit.judged(ask, [excuse(date(2026, 12, 1))], TODAY) == 0
    assert audit.judged(ask, [excuse(date(2026, 12, 1), package="another")], TODAY) == 1
    assert audit.judged({"a": nothing}, [excuse(TODAY)], TODAY) == 1
    assert "CVE-2026-1 was excused until 2026-11-24: never called" in capsys.readouterr().err


def test_the_list_as_it_is() -> None:
    assert all(entry.reason for entry in audit.excuses(audit.IGNORED))


@pytest.mark.parametrize(
    "entry", ['id = "X"\npackage = "y"\nuntil = 2026-12-01', 'id = "X"\npackage = "y"\nuntil = "soon"\nreason = "z"']
)
def test_an_excuse_without_a_reason_or_a_day_is_refused(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "ignore.toml"
    path.write_text(f"[[ignore]]\n{entry}\n")
    with pytest.raises(SystemExit, match="has id, package, until"):
        audit.excuses(path)


def test_what_pip_audit_says() -> None:
    vulnerable = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"], "description": ""}
    out = json.dumps(
        {"dependencies": [{"name": "p", "version": "1", "vulns": [vulnerable]}, {"name": "q", "version": "1"}]}
    )
    (found,) = audit.of_pip_audit(1, out, "Found 1 known vulnerability")
    assert found == audit.Finding("p", "1", frozenset({"PYSEC-1", "CVE-2026-1"}), "2.0")
    with pytest.raises(audit.Unavailable, match="Dependency not found on PyPI"):
        audit.of_pip_audit(1, "", "ERROR:pip_audit._cli:p: Dependency not found on PyPI\n")


def test_what_npm_says() -> None:
    advisory = {"source": 7, "url": "https://github.com/advisories/GHSA-1", "title": "…"}
    entry = {"range": "<2", "via": [advisory, "another"], "fixAvailable": True}
    (found,) = audit.of_npm(1, json.dumps({"vulnerabilities": {"preact": entry}}), "")
    assert found == audit.Finding("preact", "<2", frozenset({"7", "GHSA-1"}), "a newer version")
    with pytest.raises(audit.Unavailable, match="405 Method Not Allowed"):
        audit.of_npm(1, json.dumps({"message": "405 Method Not Allowed", "error": {}}), "npm error")


def test_a_program_that_is_not_there_is_no_finding() -> None:
    with pytest.raises(audit.Unavailable, match="no-such-program is not installed"):
        audit.ran(["no-such-program"])
