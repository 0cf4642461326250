"""Codes that log in once: whom, how long, how many."""

from __future__ import annotations

import pytest

from gateway.control.login_codes import LONGEST_S, MAX_KEPT, LoginCodes
from gateway.control.roles import Role
from gateway.control.users import User
from gateway.errors import InvalidChange, NotFound
from tests.control.conftest import Clock


def user(name: str, role: Role = Role.ADMIN, *, enabled: bool = True, created_at: float = 1.0) -> User:
    return User(name, role, (), enabled, True, created_at, created_at, None, 1)


def test_the_first_administrator_is_meant_unless_somebody_is_named() -> None:
    users = [user("late", created_at=2.0), user("first"), user("off", enabled=False, created_at=0.0)]
    users.append(user("looker", Role.VIEWER, created_at=0.5))
    codes = LoginCodes(lambda: users, Clock())
    assert codes.make(None)[1] == "first"
    assert codes.make("looker")[1] == "looker"
    with pytest.raises(InvalidChange):
        codes.make("off")
    with pytest.raises(NotFound):
        codes.make("nobody")
    with pytest.raises(InvalidChange):
        codes.make("first", LONGEST_S + 1)
    users.clear()
    with pytest.raises(NotFound):
        codes.make(None)


def test_a_code_holds_once_and_for_its_time() -> None:
    clock = Clock()
    codes = LoginCodes(lambda: [user("first")], clock)
    code, _, ends_at = codes.make(None, 60)
    assert ends_at == clock.now + 60
    assert codes.take(code[:-1] + ("A" if code[-1] != "A" else "B")) is None
    assert codes.take(code) == "first"
    assert codes.take(code) is None
    code, _, _ = codes.make(None, 60)
    clock.now += 60
    assert codes.take(code) is None
    assert codes.take("no code") is None


def test_the_oldest_goes_for_one_too_many() -> None:
    codes = LoginCodes(lambda: [user("first")], Clock())
    made = [codes.make(None)[0] for _ in range(MAX_KEPT + 1)]
    assert codes.take(made[0]) is None
    assert all(codes.take(code) == "first" for code in made[1:])
