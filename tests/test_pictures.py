"""The pictures of the documentation: each that is named is there, none lies about, none is large.

`tools/screenshots` takes them.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 200 * 1024
NAMED = re.compile(r"""(?:!\[[^\]]+\]\(|<img src=")([^)"]+)""")


def test_each_picture_is_there_and_in_use() -> None:
    named = {
        (page.parent / name).resolve()
        for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        for name in NAMED.findall(page.read_text("utf-8"))
    }
    assert named == set(IMAGES.iterdir())


def test_no_picture_is_large() -> None:
    assert [path.name for path in IMAGES.iterdir() if path.stat().st_size > MOST_BYTES] == []
