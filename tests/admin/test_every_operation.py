"""Every operation of the admin API, done: a role gets a 2xx for what it may, 403 for the rest, 404 for nobody.

`tests/admin/test_access.py` asks with empty requests; here each request is one that works, on an object made for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.roles import Role
from tests.admin.api import PASSWORD, problem
from tests.admin.place import ASKS_ANYBODY, ENDING, NOBODY, OPERATIONS, ask, filled, noun_of, place_in


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_can_do_what_it_may_and_nothing_else(tmp_path: Path, role: Role) -> None:
    """Fault 98: 2xx where the description names the role, else 403, whether the object is there or not."""
    done = 0
    async with place_in(tmp_path / "data") as place, await place.api.user(role) as somebody:
        api = place.api
        for method, path, description in OPERATIONS:
            operation = description["operationId"]
            if "x-open" in description or operation in ENDING:
                continue
            there, more = await place.working(operation, path)
            nobody = filled(path, NOBODY.get(noun_of(path), "nobody"))
            if role in description["x-roles"]:
                if nobody != path and operation not in ASKS_ANYBODY:
                    problem(await ask(somebody, method, nobody, more), 404, "not-found")
                answer = await ask(somebody, method, there, more)
                assert answer.is_success, (operation, answer.status_code, answer.text)
                assert str(answer.status_code) in description["responses"], operation
                done += 1
            else:
                for each in {there, nobody}:
                    problem(await ask(somebody, method, each, more), 403, "forbidden")
            if operation == "drain_node" and role in description["x-roles"]:
                # Whoever was connected has left.
                await api.send("POST", "/node/undrain")
                await api.local.servant()
        new = {"json": {"old_password": PASSWORD, "new_password": f"{PASSWORD}!"}}
        assert (await ask(somebody, "POST", "/api/v1/auth/password", new)).status_code == 200
        login = await api.send("POST", "/auth/login", json={"name": role.value, "password": f"{PASSWORD}!"})
        async with api.client(login["access_token"]) as leaving:
            assert (await ask(leaving, "POST", "/api/v1/auth/logout", {})).status_code == 204
    assert done == sum(role in d.get("x-roles", ()) and d["operationId"] not in ENDING for _, _, d in OPERATIONS) > 5
