"""An image of an earlier commit, made within seconds: that commit's Python sources in place of those of this image.

The libraries and the base are this version's, so nothing is installed again. The hot path is compiled where its sources
are the same in both, and interpreted where they are not: what is stored and what is said is the same either way.
`UPGRADE_FROM` names the commit; else it is the last one in the history whose `gateway/` is another. Where there is no
history (a shallow clone, an archive) the image is this version's, and its first data is the newest directory that an
earlier version has recorded (tests/upgrade).
"""

from __future__ import annotations

import os
import runpy
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.deployment import IMAGE, ROOT, said

#: How far it is looked back for a commit that differs.
COMMITS = 200
RECIPE = """\
ARG IMAGE
FROM ${IMAGE}
USER 0
COPY gateway /opt/earlier/gateway
COPY device_sdk /opt/earlier/device_sdk
ARG COMPILED
RUN cd /opt/gateway/lib/python3*/site-packages \\
    && find gateway -name '*.so' >/opt/compiled && tar -cf /opt/compiled.tar -T /opt/compiled \\
    && rm -rf gateway device_sdk && cp -a /opt/earlier/gateway /opt/earlier/device_sdk . \\
    && if [ "$COMPILED" = yes ]; then tar -xf /opt/compiled.tar; fi \\
    && /opt/gateway/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash gateway device_sdk \\
    && rm -r /opt/earlier /opt/compiled /opt/compiled.tar && /opt/gateway/bin/gateway version
USER 10001:10001
"""


@dataclass(frozen=True, slots=True)
class Earlier:
    """`tree`: its compose.yaml and settings. `commit`: empty where there is no history. `what`: a line for people."""

    image: str
    tree: Path
    commit: str
    what: str


def earlier_image(place: Path, options: list[str]) -> Earlier:
    """Build it; `place` is where its sources go, `options` go to `docker build`."""
    commit = _commit()
    if not commit:
        return Earlier(IMAGE, ROOT, "", "no history here: this version, on data that an earlier one has recorded")
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", place], input=archive, check=True)
    (place / "Dockerfile").write_text(RECIPE)
    # Another .dockerignore is for another recipe.
    (place / ".dockerignore").unlink(missing_ok=True)
    compiled = "yes" if _same_hot_path(place) else "no"
    image = f"{IMAGE}-earlier"
    arguments = ("--build-arg", f"IMAGE={IMAGE}", "--build-arg", f"COMPILED={compiled}")
    said("docker", "build", "--quiet", "--tag", image, *arguments, *options, str(place), timeout=300)
    path = "compiled" if compiled == "yes" else "interpreted"
    return Earlier(image, place, commit, f"commit {commit[:7]}, hot path {path}")


def _commit() -> str:
    named = os.environ.get("UPGRADE_FROM", "")
    if named:
        return _git("rev-parse", "--verify", f"{named}^{{commit}}")
    for commit in _git("rev-list", "--first-parent", f"--max-count={COMMITS}", "HEAD").split():
        if subprocess.run(
            ["git", "diff", "--quiet", commit, "HEAD", "--", "gateway"], cwd=ROOT, check=False
        ).returncode:
            return commit
    return ""


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _same_hot_path(tree: Path) -> bool:
    """Whether what setup.py compiles, and what that is declared by, is the same there."""
    listed = runpy.run_path(str(ROOT / "setup.py"))
    sources = [Path("gateway", f"{module}.py") for module in (*listed["MODULES"], *listed["TWINS"])]
    declared = [path.relative_to(ROOT) for path in (ROOT / "gateway").rglob("*.p[yx][dx]")]
    return all(
        (tree / path).is_file() and (tree / path).read_bytes() == (ROOT / path).read_bytes()
        for path in [*sources, *declared, Path("setup.py")]
    )
