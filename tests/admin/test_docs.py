"""docs/admin.md: its snippets run as printed, one after the other, against a real node."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from gateway.control.roles import Role
from tests.admin.api import TESTER, Api

PAGE = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()
PROGRAM = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
SCOPES = re.findall(r"--scope (\S+?)\)", PAGE)[0].split(",")
PRINTED = """\
api_key admin
404 /problems/not-found there is no device 'nobody'
201 True
True 1
['boiler']
200 412
event: node.reloaded
True 1 5.0
True device:boiler True
True 200
"""


async def test_every_snippet_runs(api: Api) -> None:
    """With the scopes that the page gives its key, and one for what an operator does to the node."""
    _, secret = await api.control.api_keys.create("ci", role=Role.ADMIN, scopes=SCOPES, by=TESTER)
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        PROGRAM,
        env={**os.environ, "GATEWAY_ADMIN": api.url, "GATEWAY_API_KEY": secret},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(program.communicate(), 60)
    assert program.returncode == 0, err.decode()
    assert out.decode() == PRINTED


@pytest.mark.parametrize("role", list(Role))
def test_every_role_is_explained(role: Role) -> None:
    assert f"| `{role}` |" in PAGE
