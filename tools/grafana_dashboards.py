"""Write deploy/grafana/dashboards/*.json from tools/grafana/*.yaml. With --check: only say whether they are current."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana.reading import dashboard

FOLDER = Path(__file__).parents[1] / "deploy/grafana/dashboards"
SOURCES = Path(__file__).parent / "grafana"


def main() -> int:
    stale = []
    for source in sorted(SOURCES.glob("*.yaml")):
        path = FOLDER / f"{source.stem}.json"
        text = json.dumps(dashboard(source).document(), indent=2, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        print(f"{', '.join(stale)}: not current; run python tools/grafana_dashboards.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
