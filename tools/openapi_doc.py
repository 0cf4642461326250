"""Write the admin API's description from its code: as OpenAPI, which the program serves, and as Markdown.

With --check: only say whether both are current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gateway.admin.application import application, document
from gateway.admin.reference import reference

ROOT = Path(__file__).parents[1]


def pages() -> dict[Path, str]:
    """The files with what they must hold."""
    description = document(application())
    return {
        ROOT / "gateway" / "admin" / "openapi.json": json.dumps(description, indent=1, ensure_ascii=False) + "\n",
        ROOT / "docs" / "admin-reference.md": reference(description),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        if sys.argv[1:] != ["--check"]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path} is not current: run {sys.argv[0]}")
