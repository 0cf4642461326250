"""Whether the installed product is whole: its hot path is compiled, its files are there, and a node becomes healthy.

Run by the Python that it is installed in, from anywhere: python -I tools/wheel_smoke.py. Needs nothing but the product.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import resources
from pathlib import Path

FILES = (
    "py.typed",
    "admin/openapi.json",
    "admin/dashboard/index.html",
    "admin/dashboard/vendor/LICENSES.txt",
    "control/migrations/0001_control_plane.sql",
    "spool/migrations/0001_spool.sql",
)
HEALTHY_S = 60.0
GATEWAY = Path(sysconfig.get_path("scripts")) / "gateway"


def files() -> list[str]:
    """What is not there of the files that are no modules."""
    product = resources.files("gateway")
    return [name for name in FILES if not product.joinpath(name).is_file()]


def serve() -> int:
    """Run a node until its own health check says that it is healthy, then end it in order. Its exit code."""
    with tempfile.TemporaryDirectory() as data:
        ports = {"LISTEN__WEBSOCKET": "127.0.0.1:0", "LISTEN__TCP": "127.0.0.1:0", "ADMIN__LISTEN": "127.0.0.1:0"}
        environ = os.environ | {f"GATEWAY__{name}": value for name, value in ports.items()}
        with subprocess.Popen([GATEWAY, "run", "--data", data], env=environ) as node:
            deadline = time.monotonic() + HEALTHY_S
            asked = [GATEWAY, "healthcheck", "--data", data]
            while subprocess.run(asked, capture_output=True, check=False).returncode != 0:
                if node.poll() is not None or time.monotonic() > deadline:
                    node.kill()
                    return node.wait() or 1
                time.sleep(0.1)
            node.send_signal(signal.SIGTERM)
            return node.wait(HEALTHY_S)


def main() -> int:
    said = subprocess.run([GATEWAY, "version", "-o", "json"], capture_output=True, text=True, check=True).stdout
    version = json.loads(said)
    wrong = [f"is missing: {name}" for name in files()]
    if version["hot_path"] != "compiled":
        wrong.append(f"the hot path is {version['hot_path']}")
    for name in ("device_sdk.device", "gateway.client"):
        importlib.import_module(name)
    code = serve()
    if code != 0:
        wrong.append(f"the node ended with {code}")
    for line in wrong:
        print(f"wheel_smoke: {line}", file=sys.stderr)
    if not wrong:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(f"gateway {version['version']} on Python {python}: compiled, its files are there, a node became healthy")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
