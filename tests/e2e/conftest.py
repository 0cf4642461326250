"""The image, built once, and the figures that a run ends with."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.deployment import BASE_IMAGE, IMAGE, ROOT, Deployment, said

FIGURES = pytest.StashKey[list[str]]()
BUILD_S = 1200.0


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Note a measured figure for the end of the run."""
    return pytestconfig.stash.setdefault(FIGURES, []).append


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Of one process of several: what it has measured goes to the one that reports."""
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["figures"] = session.config.stash.get(FIGURES, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    figures = getattr(node, "workeroutput", {}).get("figures", [])
    node.config.stash.setdefault(FIGURES, []).extend(figures)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def image() -> str:
    """The image of this source tree, which the first process builds. DOCKER_BUILD_OPTIONS go to `docker build`."""
    options = shlex.split(os.environ.get("DOCKER_BUILD_OPTIONS", ""))
    with (ROOT / "deploy" / "Dockerfile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said(
            *("docker", "build", "--quiet", "--file", "deploy/Dockerfile", "--tag", IMAGE),
            *("--build-arg", f"BASE_IMAGE={BASE_IMAGE}", *options, "."),
            timeout=BUILD_S,
        )
    return IMAGE


@pytest.fixture(scope="module")
def edge(image: str) -> Iterator[Deployment]:
    """The profile `edge`; not up yet."""
    deployment = Deployment(f"gateway-e2e-{os.getpid()}")
    yield deployment
    deployment.remove()


@pytest.fixture
def other(image: str) -> Iterator[Deployment]:
    """A project of its own for what goes wrong."""
    deployment = Deployment(f"gateway-e2e-{os.getpid()}-other")
    yield deployment
    deployment.remove()
