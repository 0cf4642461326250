"""Write the JSON Schema of all kinds of document, docs/schema/documents.json, from their models.

With --check: only say whether it is current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gateway.documents.schema import schema_of_all

FILE = Path(__file__).parents[1] / "docs" / "schema" / "documents.json"


def text() -> str:
    """What the file must hold."""
    return json.dumps(schema_of_all(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(text())
    elif not FILE.exists() or FILE.read_text() != text():
        sys.exit(f"{FILE} is not current: run {sys.argv[0]}")
