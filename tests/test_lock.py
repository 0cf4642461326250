"""What the image installs: `deploy/requirements.txt` pins all that pyproject.toml asks for, each file by its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HASHED = re.compile(r" \\\n(    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+")


def pins(name: str) -> list[Requirement]:
    """The pins of one list. Fault 103: none of them is without hashes."""
    text = "".join(
        line for line in (ROOT / "deploy" / name).read_text().splitlines(keepends=True) if not line.startswith("#")
    )
    left = HASHED.sub("\n", text).splitlines()
    return [Requirement(line) for line in left]


def unmet(wanted: list[str], pinned: list[Requirement]) -> list[str]:
    versions: dict[str, list[str]] = {}
    for pin in pinned:
        (specifier,) = pin.specifier
        assert specifier.operator == "==", pin
        versions.setdefault(canonicalize_name(pin.name), []).append(specifier.version)
    return [
        text
        for text in wanted
        for requirement in [Requirement(text)]
        if not any(
            requirement.specifier.contains(version) for version in versions.get(canonicalize_name(requirement.name), ())
        )
    ]


def test_the_image_installs_what_the_product_asks_for() -> None:
    """If not: `tools/lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project.get("optional-dependencies", {}).get("fast", [])
    assert unmet(wanted, pins("requirements.txt")) == []


def test_it_is_built_with_what_the_product_is_built_with() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert unmet(build, pins("build-requirements.txt")) == []
