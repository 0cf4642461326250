"""Which licences may be shipped, and that docs/licences.md names each work."""

from __future__ import annotations

import inventory
import licences_doc
import pytest


@pytest.mark.parametrize(
    "expression",
    [
        "MIT",
        "EPL-2.0 OR BSD-3-Clause",
        "Apache-2.0 AND BSD-2-Clause",
        "(GPL-2.0-only OR MIT) AND (ISC)",
        "MIT OR (X AND Y)",
    ],
)
def test_allowed(expression: str) -> None:
    assert licences_doc.allowed(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "GPL-3.0-only",
        "MIT AND AGPL-3.0-only",
        "MIT)",
        "(MIT",
        "MIT MIT",
        "MIT WITH nothing",
        "GPL-2.0-only OR (MIT AND X)",
    ],
)
def test_not_allowed(expression: str) -> None:
    assert not licences_doc.allowed(expression)


def test_all_that_is_shipped_is_allowed_and_in_the_page() -> None:
    page = licences_doc.PAGE.read_text()
    assert [name for name, licence in licences_doc.shipped() if not licences_doc.allowed(licence)] == []
    for name, record in inventory.records().items():
        assert f"| {name} | {record.version} | {record.licence} |" in page
    for library in inventory.libraries():
        assert f"| {library.name} | {library.version} |" in page


def test_the_texts_of_the_dashboards_libraries_go_along() -> None:
    texts = (inventory.VENDORED.parent / "LICENSES.txt").read_text()
    for library in inventory.libraries():
        assert f"{library.name} {library.version}\n" in texts
