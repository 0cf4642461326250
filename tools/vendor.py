"""Make what the dashboard uses of other people's work: `gateway/admin/dashboard/vendor/`.

The packages are those of `tools/vendor/package-lock.json`, by version and digest; esbuild makes one file of each entry
in `tools/vendor/`. A browser gets them from the node, so a host without internet has them too. `VENDOR.json` names
what is in there, with versions, licences and digests; `LICENSES.txt` has the licences' texts.

`--check` makes them again in a folder of its own and compares; it ends with 1 where a file differs. Needs Node.js.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "tools" / "vendor"
MADE = ROOT / "gateway" / "admin" / "dashboard" / "vendor"
#: Browsers of the last three years or so: signals and import attributes need nothing newer.
TARGET = "es2022"


@dataclass(frozen=True, slots=True)
class Item:
    """A file to make: from an entry of the recipe, or from a file of a package, of which it is then a copy."""

    name: str
    source: str
    packages: tuple[str, ...]


ITEMS = (
    Item("preact.js", "preact.js", ("preact", "htm", "@preact/signals", "@preact/signals-core")),
    Item("uplot.js", "uplot.js", ("uplot",)),
    Item("uplot.css", "node_modules/uplot/dist/uPlot.min.css", ("uplot",)),
    Item("cytoscape.js", "cytoscape.js", ("cytoscape",)),
    Item("jsqr.js", "jsqr.js", ("jsqr",)),
    Item("cbor.js", "cbor.js", ("cborg",)),
    Item("pico.css", "node_modules/@picocss/pico/css/pico.min.css", ("@picocss/pico",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with what is there, change nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory(prefix="vendor-") as folder:
        work, made = Path(folder, "work"), Path(folder, "made")
        shutil.copytree(RECIPE, work, ignore=shutil.ignore_patterns("node_modules"))
        # The recipe's packages run nothing when they are installed; esbuild's own binary is a package by itself.
        _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", folder=work)
        made.mkdir()
        _make(work, made)
        if check:
            return _compare(made)
        shutil.rmtree(MADE, ignore_errors=True)
        shutil.copytree(made, MADE)
    return 0


def _make(work: Path, made: Path) -> None:
    for item in ITEMS:
        if item.source.startswith("node_modules/"):
            shutil.copyfile(work / item.source, made / item.name)
        else:
            _run(
                "node_modules/.bin/esbuild",
                item.source,
                "--bundle",
                "--minify",
                "--format=esm",
                f"--target={TARGET}",
                "--legal-comments=none",
                "--log-level=warning",
                f"--outfile={made / item.name}",
                folder=work,
            )
    described, licences = [], {}
    for item in ITEMS:
        packages = []
        for name in item.packages:
            package = json.loads((work / "node_modules" / name / "package.json").read_text("utf-8"))
            packages.append({"name": name, "version": package["version"], "license": package["license"]})
            licences[f"{name} {package['version']}"] = _licence(work / "node_modules" / name)
        digest = hashlib.sha256((made / item.name).read_bytes()).hexdigest()
        described.append({"file": item.name, "sha256": digest, "packages": packages})
    (made / "VENDOR.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    texts = (f"{name}\n{'=' * len(name)}\n\n{text.strip()}\n" for name, text in sorted(licences.items()))
    (made / "LICENSES.txt").write_text("\n\n".join(texts), "utf-8")


def _licence(package: Path) -> str:
    found = sorted(path for path in package.iterdir() if path.name.lower().startswith("license"))
    if not found:
        raise SystemExit(f"{package} has no licence")
    return found[0].read_text("utf-8")


def _compare(made: Path) -> int:
    expected = {path.name: path.read_bytes() for path in made.iterdir()}
    there = {path.name: path.read_bytes() for path in MADE.iterdir()} if MADE.is_dir() else {}
    differ = sorted(name for name in expected.keys() | there.keys() if expected.get(name) != there.get(name))
    for name in differ:
        print(f"{(MADE / name).relative_to(ROOT)} is not what tools/vendor.py makes", file=sys.stderr)
    return 1 if differ else 0


def _run(*command: str, folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{' '.join(command[:2])} failed with {error.returncode}") from None


if __name__ == "__main__":
    sys.exit(main())
