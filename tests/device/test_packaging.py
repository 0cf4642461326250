"""The SDK as it is published: `mip` installs it on a MicroPython, pip on a CPython, and a folder is a device."""

from __future__ import annotations

import functools
import json
import re
import runpy
import shlex
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Shell, environment
from tests.cli.test_docs import commands, options
from tests.conftest import StartNode
from tests.device.boards import REBOOT, Board
from tests.device.conftest import micropython_compiled, require
from tests.device.interpreters import FIRMWARE, REPOSITORY, SDK
from tests.device.test_node import registered
from tests.local_node import LocalNode

TOOL = runpy.run_path(str(REPOSITORY / "tools" / "sdk_package.py"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and the address at which a web server has it."""
    directory = tmp_path / "served"
    directory.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield directory, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def ran(*command: object, cwd: Path) -> str:
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, check=False, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("form", ["py", "mpy"])
def test_mip_installs_it(form: str, compiled: Path, served: tuple[Path, str], tmp_path: Path) -> None:
    """Every file that a package.json names is there, and what is installed can be imported."""
    directory, url = served
    files = directory / ("mpy" if form == "mpy" else "")
    files.mkdir(exist_ok=True)
    for path in SDK.glob("*.py") if form == "py" else (compiled / "device_sdk").glob("*.mpy"):
        (files / path.name).write_bytes(path.read_bytes())
    (files / "package.json").write_bytes((SDK / ("mpy" if form == "mpy" else "") / "package.json").read_bytes())
    micropython = require("micropython")
    address = f"{url}/mpy/package.json" if form == "mpy" else f"{url}/package.json"
    ran(micropython, "-m", "mip", "install", "--target", "lib", address, cwd=tmp_path)
    installed = {path.stem for path in (tmp_path / "lib" / "device_sdk").glob(f"*.{form}")}
    assert installed == {path.stem for path in SDK.glob("*.py")} - {"cpython"}
    program = (
        "import sys; sys.path[:] = ['lib', '.frozen']; import device_sdk.supervise, device_sdk.provision; print('in')"
    )
    assert ran(micropython, "-X", "heapsize=96k", "-c", program, cwd=tmp_path) == "in\n"


@pytest.mark.soak
def test_the_wheel(tmp_path: Path) -> None:
    """Pure Python, built and installed without an index; alone in its environment."""
    TOOL["publish"](tmp_path / "dist")
    (wheel,) = (tmp_path / "dist").glob("*-py3-none-any.whl")
    ran(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    ran(*pip, "install", "--no-index", "--no-deps", wheel, cwd=tmp_path)
    where = ran(python, "-c", "import device_sdk.outbox, device_sdk.provision as it; print(it.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
    published = {path.relative_to(tmp_path / "dist" / "device_sdk") for path in (tmp_path / "dist").rglob("*.*py")}
    named = {
        path.parent.relative_to(SDK) / file
        for path, text in TOOL["pages"]().items()
        for _, file in json.loads(text)["urls"]
    }
    assert published == named


def test_the_manifest_names_what_is_there() -> None:
    frozen: list[Path] = []
    directory = FIRMWARE

    def found(name: str, base_path: str = ".", opt: int = 0) -> None:
        frozen.append((directory / base_path / name).resolve(strict=True))

    names = {"include": lambda path: None, "package": found, "module": found}
    exec((directory / "manifest.py").read_text(), names)
    assert frozen[0] == SDK
    assert {path.parent for path in frozen[1:]} == {SDK, FIRMWARE / "appliance"}


@pytest.fixture
async def node(start_node: StartNode) -> LocalNode:
    return await start_node({"admin.listen": "127.0.0.1:0", "admin.insecure": True}, dev=False)


@pytest.fixture
async def boards() -> AsyncIterator[list[Board]]:
    """Those that the test has switched on."""
    made: list[Board] = []
    yield made
    for board in made:
        await board.off()


async def folder(node: LocalNode, tmp_path: Path, *options: str) -> Path:
    out = tmp_path / "folder"
    data = str(node.node.config.node.data)
    words = ("device", "sdk", "--data", data, "--out", str(out), *options)
    result = await Shell(environment(tmp_path)).run(*words)
    assert result.code == 0, result.err
    again = await Shell(environment(tmp_path)).run(*words)
    assert again.code == 2
    return out


async def test_a_folder_with_a_line(node: LocalNode, compiled: Path, tmp_path: Path, boards: list[Board]) -> None:
    """The first boot makes it a device; the second one is that device."""
    out = await folder(node, tmp_path, "--board", "esp32", "--source", "--wifi", "home")
    assert {path.suffix for path in (out / "device_sdk").iterdir()} == {".py"}
    boards.append(Board(micropython_compiled(out, "192k"), out / "main.py", out, tmp_path / "world", bare=True))
    await boards[0].boot()
    assert await boards[0].ended() == REBOOT
    await boards[0].boot()
    await registered(node, json.loads((out / "device.json").read_text())["device_id"])


def test_the_commands_of_the_first_device() -> None:
    """docs/device/first-device.md: each command and option is one that there is."""
    page = (REPOSITORY / "docs" / "device" / "first-device.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines() if line.startswith("gateway ")]
    assert len(lines) >= 6
    known = commands()
    for line in lines:
        _, *words = shlex.split(line, comments=True)
        named = [name for name in (" ".join(words[:2]), words[0]) if name in known]
        assert named, line
        assert {word for word in words if word.startswith("--")} <= options(known[named[0]]), line


async def test_a_folder_with_a_credential(node: LocalNode, compiled: Path, tmp_path: Path, boards: list[Board]) -> None:
    """Compiled, over TLS, with the authority that the node has; it is the device that was asked for, and goes to the
    next version by the commands that an operator types."""
    out = await folder(node, tmp_path, "--board", "pico_w", "--device", "pump", "--wifi", "home", "--ttl", "4s")
    assert {path.suffix for path in (out / "device_sdk").iterdir()} == {".mpy"}
    assert (out / "device.json").stat().st_mode & 0o777 == 0o600
    kept = json.loads((out / "device.json").read_text())
    assert kept.keys() == {"wifi", "url", "device_id", "token", "secret", "ca"}
    boards.append(Board(micropython_compiled(out, "160k"), out / "main.py", out, tmp_path / "world", bare=True))
    await boards[0].boot()
    await registered(node, "pump")
    assert boards[0].did("station") == "home "
    # A token of seconds: it has asked for another, with its secret where it was too late, and kept it.
    await boards[0].until(lambda: json.loads((out / "device.json").read_text())["token"] != kept["token"])
    shell, data = Shell(environment(tmp_path)), ("--data", str(node.node.config.node.data))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "app.py").write_text((out / "app_a" / "app.py").read_text().replace('"1.0.0"', '"1.1.0"'))
    ran("tar", "--format=ustar", "-C", "new", "-cf", "app.tar", ".", cwd=tmp_path)
    image = str(tmp_path / "app.tar")
    added = await shell.run(
        "firmware", "add", image, "--board", "pico_w_relay", "--version", "1.1.0", *data, "-o", "json"
    )
    assert added.code == 0, added.err
    begun = await shell.run("rollout", "start", json.loads(added.out)["id"], "--yes", *data, "-o", "json")
    assert begun.code == 0, begun.err
    assert await boards[0].ended() == REBOOT
    await boards[0].boot()
    state = out / "ota.json"
    await boards[0].until(lambda: json.loads(state.read_text())["state"] == "confirmed")
    assert '"1.1.0"' in (out / "app_b" / "app.py").read_text()
