"""Write deploy/grafana/dashboards/*.json. With --check: only say whether they are current."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana.federation import FEDERATION
from grafana.fleet import FLEET
from grafana.mqtt import MQTT
from grafana.node import NODE

FOLDER = Path(__file__).parents[1] / "deploy/grafana/dashboards"
DASHBOARDS = {"fleet": FLEET, "node": NODE, "federation": FEDERATION, "mqtt": MQTT}


def main() -> int:
    stale = []
    for name, dashboard in DASHBOARDS.items():
        path = FOLDER / f"{name}.json"
        text = json.dumps(dashboard.document(), indent=2, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        print(f"{', '.join(stale)}: not current; run python tools/grafana_dashboards.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
