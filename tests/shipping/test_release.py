"""`tools/release.py --check`: what is in the way of a release is said, each thing by itself."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path

import pytest
import release

TODAY = date(2026, 11, 24)
GOOD = "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-11-24)\n\n- A line.\n\n## 1.1.0 (2026-10-01)\n\n- Another.\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one commit, ready to be released as 1.2.0."""
    (tmp_path / "device_sdk").mkdir()
    (tmp_path / "device_sdk" / "package.json").write_text('{"version": "1.2.0"}')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndynamic = ["version"]\n')
    (tmp_path / "CHANGELOG.md").write_text(GOOD)
    run(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def run(tree: Path, *arguments: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null")
    subprocess.run(["git", *who, *arguments], cwd=tree, check=True, capture_output=True)


def commit(tree: Path) -> None:
    run(tree, "add", "--all")
    run(tree, "commit", "--quiet", "--message", "x")


def complaints(tree: Path, version: str = "1.2.0") -> list[str]:
    return [
        *release.of_versions(tree, version),
        *release.of_changelog(tree, version, TODAY),
        *release.of_tree(tree, version),
    ]


def test_nothing_in_the_way(tree: Path) -> None:
    assert complaints(tree) == []
    run(tree, "tag", "v1.2.0")
    assert complaints(tree) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("## Unreleased\n", "## Unreleased\n\n- New.\n", "has lines under Unreleased"),
        ("## Unreleased\n\n", "", "does not begin with `## Unreleased`"),
        ("1.2.0 (2026-11-24)", "1.2.0", "must say on which day"),
        ("1.2.0 (2026-11-24)", "1.2.0 (2026-11-25)", "must say on which day"),
        ("1.2.0 (2026-11-24)", "1.3.0 (2026-11-24)", "has 1.3.0 where 1.2.0 must be"),
        ("- A line.\n", "", "says nothing of 1.2.0"),
    ],
)
def test_the_changelog(tree: Path, old: str, new: str, said: str) -> None:
    (tree / "CHANGELOG.md").write_text(GOOD.replace(old, new, 1))
    commit(tree)
    (complaint,) = complaints(tree)
    assert said in complaint


def test_versions(tree: Path) -> None:
    said = complaints(tree, "1.2")
    assert "1.2 is no version of the form 1.2.3 or 1.2.3-rc.1" in said
    assert "device_sdk/package.json is of 1.2.0: tools/sdk_package.py" in said
    (tree / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.0"\n')
    commit(tree)
    assert complaints(tree) == ["pyproject.toml has a version of its own"]


def test_the_tree(tree: Path) -> None:
    run(tree, "tag", "v1.2.0")
    (tree / "more").write_text("x")
    assert complaints(tree) == ["the tree is not clean: git status"]
    commit(tree)
    (complaint,) = complaints(tree)
    assert "v1.2.0 is the tag of another commit" in complaint
