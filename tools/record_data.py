"""Record a data directory of this version for tests/upgrade: `record_data.py [--sources DIR] [--out DIR]`.

Each release adds its own, so that every later version is tried on it. A node of the sources in DIR (this checkout, or
one of an earlier commit) runs as a process and is given a bit of everything over its command line; then it is stopped,
and its directory packed as `<schema of the control database>-<of the spool>.tar.gz`: `data/`, `settings.toml` with
every setting of that version at its default, and `recorded.json` with what a test has to know.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = ROOT / "tests" / "upgrade" / "data"
MESSAGES = 5
SPOOL = "kind: Spool\nname: telemetry\nmatch: [{service: historian}]\nmaxAge: 3650d\n"
SETTINGS = "import json; from gateway.config import Config; print(json.dumps(Config().model_dump(mode='json')))"
STARTING_S = 60.0


class Sources:
    """The command line of one source tree, on one data directory."""

    def __init__(self, tree: Path, place: Path) -> None:
        self.tree = tree
        self.data = place / "data"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
        listeners = {f"GATEWAY__LISTEN__{name}": "127.0.0.1:0" for name in ("WEBSOCKET", "TCP")}
        self.environ = {
            **kept,
            **listeners,
            "HOME": str(place),
            "PYTHONPATH": str(tree),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GATEWAY_DATA": str(self.data),
            "GATEWAY__NODE__NAME": "edge-1",
            "GATEWAY__ADMIN__LISTEN": "127.0.0.1:0",
            "GATEWAY__TELEMETRY__LISTEN": "",
        }

    def python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.tree, env=self.environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def __call__(self, *arguments: str) -> str:
        return self.python("-m", "gateway.cli", *arguments)

    def document(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--output", "json"))

    def start(self) -> subprocess.Popen[bytes]:
        node = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "run", "--dev"],
            cwd=self.tree,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + STARTING_S
        while not (self.data / "runtime.json").exists():
            if node.poll() is not None or time.monotonic() > deadline:
                sys.exit("the node has not started")
            time.sleep(0.1)
        return node


def settings_file(sources: Sources) -> str:
    """Every setting of that version, at its default, as TOML; where it is and what it is called are left out."""
    values = json.loads(sources.python("-c", SETTINGS))
    for name in ("data", "name"):
        values["node"].pop(name)
    lines: list[str] = []

    def table(path: tuple[str, ...], found: dict[str, Any]) -> None:
        said = {name: value for name, value in found.items() if value is not None and not isinstance(value, dict)}
        if said:
            lines.append(f"[{'.'.join(path)}]")
            lines.extend(f"{name} = {json.dumps(value)}" for name, value in said.items())
        for name, value in found.items():
            if isinstance(value, dict):
                table((*path, name), value)

    table((), values)
    return "\n".join(lines) + "\n"


def fill(sources: Sources, place: Path, schema: int) -> dict[str, Any]:
    """Give the node a bit of everything that its version knows; return what a test has to know of it."""
    added = (
        "device",
        "add",
        "thermostat-1",
        "--profile",
        "thermostat",
        "--label",
        "floor=1",
        "--ttl",
        "24h",
        "--force",
    )
    recorded: dict[str, Any] = {
        "device": "thermostat-1",
        "token": json.loads(sources(*added, "--json"))["credential"]["token"],
    }
    sources("device", "add", "lost-1", "--force", "--json")
    sources("device", "disable", "lost-1", "--yes")
    recorded["user"] = "operator-1"
    sources("user", "add", "operator-1", "--role", "operator", "--scope", "all")
    key = sources.document("key", "create", "ci", "--role", "viewer", "--scope", "all")
    recorded["key"] = next(value for value in key.values() if isinstance(value, str) and value.startswith("gk_"))
    if schema >= 2:
        (place / "spool.yaml").write_text(SPOOL)
        sources("apply", "--file", str(place / "spool.yaml"), "--yes")
        for number in range(MESSAGES):
            sources("fnf", "historian.write", str(number))
    if schema >= 5:
        (place / "config.json").write_text('{"report_s": 30}')
        sources("device", "config", "set", "thermostat-1", "--file", str(place / "config.json"), "--yes")
    if schema >= 6:
        (place / "image").write_bytes(b"an image of a board's application")
        sources("firmware", "add", str(place / "image"), "--board", "esp32", "--version", "1.0.0")
    recorded["messages"] = MESSAGES if schema >= 2 else 0
    sources("config", "set", "limits.drain_grace_s", "3", "--yes")
    sources("backup", "create")
    return recorded


def version_of(database: Path) -> int:
    """Of what schema it is; 0 where it is not there."""
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def record(tree: Path, out: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="record-") as directory:
        place = Path(directory)
        sources = Sources(tree, place)
        settings = settings_file(sources)
        node = sources.start()
        try:
            schema = version_of(sources.data / "gateway.db")
            recorded = fill(sources, place, schema)
        finally:
            node.send_signal(signal.SIGTERM)
            node.wait(60)
        recorded |= {"at": time.time(), "control": schema, "spool": version_of(sources.data / "spool.sqlite3")}
        recorded["node"] = (sources.data / "identity" / "node-id").read_text().strip()
        (place / "settings.toml").write_text(settings)
        (place / "recorded.json").write_text(json.dumps(recorded, indent=1) + "\n")
        shutil.rmtree(sources.data / "flows", ignore_errors=True)
        packed = out / f"{recorded['control']}-{recorded['spool']}.tar.gz"
        out.mkdir(parents=True, exist_ok=True)
        with tarfile.open(packed, "w:gz") as archive:
            for name in ("recorded.json", "settings.toml", "data"):
                archive.add(place / name, name, filter=_nobody)
        return packed


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, default=ROOT, help="a source tree; this one unless named")
    parser.add_argument("--out", type=Path, default=OUT, help="where the archive goes")
    arguments = parser.parse_args()
    packed = record(arguments.sources.absolute(), arguments.out)
    print(f"{packed}: {packed.stat().st_size} bytes")


if __name__ == "__main__":
    main()
