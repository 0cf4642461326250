"""What is installed is pinned, each file by its hash, and pins, records and pyproject.toml fit each other."""

from __future__ import annotations

import json
import re
from importlib.metadata import distribution
from pathlib import Path

import inventory
import pytest
from packaging.requirements import Requirement

PYPROJECT = inventory.ROOT / "pyproject.toml"


@pytest.mark.parametrize("lock", [inventory.LOCK, inventory.BUILD_LOCK])
def test_no_pin_is_without_hashes(lock: Path) -> None:
    """Fault 103: nothing that a package index may have changed meanwhile is installed."""
    assert all(pin.hashes for pin in inventory.pins(lock))


def test_a_line_without_a_hash_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(inventory.LOCK.read_text() + "sneaked-in==1.0\n")
    with pytest.raises(ValueError, match=r"no pin with hashes: sneaked-in==1\.0"):
        inventory.pins(lock)


def test_locks_and_records_fit_what_the_product_asks_for() -> None:
    """If not: `tools/lock`."""
    assert list(inventory.unfit()) == []


def test_what_is_installed_here_for_the_product_is_what_is_recorded() -> None:
    """A dependency that came without the records is found, whatever its version: this environment is not locked."""
    found, waiting = set(), [("rsocket-edge-gateway", "")]
    while waiting:
        name, extra = waiting.pop()
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            place = inventory.canonical(requirement.name)
            if place not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": extra})):
                found.add(place)
                waiting += [(place, asked) for asked in ("", *requirement.extras)]
    assert found <= inventory.records().keys()


def test_a_dependency_that_is_not_pinned_is_said(tmp_path: Path) -> None:
    changed = tmp_path / "pyproject.toml"
    changed.write_text(
        PYPROJECT.read_text()
        .replace("dependencies = [\n", 'dependencies = [\n    "new-one>=2",\n', 1)
        .replace("rich>=15", "rich>=99")
    )
    said = list(inventory.unfit(changed))
    assert "new-one>=2 is asked for and not pinned" in said
    assert any(re.fullmatch(r"rich>=99 is asked for, [\d.]+ is pinned", line) for line in said)


def test_records_of_other_versions_are_said(tmp_path: Path) -> None:
    records = json.loads(inventory.RECORDS.read_text())
    records["packages"]["anyio"]["version"] = "0.1"
    records["packages"]["httpx"]["requires"].append("unheard-of")
    records["packages"]["gone"] = {"version": "1", "licence": "MIT", "requires": []}
    del records["packages"]["uvicorn"]
    known = tmp_path / "components.json"
    known.write_text(json.dumps(records))
    said = "\n".join(inventory.unfit(known=known))
    assert re.search(r"^anyio [\d.]+ is pinned, components\.json has 0\.1$", said, re.M)
    assert "components.json has gone, which is not pinned" in said
    assert "unheard-of is needed and not pinned" in said
    assert re.search(r"^uvicorn [\d.]+ is pinned, components\.json has nothing of it$", said, re.M)


def test_a_pin_that_nobody_asks_for_is_said(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(inventory.LOCK.read_text() + f"left-over==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    assert "left-over is pinned and nobody asks for it" in list(inventory.unfit(lock=lock))


def test_records_are_made_of_what_the_index_says() -> None:
    """Extras that somebody asks for count; what is for other systems does not; words become SPDX."""
    report = {
        "install": [
            {
                "metadata": {
                    "name": "A_b",
                    "version": "1",
                    "license_expression": "MIT OR Apache-2.0",
                    "requires_dist": ["c[fast]>1", "d; sys_platform == 'win32'", "e; extra == 'more'"],
                }
            },
            {
                "metadata": {
                    "name": "c",
                    "version": "2",
                    "license": "see the file",
                    "classifier": ["License :: OSI Approved :: ISC License (ISCL)"],
                    "requires_dist": ["e; extra == 'fast'"],
                }
            },
            {"metadata": {"name": "e", "version": "3", "license": "MIT"}},
        ]
    }
    assert inventory.recorded(report, ["a-b>=1"], {"a-b", "c", "e"}) == {
        "product": ["a-b"],
        "packages": {
            "a-b": {"version": "1", "licence": "MIT OR Apache-2.0", "requires": ["c"]},
            "c": {"version": "2", "licence": "ISC", "requires": ["e"]},
            "e": {"version": "3", "licence": "MIT", "requires": []},
        },
    }


def test_a_package_without_a_licence_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x 1 says nothing of its licence"):
        inventory.licence({"name": "x", "version": "1", "license": "", "classifier": []})
