"""The offline bundle: a host is installed and upgraded from it alone, in containers and without, with networking off.

install.sh has a network namespace of its own without an interface that is up: it reaches the engine by its socket. The
engine pulls nothing, and the network of what it starts leads nowhere.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import __version__
from tests.e2e.deployment import CHECKED_EVERY_S, ROOT, Ended, eventually, ran, said, unused_port

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

#: Versions as of two releases. What they run is this tree's; the images differ by a label.
FIRST, SECOND = "0.0.1", "0.0.2"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PROJECT = f"gateway-e2e-{os.getpid()}-offline"
INTERNAL = "networks: {default: {internal: true}}\n"
#: A container has no systemd. This starts the unit's own command as its user; what systemd adds is in
#: tests/test_systemd_unit.py.
SYSTEMCTL = """#!/bin/sh
value() { sed -n "s/^$1=//p" /etc/systemd/system/gateway.service; }
case " $* " in
    *" is-active "*) kill -0 "$(cat /run/gateway.pid)" ;;
    *" restart "*)
        if [ -e /run/gateway.pid ]; then
            kill "$(cat /run/gateway.pid)"
            while [ -e "/proc/$(cat /run/gateway.pid)" ]; do sleep 0.1; done
        fi
        user=$(value User)
        install -d -m "$(value StateDirectoryMode)" -o "$user" -g "$user" /var/lib/gateway
        setpriv --reuid "$user" --regid "$user" --init-groups env $(value Environment) $(value ExecStart) \\
            >/run/log 2>&1 &
        echo $! >/run/gateway.pid
        ;;
esac
"""


@dataclass
class Host:
    """Where install.sh is run for containers, and what it finds there."""

    directory: Path
    environ: dict[str, str] = field(default_factory=dict)

    def install(self, bundle: Path) -> Ended:
        installer = ("unshare", "--net", str(bundle / "install.sh"), "--to", str(self.directory / "srv"))
        return ran(*installer, environ=self.environ)

    @property
    def edge(self) -> str:
        return f"{PROJECT}-edge-1"

    @property
    def image(self) -> str:
        return said("docker", "inspect", "--format", "{{.Config.Image}} {{.State.Health.Status}}", self.edge)

    def inside(self, *command: str) -> str:
        return said("docker", "exec", self.edge, *command)


def unpacked(bundle: Path, to: Path) -> Path:
    to.mkdir()
    said("tar", "-xf", str(bundle), "-C", str(to))
    (directory,) = to.iterdir()
    return directory


@pytest.fixture(scope="module")
def bundles(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Two, of which nothing but the files is left: the engine has forgotten the images."""
    base = tmp_path_factory.mktemp("bundles")
    # What `make build` made of this tree, and makes when it is older.
    said("make", "build", timeout=900)
    said(sys.executable, "tools/wheelhouse.py", "--python", PYTHON, "--out", str(base / "wheelhouse"))
    (base / "Dockerfile").write_text(f"FROM {image}\n")
    found = []
    for version in (FIRST, SECOND):
        built = f"{PROJECT}:{version}"
        said("docker", "build", "--quiet", "--label", f"offline={PROJECT}-{version}", "--tag", built, str(base))
        options = ("--version", version, "--image", built, "--wheelhouse", str(base / "wheelhouse"), "--level", "0")
        said(sys.executable, "tools/bundle.py", *options, "--out", str(base))
        said("docker", "image", "rm", built, f"gateway:{version}")
        (made,) = base.glob(f"gateway-{version}-*.tar")
        said("sh", "-c", f"cd {shlex.quote(str(base))} && sha256sum -c {made.name}.sha256")
        found.append(unpacked(made, base / version))
        made.unlink()
    yield found
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def host(bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("host")
    (directory / "internal.yaml").write_text(INTERNAL)
    environ = {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "COMPOSE_FILE": f"compose.yaml:{directory / 'internal.yaml'}",
        "GATEWAY_HEALTH_INTERVAL": f"{CHECKED_EVERY_S}s",
        **{f"GATEWAY_{name}_PORT": str(unused_port()) for name in ("WEBSOCKET", "TCP", "ADMIN")},
    }
    yield Host(directory, environ)
    compose = shlex.split(os.environ.get("COMPOSE") or "docker compose")
    project = ("--project-name", PROJECT, "--file", str(ROOT / "compose.yaml"), "--env-file", os.devnull)
    ran(*compose, *project, "--profile", "*", "down", "--volumes", "--timeout", "5")
    ran("docker", "image", "rm", "--force", *(f"gateway:{version}" for version in (FIRST, SECOND)))


def test_it_is_installed_without_a_network(host: Host, bundles: list[Path], figure: Callable[[str], None]) -> None:
    began = time.time()
    ended = host.install(bundles[0])
    figure(f"offline: {time.time() - began:.1f} s from the unpacked bundle to healthy")
    assert ended.code == 0, ended.err
    assert "first-run.txt" in ended.out
    assert host.image == f"gateway:{FIRST} healthy"
    host.inside("gateway", "device", "add", "demo", "--profile", "thermostat")
    said("docker", "exec", "--detach", host.edge, "gateway", "simulate", "--as", "demo")

    def online() -> bool | None:
        return ran("docker", "exec", host.edge, "gateway", "request", "demo.set_target", "20").code == 0 or None

    eventually(online, "the device answers")
    asked = ("docker", "events", "--since", str(int(began)), "--until", str(int(time.time()) + 1))
    assert said(*asked, "--filter", "type=image", "--filter", "event=pull") == ""


def test_a_bundle_that_was_changed_is_refused(host: Host, bundles: list[Path], tmp_path: Path) -> None:
    """One byte of one file is enough, and nothing of what runs or is installed changes."""
    changed = tmp_path / "changed"
    shutil.copytree(bundles[1], changed, copy_function=os.link)
    text = (changed / "compose.yaml").read_bytes()
    (changed / "compose.yaml").unlink()
    (changed / "compose.yaml").write_bytes(text.replace(b"read_only: true", b"read_only: none"))
    before = {path: path.read_bytes() for path in (host.directory / "srv").rglob("*") if path.is_file()}
    ended = host.install(changed)
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert "not as it was packed (compose.yaml: FAILED)" in line
    assert {path: path.read_bytes() for path in (host.directory / "srv").rglob("*") if path.is_file()} == before
    assert host.image == f"gateway:{FIRST} healthy"
    assert ran("docker", "image", "inspect", f"gateway:{SECOND}").code != 0


def test_a_newer_bundle_upgrades_and_keeps_what_is_the_users(host: Host, bundles: list[Path]) -> None:
    installed = host.directory / "srv"
    with (installed / ".env").open("a") as settings:
        settings.write("GATEWAY_CPUS=0.9\n")
    with (installed / "config" / "edge.toml").open("a") as settings:
        settings.write("# ours\n")
    node = host.inside("cat", "/var/lib/gateway/identity/node-id")
    ended = host.install(bundles[1])
    assert ended.code == 0, ended.err
    assert host.image == f"gateway:{SECOND} healthy"
    assert host.inside("cat", "/var/lib/gateway/identity/node-id") == node
    assert "demo" in host.inside("gateway", "device", "ls")
    assert f"GATEWAY_IMAGE=gateway:{SECOND}" in (installed / ".env").read_text().splitlines()
    assert "GATEWAY_CPUS=0.9" in (installed / ".env").read_text().splitlines()
    assert f"GATEWAY_IMAGE=gateway:{FIRST}" in (installed / f".env.before-{SECOND}").read_text().splitlines()
    assert (installed / "config" / "edge.toml").read_text().endswith("# ours\n")
    (backup,) = (installed / "backups").iterdir()
    assert backup.stat().st_mode & 0o077 == 0
    said(sys.executable, "-m", "gateway.cli", "backup", "verify", str(backup))


def test_the_same_bundle_again_changes_nothing(host: Host, bundles: list[Path]) -> None:
    container = said("docker", "inspect", "--format", "{{.Id}}", host.edge)
    ended = host.install(bundles[1])
    assert ended.code == 0, ended.err
    assert said("docker", "inspect", "--format", "{{.Id}}", host.edge) == container
    assert len(list((host.directory / "srv" / "backups").iterdir())) == 1


@pytest.fixture
def machine(bundles: list[Path], tmp_path: Path) -> Iterator[Callable[..., Ended]]:
    """A host without Docker and without a network; what is asked of it is run there as root."""
    name = f"{PROJECT}-machine"
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    mounts = (f"{bundles[0]}:/bundle:ro", f"{tmp_path / 'systemctl'}:/usr/local/bin/systemctl:ro")
    options = [option for mount in mounts for option in ("--volume", mount)]
    image = f"python:{PYTHON}-slim-bookworm"
    said("docker", "run", "--detach", "--init", "--network", "none", "--name", name, *options, image, "sleep", "1200")
    yield lambda *command: ran("docker", "exec", name, *command)
    ran("docker", "rm", "--force", "--volumes", name)


def test_a_host_without_docker(machine: Callable[..., Ended], figure: Callable[[str], None]) -> None:
    """From the wheelhouse, by hash, as docs/systemd.md has it; then an upgrade, with a backup."""
    began = time.monotonic()
    ended = machine("/bundle/install.sh", "--systemd")
    figure(f"offline: {time.monotonic() - began:.1f} s from the wheelhouse to healthy")
    assert ended.code == 0, ended.err + machine("cat", "/run/log").out
    version = machine("/opt/gateway/bin/gateway", "version").out
    assert __version__ in version
    assert "compiled" in version
    assert machine("stat", "-c", "%U %a", "/var/lib/gateway").out == "gateway 700"
    first = machine("readlink", "/opt/gateway").out
    # As of a version with other packages.
    machine("cp", "-r", "/bundle", "/newer")
    machine("sh", "-c", "echo '# newer' >>/newer/wheelhouse/requirements.txt")
    assert "wheelhouse/requirements.txt: FAILED" in machine("/newer/install.sh", "--systemd").err
    seal = "cd /newer && cut -d ' ' -f 3- SHA256SUMS | xargs -d '\\n' sha256sum >new && mv new SHA256SUMS"
    assert machine("sh", "-c", seal).code == 0
    again = machine("/newer/install.sh", "--systemd")
    assert again.code == 0, again.err + machine("cat", "/run/log").out
    assert machine("readlink", "/opt/gateway").out != first
    backup = again.out.partition("backup: ")[2].partition(",")[0]
    assert machine("/opt/gateway/bin/gateway", "backup", "verify", backup).code == 0
