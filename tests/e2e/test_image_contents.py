"""The SBOM in the image is of what is in the image."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.deployment import said
from tests.shipping.cyclonedx import judge

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1500)]

INSTALLED = """
import importlib.metadata, json
print(json.dumps(sorted([found.name, found.version] for found in importlib.metadata.distributions())))
"""


@pytest.fixture(scope="module")
def inside(image: str) -> Any:
    """What a command prints in a container that has no network."""

    def run(*command: str) -> str:
        return said("docker", "run", "--rm", "--network", "none", "--entrypoint", command[0], image, *command[1:])

    return run


def test_the_sbom_is_of_what_is_installed(inside: Any) -> None:
    text = inside("cat", "/opt/gateway/share/gateway.cdx.json")
    document = json.loads(text)
    judge(document)
    purls = [part["purl"] for part in document["components"] if "purl" in part]
    product = document["metadata"]["component"]
    installed = {
        (name.replace("_", "-").lower(), version)
        for name, version in json.loads(inside("/opt/gateway/bin/python", "-c", INSTALLED))
    }
    listed = {tuple(purl.removeprefix("pkg:pypi/").split("@")) for purl in purls if purl.startswith("pkg:pypi/")}
    assert {place for place in listed if place[0] != "pip"} | {(product["name"], product["version"])} == installed
    debian = {
        purl.partition("?")[0].removeprefix("pkg:deb/debian/").partition("@")[0] for purl in purls if "pkg:deb/" in purl
    }
    assert {name.replace("+", "%2B") for name in inside("dpkg-query", "-Wf", "${Package}\\n").split()} == debian
