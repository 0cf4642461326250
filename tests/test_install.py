"""`deploy/install.sh`: what it refuses, in one line, with nothing changed. The rest is in tests/e2e/test_offline.py.

`docker` here is a program that answers as the engine of the host would whose trouble is told of.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
ENGINE = f"""case "$*" in
    *Server.Arch*) echo {ARCH} ;;
    "compose version"*) echo v2.39.1 ;;
    *DockerRootDir*) echo / ;;
    "image inspect"*) exit 1 ;;
    *) echo "not expected: $*" >&2; exit 99 ;;
esac
"""


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


bundling, wheelhouse = tool("bundle"), tool("wheelhouse")
Install = Callable[..., str]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """All of one but for what takes long: images and wheels."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    bundling.lay_out(directory)
    kind = bundling.Kind("1.2.3", ARCH, "gateway:1.2.3", ["edge", "mqtt"], ["3.11", "3.13"], disk_kb=1)
    (directory / "bundle.env").write_text(kind.written())
    bundling.seal(directory)
    return directory


@pytest.fixture
def install(bundle: Path, tmp_path: Path) -> Install:
    """Run it with `docker` as the engine's answers, expect a refusal, and return its one line."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in (
        "sh",
        "sha256sum",
        "grep",
        "head",
        "cut",
        "df",
        "awk",
        "tr",
        "id",
        "uname",
        "dirname",
        "mkdir",
        "cat",
        "sed",
    ):
        (programs / name).symlink_to(
            next(path for path in (Path("/usr/bin", name), Path("/bin", name)) if path.exists())
        )

    def run(*arguments: str, docker: str | None = ENGINE, **others: str) -> str:
        for name, text in {"docker": docker, **others}.items():
            (programs / name).unlink(missing_ok=True)
            if text is not None:
                (programs / name).write_text(f"#!/bin/sh\n{text}")
                (programs / name).chmod(0o755)
        ended = subprocess.run(
            [bundle / "install.sh", *arguments],
            env={"PATH": str(programs)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 1, ended.stdout + ended.stderr
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        assert line.startswith("install.sh: ")
        return line.removeprefix("install.sh: ")

    return run


@pytest.mark.parametrize(
    ("docker", "line"),
    [
        (None, "Docker is missing: install it, or take --systemd"),
        (
            "echo 'permission denied while trying to connect' >&2; exit 1",
            "may not use Docker's socket: run this with sudo",
        ),
        (
            "echo 'Cannot connect to the Docker daemon' >&2; exit 1",
            "Docker does not answer: sudo systemctl start docker",
        ),
        (ENGINE.replace(f"echo {ARCH}", "echo riscv64"), f"this bundle is for {ARCH}, and this host is riscv64"),
        (ENGINE.replace("echo v2.39.1", "exit 1"), "Docker has no Compose: install docker-compose-plugin"),
        (ENGINE.replace("v2.39.1", "2.17.3"), "Compose 2.17.3 is too old: 2.20 or newer is needed"),
        (ENGINE.replace("v2.39.1", "1.29.2"), "Compose 1.29.2 is too old"),
    ],
)
def test_an_engine_that_does_not_do(install: Install, tmp_path: Path, docker: str | None, line: str) -> None:
    assert line in install("--to", str(tmp_path / "srv"), docker=docker)
    assert not (tmp_path / "srv").exists()


def test_a_profile_whose_images_are_not_in_it(install: Install, tmp_path: Path) -> None:
    line = install("--to", str(tmp_path / "srv"), "--profiles", "edge,central")
    assert line == "this bundle has no images for the profile central, but for: edge mqtt"


def test_a_disk_without_room(install: Install, bundle: Path, tmp_path: Path) -> None:
    text = (bundle / "bundle.env").read_text()
    (bundle / "bundle.env").write_text(text.replace("disk_kb=1", f"disk_kb={1 << 40}"))
    (bundle / "SHA256SUMS").unlink()
    bundling.seal(bundle)
    line = install("--to", str(tmp_path / "srv"))
    assert re.fullmatch(rf"/ has \d+ MiB left and the images need {1 << 30}: docker system df", line)
    assert not (tmp_path / "srv").exists()


@pytest.mark.parametrize("how", [(), ("--systemd",), ("--check",)])
@pytest.mark.parametrize("name", ["bundle.env", "deploy/gateway.service"])
def test_a_changed_file(install: Install, bundle: Path, how: tuple[str, ...], name: str) -> None:
    """Before anything else, what is run as root included."""
    with (bundle / name).open("a") as file:
        file.write("\nexit 7\n")
    line = install(*how, docker="exit 99")
    assert line == (
        f"the bundle is not as it was packed ({name}: FAILED): copy and unpack it again. Nothing is changed"
    )


def test_a_missing_file(install: Install, bundle: Path) -> None:
    (bundle / "compose.yaml").unlink()
    assert "compose.yaml" in install("--check")
    (bundle / "SHA256SUMS").unlink()
    assert install("--check") == f"{bundle} has no SHA256SUMS: this is no unpacked bundle"


def test_a_service_is_for_root_and_for_a_known_python(install: Install) -> None:
    user = 'case "$*" in -u) echo {} ;; *) echo me ;; esac'
    assert install("--systemd", id=user.format(1000)) == "only root may install a service: run this with sudo"
    root = user.format(0)
    assert install("--systemd", id=root).startswith("this host has no systemd")
    line = install("--systemd", id=root, systemctl="exit 0", python3="echo 3.9")
    assert line.startswith("this bundle is for Python 3.11 3.13, and none of them is here")
    assert install("--systemd", uname="echo riscv64") == (
        f"this bundle is for {ARCH}, and this host is riscv64: take gateway-1.2.3-riscv64.tar"
    )


def test_all_that_the_compose_file_mounts_is_in_it(bundle: Path) -> None:
    """But for secrets, which are the operator's own."""
    described = yaml.safe_load((bundle / "compose.yaml").read_text())
    mounts = {
        volume.partition(":")[0]
        for service in described["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    }
    assert "./config" in mounts
    assert [mount for mount in sorted(mounts) if not (bundle / mount).exists()] == []


def test_the_same_files_are_the_same_bundle(bundle: Path, tmp_path: Path) -> None:
    made = [tmp_path / name / "bundle.tar" for name in ("one", "two")]
    for path, mode in zip(made, (0o644, 0o600), strict=True):
        (bundle / "LICENSE").chmod(mode)
        os.utime(bundle / "LICENSE", (mode, mode))
        bundling.pack(bundle, path, 1_700_000_000)
    assert made[0].read_bytes() == made[1].read_bytes()
    assert (tmp_path / "one" / "bundle.tar.sha256").read_text() == f"{bundling.digest(made[0])}  bundle.tar\n"
    with tarfile.open(made[0]) as archive:
        assert archive.getmember("bundle/install.sh").mode == 0o755


def test_which_wheels_go_into_a_wheelhouse(tmp_path: Path) -> None:
    """Those of this version and machine for glibc, and their hashes beside the locked ones."""
    portable = "manylinux2014_x86_64.manylinux_2_17_x86_64"
    for name in (
        f"1.0-cp311-cp311-{portable}",
        "1.0-cp311-cp311-linux_x86_64",
        "1.0-cp313-cp313-manylinux_2_28_x86_64",
        "1.0-cp313-cp313-manylinux_2_28_aarch64",
        "1.0-cp312-cp312-musllinux_1_2_x86_64",
        f"0.9-cp312-cp312-{portable}",
    ):
        (tmp_path / f"rsocket_edge_gateway-{name}.whl").write_bytes(name.encode())
    found = wheelhouse.own(tmp_path, "1.0", "amd64")
    assert list(found) == ["3.11", "3.13"]
    assert portable in found["3.11"].name
    listed = wheelhouse.requirements("rich==15.0.0 \\\n    --hash=sha256:00\n", found.values())
    hashes = [f"--hash=sha256:{bundling.digest(path)}" for path in found.values()]
    assert listed.splitlines()[2:] == [
        "rsocket-edge-gateway==1.0 \\",
        f"    {hashes[0]} \\",
        f"    {hashes[1]}",
    ]
