"""Pages of the project: each link to a file or a heading leads somewhere, each page is in the index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    {*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "bench" / "README.md", *(ROOT / "device_sdk").glob("*.md")},
)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")


@cache
def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S | re.M)


@cache
def anchors(page: Path) -> set[str]:
    """Of each heading the name under which it can be linked to, as GitHub makes it."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.S | re.M)
    for heading in re.findall(r"^#{1,6} (.*)$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found.add(name if name not in found else f"{name}-1")
    return found


def broken(page: Path) -> Iterator[str]:
    for link in LINK.findall(without_code(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{link}: there is no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{link}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken(page)) == []


def test_each_page_is_in_the_index() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(without_code(index))}
    pages = {page for page in DOCS.rglob("*.md") if "adr" not in page.relative_to(DOCS).parts and page != index}
    assert sorted(str(page.relative_to(DOCS)) for page in pages - linked) == []


def test_what_the_threat_model_says_is_held_by_tests_that_are_there() -> None:
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)`", (DOCS / "threat-model.md").read_text("utf-8"))
    assert len(named) > 40
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
