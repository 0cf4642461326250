"""One file from which a host without the Internet is installed, and its checksum: `dist/gateway-VERSION-ARCH.tar`.

    bundle.py [--image gateway:local] [--profiles edge,dev] [--wheelhouse build/wheelhouse] [--out dist]

In it: the images of these profiles, compose.yaml and all that it mounts, documents, SBOM, a wheelhouse for hosts
without Docker, and install.sh, which checks SHA256SUMS before it uses any of it. For whoever gets one: docs/offline.md.

The image of the gateway is called gateway:VERSION in it. COMPOSE is the command of Compose (default: `docker compose`).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What an operator needs of the source tree. compose.yaml mounts out of config/ and deploy/.
PACKED = (
    "compose.yaml",
    ".env.example",
    "config",
    "deploy",
    "docs",
    "README.md",
    "LICENSE",
    "SECURITY.md",
    "CHANGELOG.md",
)
INSTALLER = "deploy/install.sh"
SBOM = "/opt/gateway/share/gateway.cdx.json"
WHEEL_OF = re.compile(r"rsocket_edge_gateway-.+-cp(\d)(\d+)-cp\d+-.+\.whl")


class Refused(Exception):
    """Why no bundle can be made."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What install.sh reads first, as `bundle.env`."""

    version: str
    arch: str
    image: str
    profiles: Sequence[str]
    pythons: Sequence[str]
    disk_kb: int

    def written(self) -> str:
        values = {
            "version": self.version,
            "arch": self.arch,
            "image": self.image,
            "profiles": " ".join(self.profiles),
            "pythons": " ".join(self.pythons),
            "disk_kb": str(self.disk_kb),
        }
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def said(*command: str) -> str:
    """What a command prints. Raises Refused."""
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Refused(f"{shlex.join(command)}: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout.strip()


def lay_out(target: Path) -> None:
    """The files of the source tree, as far as they are under version control."""
    for name in filter(None, said("git", "ls-files", "-z", "--", *PACKED).split("\0")):
        path = target / ("install.sh" if name == INSTALLER else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, path)


def wanted_images(profiles: Iterable[str], image: str) -> list[str]:
    """The images of these profiles, under the names that compose.yaml gives them when nobody says otherwise."""
    compose = shlex.split(os.environ.get("COMPOSE") or "docker compose")
    # What the environment has goes before the file; each name of compose.yaml has a default.
    named = [f"--profile={profile}" for profile in profiles]
    settings = {name: value for name, value in os.environ.items() if not name.endswith(("_IMAGE", "_PROFILES"))}
    command = [*compose, "--env-file", os.devnull, *named, "config", "--images"]
    ended = subprocess.run(
        command, cwd=ROOT, env={**settings, "GATEWAY_IMAGE": image}, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise Refused(ended.stderr.strip())
    return sorted(set(ended.stdout.split()))


def save_images(names: Sequence[str], to: Path, level: int) -> None:
    """`docker save`, compressed; layers that images share are in it once."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        with to.open("wb") as file, gzip.GzipFile("", "wb", level, file, mtime=0) as packed:
            shutil.copyfileobj(saving.stdout, packed, 1 << 20)
    if saving.returncode != 0:
        raise Refused("docker save failed")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(directory: Path) -> None:
    """Write SHA256SUMS over everything that is there."""
    paths = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    (directory / "SHA256SUMS").write_text("".join(f"{digest(directory / path)}  {path}\n" for path in paths))


def pack(directory: Path, to: Path, made_at: int) -> None:
    """The same bytes from the same files, whoever packs them, and `sha256sum -c` for it beside it."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = made_at
        entry.mode = 0o755 if entry.isdir() or entry.name.endswith("/install.sh") else 0o644
        return entry

    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_suffix(".part")
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(directory, directory.name, recursive=False, filter=plain)
        for path in sorted(directory.rglob("*")):
            archive.add(
                path, f"{directory.name}/{path.relative_to(directory).as_posix()}", recursive=False, filter=plain
            )
    part.replace(to)
    Path(f"{to}.sha256").write_text(f"{digest(to)}  {to.name}\n")


def make(version: str, built: str, profiles: Sequence[str], wheelhouse: Path, out: Path, level: int) -> Path:
    """Raises Refused."""
    image = f"gateway:{version}"
    (described,) = json.loads(said("docker", "image", "inspect", built))
    said("docker", "tag", built, image)
    names = wanted_images(profiles, image)
    there = [
        name
        for name in names
        if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0
    ]
    if there != names:
        raise Refused(f"not on this machine: {', '.join(sorted(set(names) - set(there)))}; docker pull them")
    sizes = [json.loads(said("docker", "image", "inspect", name))[0]["Size"] for name in names]
    wheels = [match for path in wheelhouse.glob("*.whl") if (match := WHEEL_OF.fullmatch(path.name))]
    pythons = [f"{major}.{minor}" for major, minor in sorted({(int(m[1]), int(m[2])) for m in wheels})]
    if not pythons:
        raise Refused(f"{wheelhouse} has no wheel of the gateway: tools/wheelhouse.py")
    kind = Kind(version, described["Architecture"], image, profiles, pythons, 2 * sum(sizes) // 1024)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as scratch:
        directory = Path(scratch) / f"gateway-{version}-{kind.arch}"
        directory.mkdir()
        lay_out(directory)
        (directory / "bundle.env").write_text(kind.written())
        shutil.copytree(wheelhouse, directory / "wheelhouse")
        (directory / "gateway.cdx.json").write_text(
            said("docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", image, SBOM) + "\n"
        )
        save_images(names, directory / "images" / "images.tar.gz", level)
        seal(directory)
        bundle = out / f"{directory.name}.tar"
        pack(directory, bundle, int(os.environ.get("SOURCE_DATE_EPOCH") or said("git", "log", "-1", "--format=%ct")))
    return bundle


def main() -> int:
    from gateway import __version__

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--image", default="gateway:local", help="the image of this version, on this machine")
    parser.add_argument("--version", default=__version__)
    parser.add_argument("--profiles", default="edge", help="whose images are in it, with commas")
    parser.add_argument("--wheelhouse", type=Path, default=ROOT / "build" / "wheelhouse")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--level", type=int, default=6, help="of gzip, 0 to 9")
    asked = parser.parse_args()
    try:
        bundle = make(asked.version, asked.image, asked.profiles.split(","), asked.wheelhouse, asked.out, asked.level)
    except Refused as why:
        print(f"bundle: {why}", file=sys.stderr)
        return 1
    print(f"{bundle}: {bundle.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
