"""The SBOM: good by CycloneDX' own schema, and of what is shipped, no more and no less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import inventory
import pytest
import sbom
from jsonschema_rs import ValidationError

from tests.shipping.cyclonedx import judge

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u13

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1:1.0-1
"""


def written(out: Path, *arguments: str) -> dict[str, Any]:
    """What the program writes, which the schema takes."""
    subprocess.run(
        [sys.executable, inventory.ROOT / "tools" / "sbom.py", "--out", out, *arguments],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(out.read_text())
    judge(found)
    return found


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """That of the lock."""
    return written(tmp_path_factory.mktemp("sbom") / "a.json")


@pytest.mark.parametrize(
    "wrong", [{"serialNumber": "1"}, {"unheard": "of"}, {"components": [{"type": "library"}]}, {"specVersion": 1.6}]
)
def test_the_schema_refuses(document: dict[str, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        judge({**document, **wrong})


def test_the_lock(document: dict[str, Any]) -> None:
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    packages = {part["purl"]: part for part in document["components"]}
    pinned = inventory.shipped(inventory.pins())
    assert {purl for purl in packages if purl.startswith("pkg:pypi/")} == {
        f"pkg:pypi/{pin.name}@{pin.version}" for pin in pinned
    }
    for pin in pinned:
        part = packages[f"pkg:pypi/{pin.name}@{pin.version}"]
        (source,) = part["externalReferences"]
        assert [digest["content"] for digest in source["hashes"]] == list(pin.hashes)
        assert part["licenses"]


def test_the_dashboards_libraries_and_the_base(document: dict[str, Any]) -> None:
    packages = {part["purl"]: part for part in document["components"]}
    vendored = json.loads(inventory.VENDORED.read_text())
    wanted = {
        f"pkg:npm/{package['name'].replace('@', '%40')}@{package['version']}"
        for item in vendored
        for package in item["packages"]
    }
    assert {purl for purl in packages if purl.startswith("pkg:npm/")} == wanted
    signals = next(part for purl, part in packages.items() if "%40preact/signals@" in purl)
    assert (signals["group"], signals["name"]) == ("@preact", "signals")
    assert len(signals["externalReferences"][0]["hashes"][0]["content"]) == 128
    assert f"pkg:docker/{inventory.base_image().replace(':', '@')}" in packages


def test_who_needs_whom(document: dict[str, Any]) -> None:
    edges = {entry["ref"].partition("@")[0]: entry.get("dependsOn", []) for entry in document["dependencies"]}
    assert len(document["dependencies"]) == len(document["components"]) + 1
    assert any(ref.startswith("pkg:pypi/starlette@") for ref in edges["pkg:pypi/fastapi"])
    assert any(ref.startswith("pkg:pypi/cffi@") for ref in edges["pkg:pypi/cryptography"])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A `site-packages` with one package, which has compiled code of others within."""
    directory = tmp_path / "site-packages"
    directory.mkdir()
    installed = Path(str(distribution("cryptography").locate_file("."))).glob("cryptography-*.dist-info")
    for found in installed:
        (directory / found.name).symlink_to(found)
    return directory


def test_what_is_installed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What wheels say was linked into them is in it: OpenSSL is no package of Python or Debian."""
    version = distribution("cryptography").version
    record = inventory.Record(version, "Apache-2.0 OR BSD-3-Clause", ())
    monkeypatch.setattr(inventory, "records", lambda: {"cryptography": record})
    status, release = tmp_path / "status", tmp_path / "os-release"
    status.write_text(STATUS)
    release.write_text('ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    document = sbom.document([*sbom.installed(place), *sbom.system(release), *sbom.debian(status)])
    judge(document)
    first, *rest = document["components"]
    assert first["purl"] == f"pkg:pypi/cryptography@{version}"
    assert "openssl" in {part["name"] for part in first["components"]}
    assert not [part for part in first["components"] if "file:" in part.get("purl", "")]
    assert [part["purl"] for part in rest if "purl" in part][-1] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64"
    assert [part["name"] for part in rest] == ["debian", "python", "pip", "libc6"]


def test_what_has_no_record_is_not_passed_over(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "records", dict)
    with pytest.raises(SystemExit, match=r"cryptography .* is installed and not in components\.json"):
        list(sbom.installed(place))
