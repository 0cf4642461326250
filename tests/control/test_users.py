"""People and programs that use the admin API: passwords, logins, keys, roles."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.control import attempts
from gateway.control.audit import Actor
from gateway.control.plane import Caller, ControlPlane
from gateway.control.roles import LOGIN_ONLY, SCOPES, Action, Role, permits
from gateway.control.sessions import ACCESS_S, IDLE_S, SESSION_S
from gateway.errors import AlreadyExists, InvalidChange, LoginRefused, NotAllowed, TooManyAttempts
from gateway.policy.principal import Kind
from gateway.policy.tokens import TokenVerifier
from tests.control.conftest import OPERATOR, Site

PASSWORD = "correct horse battery"
VISITOR = Actor("user", "", "192.0.2.1")


async def alice(control: ControlPlane, role: Role = Role.OPERATOR, scopes: tuple[str, ...] = ("devices",)) -> None:
    await control.users.create("alice", PASSWORD, role=role, scopes=scopes, by=OPERATOR)


async def test_the_first_user_has_a_generated_password_that_must_be_changed(site: Site) -> None:
    """fault 100: no default credential; printed once"""
    control = await site.open()
    password = await control.users.bootstrap()
    assert password is not None
    assert await control.users.bootstrap() is None
    tokens = await control.sessions.login("admin", password, by=VISITOR)
    caller = await control.authenticate(tokens.access)
    assert caller.must_change_password
    assert not any(caller.may(scope, action) for scope in SCOPES for action in Action)
    await control.users.change_password("admin", password, PASSWORD, by=caller.actor())
    with pytest.raises(LoginRefused):
        await control.authenticate(tokens.access)
    tokens = await control.sessions.login("admin", PASSWORD, by=VISITOR)
    assert (await control.authenticate(tokens.access)).may("users", Action.WRITE)
    # Two starts make two passwords.
    other = Site(site.data.parent / "other")
    assert await (await other.open()).users.bootstrap() != password
    await other.close()


async def test_what_cannot_be_a_user(control: ControlPlane) -> None:
    await alice(control)
    with pytest.raises(AlreadyExists):
        await alice(control)
    for name, password, scopes in (
        ("a b", PASSWORD, ()),
        ("bob", "short", ()),
        ("bob", "x" * 300, ()),
        ("bob", PASSWORD, ("everything",)),
        ("bob", PASSWORD, "devices"),
    ):
        with pytest.raises(InvalidChange):
            await control.users.create(name, password, role=Role.VIEWER, scopes=scopes, by=OPERATOR)
    with pytest.raises(InvalidChange):
        await control.users.create("bob", PASSWORD, role="root", scopes=(), by=OPERATOR)  # type: ignore[arg-type]


async def test_somebody_who_can_manage_users_stays(control: ControlPlane) -> None:
    password = await control.users.bootstrap()
    assert password
    for change in ({"role": "viewer"}, {"enabled": False}, {"scopes": ["devices"]}):
        with pytest.raises(InvalidChange):
            await control.users.update("admin", change, by=OPERATOR)
    with pytest.raises(InvalidChange):
        await control.users.delete("admin", by=OPERATOR)
    await control.users.create("bob", PASSWORD, role=Role.ADMIN, scopes=SCOPES, by=OPERATOR)
    await control.users.delete("admin", by=OPERATOR)


async def test_a_change_of_a_user_holds_for_its_next_request(control: ControlPlane) -> None:
    """fault 61: whatever its access token says"""
    await control.users.bootstrap()
    await alice(control)
    tokens = await control.sessions.login("alice", PASSWORD, by=VISITOR)
    assert (await control.authenticate(tokens.access)).may("devices", Action.OPERATE)
    await control.users.update("alice", {"role": "viewer"}, by=OPERATOR)
    assert not (await control.authenticate(tokens.access)).may("devices", Action.OPERATE)
    await control.users.update("alice", {"enabled": False}, by=OPERATOR)
    for attempt in (control.authenticate(tokens.access), control.sessions.refresh(tokens.refresh, by=VISITOR)):
        with pytest.raises(LoginRefused):
            await attempt
    await control.users.update("alice", {"enabled": True}, by=OPERATOR)
    await control.authenticate(tokens.access)
    await control.users.delete("alice", by=OPERATOR)
    with pytest.raises(LoginRefused):
        await control.authenticate(tokens.access)


async def test_a_session_lasts_and_ends(site: Site) -> None:
    control = await site.open()
    await alice(control)
    tokens = await control.sessions.login("alice", PASSWORD, by=VISITOR)
    control = await site.open()
    session = (await control.authenticate(tokens.access)).session_id
    site.clock.now += ACCESS_S + 1
    with pytest.raises(LoginRefused):
        await control.authenticate(tokens.access)
    began = site.clock.now
    while site.clock.now < began + SESSION_S - 2 * IDLE_S:
        site.clock.now += IDLE_S - 2 * ACCESS_S
        tokens = await control.sessions.refresh(tokens.refresh, by=VISITOR)
        assert (await control.authenticate(tokens.access)).session_id == session
    site.clock.now = tokens.refresh_expires_at
    with pytest.raises(LoginRefused):
        await control.sessions.refresh(tokens.refresh, by=VISITOR)
    await control.sessions.prune()
    assert (await control.sessions.list()).items == ()


async def test_a_refresh_token_that_comes_twice_ends_its_session(control: ControlPlane) -> None:
    """Either the one or the other who has it stole it."""
    await alice(control)
    first = await control.sessions.login("alice", PASSWORD, by=VISITOR)
    second = await control.sessions.refresh(first.refresh, by=VISITOR)
    with pytest.raises(LoginRefused):
        await control.sessions.refresh(first.refresh, by=VISITOR)
    for attempt in (control.authenticate(second.access), control.sessions.refresh(second.refresh, by=VISITOR)):
        with pytest.raises(LoginRefused):
            await attempt
    entry = (await control.audit.list(action="session.refresh", limit=1)).items[0]
    assert entry.diff["why"] == "refresh token used twice"


async def test_logout(control: ControlPlane) -> None:
    await alice(control)
    tokens = await control.sessions.login("alice", PASSWORD, by=VISITOR)
    other = await control.sessions.login("alice", PASSWORD, by=VISITOR)
    caller = await control.authenticate(tokens.access)
    assert caller.session_id is not None
    await control.sessions.logout(caller.session_id, by=caller.actor())
    await control.sessions.logout(caller.session_id, by=caller.actor())
    with pytest.raises(LoginRefused):
        await control.authenticate(tokens.access)
    await control.authenticate(other.access)
    await control.users.set_password("alice", "another password", by=OPERATOR)
    with pytest.raises(LoginRefused):
        await control.authenticate(other.access)


async def test_a_token_of_another_kind_opens_no_admin_api(site: Site) -> None:
    """fault 55: typ, both ways"""
    control = await site.open()
    await alice(control)
    device = site.identity.mint("alice", Kind.ADMIN, (), ("*",), 600, site.clock.now)
    with pytest.raises(LoginRefused):
        await control.authenticate(device)
    tokens = await control.sessions.login("alice", PASSWORD, by=VISITOR)
    with pytest.raises(Exception, match="not accepted"):
        TokenVerifier(site.identity.verification_keys()).verify(tokens.access, site.clock.now)


async def test_ten_failures_and_then_nothing_for_five_minutes(
    control: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fault 63: by name and by address; refusals are audited, and there is one text"""
    await alice(control)
    moment = [1000.0]
    control.attempts._monotonic = lambda: moment[0]  # its own clock, which nobody else has
    texts = set()
    for n in range(attempts.MAX_FAILURES):
        with pytest.raises(LoginRefused) as refused:
            await control.sessions.login("alice" if n % 2 else "nobody", "wrong password", by=VISITOR)
        texts.add(refused.value.text)
    assert len(texts) == 1
    with pytest.raises(TooManyAttempts) as banned:
        await control.sessions.login("alice", PASSWORD, by=VISITOR)
    assert 0 < banned.value.retry_after_s <= attempts.BAN_S
    with pytest.raises(TooManyAttempts):
        await control.authenticate("gk_x", VISITOR.ip)
    # From elsewhere she still gets in.
    await control.sessions.login("alice", PASSWORD, by=Actor("user", "", "192.0.2.2"))
    moment[0] += attempts.BAN_S
    await control.sessions.login("alice", PASSWORD, by=VISITOR)
    assert await control.audit.count(action="session.login", outcome="refused") == attempts.MAX_FAILURES
    for n in range(attempts.MAX_FAILURES):
        with pytest.raises(LoginRefused):
            await control.sessions.login("bob", "wrong password", by=Actor("user", "", f"198.51.100.{n}"))
    with pytest.raises(TooManyAttempts):
        await control.sessions.login("bob", "wrong password", by=Actor("user", "", "203.0.113.1"))


def test_failures_are_forgotten_and_bounded() -> None:
    moment = [0.0]
    guard = attempts.Attempts(lambda: moment[0])
    for n in range(attempts.MAX_KEPT * 2):
        guard.failed(f"ip:{n}")
    assert len(guard._failures) <= attempts.MAX_KEPT
    for _ in range(attempts.MAX_FAILURES * 2):
        guard.failed("ip:slow")
        moment[0] += attempts.WINDOW_S / (attempts.MAX_FAILURES - 1) + 0.1
    guard.check("ip:slow")


async def test_a_name_that_nobody_has_takes_as_long(control: ControlPlane) -> None:
    """fault 63: timing tells nobody who exists"""
    await alice(control)
    times: dict[str, list[float]] = {"alice": [], "nobody": []}
    await control.users.verify("nobody", PASSWORD)
    for _ in range(9):
        for name, spent in times.items():
            # Of the processor, and the least of several: what others do on the machine is in the way of neither.
            began = time.process_time()
            assert await control.users.verify(name, "wrong password") is None
            spent.append(time.process_time() - began)
    least = [min(spent) for spent in times.values()]
    assert max(least) < 2 * min(least)


async def test_passwords_do_not_block_the_loop(control: ControlPlane) -> None:
    """While they are checked, the loop turns; it would turn a few times for each if it had to wait for it."""
    await alice(control)
    turns = 0
    checks = asyncio.gather(*(control.users.verify("alice", "wrong password") for _ in range(10)))
    while not checks.done():
        await asyncio.sleep(0)
        turns += 1
    assert await checks == [None] * 10
    assert turns > 1000


# API keys


async def test_a_key_is_what_it_says(site: Site) -> None:
    control = await site.open()
    key, text = await control.api_keys.create("ci", role=Role.VIEWER, scopes=["devices"], by=OPERATOR)
    assert text.startswith(f"gk_{key.id}_")
    for _ in range(2):
        caller = await control.authenticate(text)
        assert caller == Caller("api_key", key.id, Role.VIEWER, frozenset({"devices"}))
        assert caller.may("devices", Action.READ)
        assert not caller.may("devices", Action.WRITE)
        assert not caller.may("connections", Action.READ)
        control = await site.open()
    assert (await control.api_keys.get(key.id)).last_used_at == site.clock.now


async def test_keys_make_no_keys_and_no_users(control: ControlPlane) -> None:
    for scope in LOGIN_ONLY:
        with pytest.raises(InvalidChange):
            await control.api_keys.create("ci", role=Role.ADMIN, scopes=[scope], by=OPERATOR)
    key, text = await control.api_keys.create("ci", role=Role.ADMIN, scopes=["devices"], by=OPERATOR)
    caller = await control.authenticate(text)
    assert not any(caller.may(scope, action) for scope in LOGIN_ONLY for action in Action)
    by = caller.actor()
    for attempt in (
        control.api_keys.create("more", role=Role.VIEWER, scopes=[], by=by),
        control.api_keys.update(key.id, {"role": "admin"}, by=by),
        control.api_keys.rotate(key.id, by=by),
        control.api_keys.delete(key.id, by=by),
    ):
        with pytest.raises(NotAllowed):
            await attempt
    with pytest.raises(InvalidChange):
        await control.api_keys.update(key.id, {"scopes": ["users"]}, by=OPERATOR)


async def test_a_key_that_is_rotated_disabled_expired_deleted(site: Site) -> None:
    control = await site.open()
    key, first = await control.api_keys.create("ci", role=Role.VIEWER, scopes=[], by=OPERATOR)
    _, second = await control.api_keys.rotate(key.id, overlap_s=60, by=OPERATOR)
    await control.authenticate(first)
    await control.authenticate(second)
    site.clock.now += 60
    with pytest.raises(LoginRefused):
        await control.authenticate(first)
    await control.authenticate(second)
    await control.api_keys.update(key.id, {"enabled": False}, by=OPERATOR)
    with pytest.raises(LoginRefused):
        await control.authenticate(second)
    await control.api_keys.update(key.id, {"enabled": True, "expires_at": site.clock.now + 5}, by=OPERATOR)
    await control.authenticate(second)
    site.clock.now += 5
    with pytest.raises(LoginRefused):
        await control.authenticate(second)
    await control.api_keys.update(key.id, {"expires_at": None}, by=OPERATOR)
    await control.authenticate(second)
    await control.api_keys.delete(key.id, by=OPERATOR)
    with pytest.raises(LoginRefused):
        await control.authenticate(second)


def test_roles_deny_by_default() -> None:
    for role in Role:
        assert not permits(role, (), "devices", Action.READ)
        assert not permits(role, SCOPES, "nothing", Action.READ)
    assert not permits(Role.OPERATOR, SCOPES, "devices", Action.WRITE)
    assert not permits(Role.OPERATOR, SCOPES, "audit", Action.READ)
    assert not permits(Role.PUBLISHER, SCOPES, "devices", Action.OPERATE)
    assert permits(Role.AUDITOR, SCOPES, "audit", Action.READ)
    assert not permits(Role.AUDITOR, SCOPES, "users", Action.READ)
    assert all(permits(Role.ADMIN, SCOPES, scope, action) for scope in SCOPES for action in Action)
