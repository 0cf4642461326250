"""What tools/install-peers does where it may not install, and what its package lock may say."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.peers import HERE

SCRIPT = HERE.parents[1] / "tools" / "install-peers"
TOOLS = ("bash", "cat", "cut", "dirname", "find", "id", "mktemp", "rm", "sed", "sha256sum", "sort", "tail", "env")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A copy of what the script looks at, and a `bin` that has no Python, Node.js or Java, nor a package manager."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None, tool
        (tmp_path / "bin" / tool).symlink_to(found)
    (tmp_path / "tools").mkdir()
    shutil.copy(SCRIPT, tmp_path / "tools")
    ignored = shutil.ignore_patterns("node_modules", "target", "__pycache__")
    shutil.copytree(HERE, tmp_path / "tests" / "interop", ignore=ignored)
    return tmp_path


def _run(bare: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    environ["PATH"] = str(bare / "bin")
    command = [bare / "tools" / "install-peers"]
    return subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=30)


def test_what_is_left_out_is_named_with_its_reason(bare: Path) -> None:
    done = _run(bare)
    assert done.returncode == 0, done.stderr
    # Mosquitto is looked for where Debian has it, too.
    assert [line for line in done.stdout.splitlines() if "mosquitto" not in line] == [
        "left out: amqtt-0.12.1 (Python is not installed)",
        "left out: rsocket-js-0.0.27 (Node.js and npm are not installed)",
        "left out: rsocket-js-1.0.0-alpha.3 (Node.js and npm are not installed)",
        "left out: gateway-client (Node.js and npm are not installed)",
        "left out: aedes-1.2.0 (Node.js and npm are not installed)",
        "left out: rsocket-java-1.1.5 (a JDK and Maven are not installed)",
        "left out: prometheus (Prometheus is not installed)",
        "left out: chromium (Chromium is not installed)",
        "left out: playwright-1.65.2 (there is no .venv; make setup)",
        "left out: axe-core-4.14.1 (npm is not installed)",
    ]
    assert "rsocket-java-1.1.5 a JDK" in (bare / "tests" / "interop" / ".left-out").read_text()


def test_ci_takes_no_peer_left_out(bare: Path) -> None:
    assert _run(bare, CI="true").returncode == 1


def test_the_package_lock_names_no_host() -> None:
    lock = json.loads((HERE / "js" / "package-lock.json").read_text())
    packages = [entry for name, entry in lock["packages"].items() if name.startswith("node_modules/")]
    assert [entry["resolved"] for entry in packages if "://" in entry.get("resolved", "")] == []
    assert all("integrity" in entry for entry in packages if not entry.get("link"))
