"""A file that says which users, devices, keys and issuers a node has: what it makes, and what it says of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.audit import Actor
from gateway.control.bootstrap import Bootstrap, Outcome
from gateway.control.plane import ControlPlane
from gateway.errors import ConfigError

BY = Actor("cli", "test")
GOOD = """\
[[users]]
name = "bob"
role = "viewer"
scopes = []
password_file = "bob.password"
enabled = false

[[users]]
name = "alice"
role = "admin"
scopes = ["devices", "users"]

[[devices]]
id = "kitchen"
profile = "thermostat"
groups = ["house"]
labels = { floor = "1" }
routes = ["telemetry.*"]

[[keys]]
name = "ci"
role = "viewer"
scopes = ["monitoring"]
expires_at = 2099-01-01T00:00:00Z

[[issuers]]
issuer = "https://idp.example.org"
kinds = ["device"]
services = ["fleet.*"]
[[issuers.keys.keys]]
kty = "OKP"
crv = "Ed25519"
kid = "one"
x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
"""
WRONG = """\
[[devices]]
id = "good"

[[devices]]
id = "no blanks"

[[users]]
name = "u"
role = "king"
scopes = []

[[keys]]
name = "k"
role = "viewer"
scopes = ["users"]

[[devices]]
id = "l"
[devices.labels]
x = ""
"""


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "bob.password").write_text("correct horse battery staple\n")
    path = tmp_path / "bootstrap.toml"
    path.write_text(GOOD)
    return path


async def applied(file: Path, data: Path, *, dry_run: bool = False) -> list[Outcome]:
    async with await ControlPlane.offline(data) as control:
        return await Bootstrap.read(file).apply(control, BY, dry_run=dry_run)


async def test_makes_what_it_says_and_does_so_once(file: Path, tmp_path: Path) -> None:
    """Generated secrets come out once; applied again, nothing changes."""
    data = tmp_path / "data"
    first = await applied(file, data)
    assert [(each.kind, each.name, each.result, bool(each.secret)) for each in first] == [
        ("users", "alice", "created", True),
        ("users", "bob", "created", False),
        ("devices", "kitchen", "created", False),
        ("keys", "ci", "created", True),
        ("issuers", "https://idp.example.org", "created", False),
    ]
    assert first[3].secret.startswith("gk_")
    again = await applied(file, data)
    assert {each.result for each in again} == {"unchanged"}
    assert not any(each.secret for each in again)
    async with await ControlPlane.offline(data) as control:
        assert not (await control.users.get("bob")).enabled
        device = await control.devices.get("kitchen")
        assert (device.profile, device.groups, device.labels) == ("thermostat", ("house",), {"floor": "1"})
        assert device.services == ("{sub}", "{sub}.*")
        (key,) = (await control.api_keys.list()).items
        assert key.expires_at == 4070908800.0
        (issuer,) = (await control.issuers.list()).items
        assert (issuer.services, list(issuer.key_ids)) == (("fleet.*",), ["one"])


async def test_changes_what_differs_and_leaves_the_rest(file: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    await applied(file, data)
    rewrite(file, '[[devices]]\nid = "kitchen"\nprofile = "lamp"\n[[devices]]\nid = "hall"\n')
    outcomes = await applied(file, data)
    assert [(each.name, each.result) for each in outcomes] == [("kitchen", "updated"), ("hall", "created")]
    async with await ControlPlane.offline(data) as control:
        device = await control.devices.get("kitchen")
        assert (device.profile, device.groups) == ("lamp", ("house",))
        assert (await control.users.get("alice")).enabled


async def test_somebody_must_be_able_to_log_in(file: Path, tmp_path: Path) -> None:
    """With users in the file the node makes no administrator of its own, so the file must."""
    rewrite(file, '[[users]]\nname = "u"\nrole = "viewer"\nscopes = []\n')
    with pytest.raises(ConfigError, match=r"bootstrap\.toml:1: users: one of them needs role"):
        await applied(file, tmp_path / "data")
    rewrite(file, GOOD)
    await applied(file, tmp_path / "data")
    rewrite(file, '[[users]]\nname = "u"\nrole = "viewer"\nscopes = []\n')
    assert [each.result for each in await applied(file, tmp_path / "data")] == ["created"]


async def test_dry_run_leaves_nothing(file: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    outcomes = await applied(file, data, dry_run=True)
    assert {each.result for each in outcomes} == {"created"}
    assert not any(each.secret for each in outcomes)
    async with await ControlPlane.offline(data) as control:
        assert not (await control.devices.list()).items
        assert not (await control.users.list()).items


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("[[device]]\nid = 'a'\n", ["1: device is not a section; did you mean devices?"]),
        ("[[devices]]\nid = 'a'\nlabel = {}\n", ["3: devices: label is not a field; did you mean labels?"]),
        ("[[devices]]\nid = 'a'\n\n[[devices]]\nid = 'a'\n", ["5: devices: a is there twice"]),
        ("[[users]]\nrole = 'admin'\n", ["1: users: name is missing"]),
        ("devices = 1\n", ["1: devices is a list of tables: [[devices]]"]),
        (
            "[[users]]\nname = 'a'\npasswd = 'x'\n[[keys]]\nnme = 'k'\n",
            [
                "3: users: passwd is not a field; did you mean password?",
                "4: keys: name is missing",
                "5: keys: nme is not a field; did you mean name?",
            ],
        ),
    ],
)
def test_names_every_mistake_with_its_line(file: Path, text: str, mistakes: list[str]) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Bootstrap.read(file)
    assert caught.value.text.splitlines() == [f"{file}:{mistake}" for mistake in mistakes]


@pytest.mark.parametrize("text", ["[[devices]\n", "[[devices]]\nid = \n", "\xff"])
def test_what_is_no_toml(file: Path, text: str) -> None:
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=str(file)):
        Bootstrap.read(file)


async def test_values_that_cannot_be_are_found_before_anything_is_written(file: Path, tmp_path: Path) -> None:
    """All of them at once, each with its line; the entries that are right are not made either."""
    rewrite(file, WRONG)
    with pytest.raises(ConfigError) as caught:
        await applied(file, tmp_path / "data")
    lines = [line.removeprefix(f"{file}:").partition(": ")[0::2] for line in caught.value.text.splitlines()]
    assert [(number, text.partition(": ")[0]) for number, text in lines] == [
        ("9", "users.u.role"),
        ("5", "devices.no blanks.id"),
        ("19", "devices.l.labels"),
        ("15", "keys.k.scopes"),
    ]
    async with await ControlPlane.offline(tmp_path / "data") as control:
        assert not (await control.devices.list()).items


def test_a_password_file_that_is_not_there(file: Path, tmp_path: Path) -> None:
    (tmp_path / "bob.password").unlink()
    with pytest.raises(ConfigError, match=r"bob\.password cannot be read"):
        Bootstrap.read(file)
