"""Write the SBOM of a node, as CycloneDX 1.6 in JSON: what the lock pins, or, with --installed, what is installed.

--installed DIRECTORY is a `site-packages`; with --debian and --os-release, too, it is all that an image holds. Wheels
that say what was linked into them (PEP 770) are believed: those parts are components of their package. Nothing but the
standard library, so that it runs where an image is built. SOURCE_DATE_EPOCH makes it the same every time.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import inventory

PRODUCT = "rsocket-edge-gateway"
LICENCE = "Apache-2.0"
Part = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--installed", type=Path, metavar="DIRECTORY", help="describe what is in this site-packages")
    parser.add_argument("--debian", type=Path, metavar="FILE", help="dpkg's status file of the base image")
    parser.add_argument("--os-release", type=Path, metavar="FILE", help="the base image's /etc/os-release")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: dist/gateway-VERSION.cdx.json")
    options = parser.parse_args()
    out = options.out or inventory.ROOT / "dist" / f"gateway-{product_version()}.cdx.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = [*installed(options.installed), *libraries()] if options.installed else [*locked(), *libraries(), base()]
    if options.debian and options.os_release:
        parts += [*system(options.os_release), *debian(options.debian)]
    out.write_text(json.dumps(document(parts), indent=2) + "\n", "utf-8")
    print(f"{out}: {len(parts)} components")
    return 0


def document(parts: list[Part]) -> Part:
    """The whole document; its serial number is that of its content."""
    edges = inventory.records()
    by_name = {part["name"]: part["bom-ref"] for part in parts if part["bom-ref"].startswith("pkg:pypi/")}
    root = f"pkg:pypi/{PRODUCT}@{product_version()}"
    needed = {*inventory.asked_for()}
    direct = [ref for name, ref in by_name.items() if name in needed]
    direct += [part["bom-ref"] for part in parts if not part["bom-ref"].startswith("pkg:pypi/")]
    dependencies = [{"ref": root, "dependsOn": sorted(direct)}]
    for part in parts:
        record = edges.get(part["name"]) if part["bom-ref"].startswith("pkg:pypi/") else None
        on = sorted(by_name[name] for name in record.requires if name in by_name) if record else []
        dependencies.append({"ref": part["bom-ref"], **({"dependsOn": on} if on else {})})
    about = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(parts, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{about}",
        "version": 1,
        "metadata": {
            "timestamp": now().isoformat(timespec="seconds").replace("+00:00", "Z"),
            "tools": {"components": [{"type": "application", "name": "tools/sbom.py", "version": product_version()}]},
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": PRODUCT,
                "version": product_version(),
                "licenses": licences(LICENCE),
                "purl": root,
            },
        },
        "components": parts,
        "dependencies": dependencies,
    }


def locked() -> Iterator[Part]:
    """What the image and a host install, with the digests of all files that the lock allows."""
    known = inventory.records()
    for pin in inventory.pins():
        if pin.name in known:
            yield {
                **package(pin.name, pin.version, known[pin.name].licence),
                "externalReferences": [
                    {
                        "type": "distribution",
                        "url": f"https://pypi.org/project/{pin.name}/{pin.version}/",
                        "hashes": [{"alg": "SHA-256", "content": digest} for digest in pin.hashes],
                    }
                ],
            }


def installed(directory: Path) -> Iterator[Part]:
    """The packages of a `site-packages`, but for the product. Ends the program at one that has no record."""
    known = inventory.records()
    digests = {pin.name: pin.hashes for pin in inventory.pins()}
    for distribution in sorted(distributions(path=[str(directory)]), key=lambda found: found.name.lower()):
        name = inventory.canonical(distribution.name)
        if name == PRODUCT:
            continue
        if name not in known or known[name].version != distribution.version:
            raise SystemExit(
                f"{name} {distribution.version} is installed and not in {inventory.RECORDS.name}: tools/lock"
            )
        within = [
            part
            for file in distribution.files or ()
            if ".dist-info/sboms/" in str(file)
            for part in linked(file.locate())
        ]
        yield {
            **package(name, distribution.version, known[name].licence),
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"https://pypi.org/project/{name}/{distribution.version}/",
                    "hashes": [{"alg": "SHA-256", "content": digest} for digest in digests.get(name, ())],
                }
            ],
            **({"components": within} if within else {}),
        }


def linked(path: Any) -> Iterator[Part]:
    """What a wheel's own SBOM says was linked into it."""
    for part in json.loads(Path(path).read_text("utf-8")).get("components", ()):
        kept = {name: part[name] for name in ("type", "name", "version", "purl", "hashes", "licenses") if name in part}
        # Where its packager built it is nobody's business, and no package manager's address.
        if "purl" in kept:
            kept["purl"] = re.sub(r"\?download_url=file:[^#]*", "", kept["purl"])
        yield kept


def libraries() -> Iterator[Part]:
    for library in inventory.libraries():
        reference = f"pkg:npm/{library.name.replace('@', '%40')}@{library.version}"
        group, _, name = library.name.rpartition("/")
        yield {
            "type": "library",
            "bom-ref": reference,
            **({"group": group} if group else {}),
            "name": name,
            "version": library.version,
            "licenses": licences(library.licence),
            "purl": reference,
            "externalReferences": [
                {"type": "distribution", "url": library.url, "hashes": [{"alg": "SHA-512", "content": library.sha512}]}
            ],
            "properties": [
                {"name": "gateway:file", "value": f"gateway/admin/dashboard/vendor/{file}"} for file in library.files
            ],
        }


def base() -> Part:
    """The base image by its name, of which only whoever builds on it knows what it holds."""
    image = inventory.base_image()
    name, _, tag = image.partition(":")
    reference = f"pkg:docker/{name}@{tag}"
    return {"type": "container", "bom-ref": reference, "name": name, "version": tag, "purl": reference}


def system(os_release: Path) -> Iterator[Part]:
    """The system of the base image, its Python, and that one's pip."""
    said = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', os_release.read_text("utf-8"), re.M))
    yield {
        "type": "operating-system",
        "bom-ref": f"os:{said['ID']}",
        "name": said["ID"],
        "version": said.get("VERSION_ID", ""),
        "description": said.get("PRETTY_NAME", ""),
    }
    for name, number, licence in (("python", platform.python_version(), "PSF-2.0"), ("pip", version("pip"), "MIT")):
        reference = f"pkg:generic/python@{number}" if name == "python" else f"pkg:pypi/pip@{number}"
        yield {**package(name, number, licence), "bom-ref": reference, "purl": reference}


def debian(status: Path) -> Iterator[Part]:
    """The Debian packages of the base image; their licences are in /usr/share/doc/*/copyright of the image."""
    for paragraph in status.read_text("utf-8").split("\n\n"):
        said = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.M))
        if said.get("Status") != "install ok installed":
            continue
        reference = (
            f"pkg:deb/debian/{quote(said['Package'], safe='')}@{quote(said['Version'], safe=':~')}"
            f"?arch={said['Architecture']}"
        )
        yield {
            "type": "library",
            "bom-ref": reference,
            "name": said["Package"],
            "version": said["Version"],
            "purl": reference,
        }


def package(name: str, number: str, licence: str) -> Part:
    reference = f"pkg:pypi/{name}@{number}"
    return {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": number,
        "licenses": licences(licence),
        "purl": reference,
    }


def licences(expression: str) -> list[Part]:
    return [{"expression": expression}] if " " in expression else [{"license": {"id": expression}}]


def product_version() -> str:
    """Read from the source: nothing of the product is imported, or need be installed."""
    tree = ast.parse((inventory.ROOT / "gateway" / "__init__.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__":
            return str(ast.literal_eval(node.value))
    raise SystemExit("gateway/__init__.py has no version")


def now() -> datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
