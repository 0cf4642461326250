"""Tokens of devices, and what ends them before their time."""

from __future__ import annotations

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.control.access_rules import AccessRules
from gateway.control.credentials import Issued
from gateway.control.devices import NewDevice
from gateway.control.plane import ControlPlane
from gateway.errors import InvalidChange, NotAllowed, NotFound, TokenError
from gateway.policy.principal import Principal
from gateway.policy.tokens import TokenVerifier
from tests.control.conftest import OPERATOR, Site


def admitted(site: Site, token: str) -> Principal:
    """As a node does with what was published last."""
    published = site.published[-1]
    return published.access.judge(TokenVerifier(published.keys).verify(token, site.clock.now), site.clock.now)


def refused(site: Site, token: str) -> str:
    with pytest.raises(TokenError) as error:
        admitted(site, token)
    return error.value.reason


async def issued(control: ControlPlane, device_id: str = "a") -> Issued:
    await control.devices.create(NewDevice(device_id, groups=["home"], labels={"floor": "1"}), by=OPERATOR)
    issued = await control.credentials.issue(device_id, by=OPERATOR)
    await asyncio.sleep(0)
    return issued


def pem_of(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


async def test_a_token_says_what_the_record_says(site: Site) -> None:
    control = await site.open()
    one = await issued(control)
    principal = admitted(site, one.token)
    assert (principal.subject, principal.groups, dict(principal.labels)) == ("a", ("home",), {"floor": "1"})
    assert principal.token_id == one.credential.token_id
    assert principal.expires_at == one.expires_at == int(site.clock.now) + 3600
    await control.devices.update("a", {"groups": ["garden"]}, by=OPERATOR)
    await asyncio.sleep(0)
    assert admitted(site, one.token).groups == ("garden",)


async def test_rotation_overlaps(site: Site) -> None:
    control = await site.open()
    first = await issued(control)
    second = await control.credentials.rotate("a", overlap_s=100, by=OPERATOR)
    await asyncio.sleep(0)
    admitted(site, first.token)
    admitted(site, second.token)
    assert len((await control.credentials.list("a", active=True)).items) == 2
    site.clock.now += 100
    assert refused(site, first.token) == "token_revoked"
    admitted(site, second.token)
    assert [c.id for c in (await control.credentials.list("a", active=True)).items] == [second.credential.id]
    # A second rotation gives nobody more time.
    site.clock.now -= 50
    await control.credentials.rotate("a", overlap_s=3000, by=OPERATOR)
    assert (await control.credentials.get(first.credential.id)).ends_at == site.clock.now + 50


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("by_what", ["credential", "token", "subject", "key", "deletion"])
async def test_what_is_revoked_stays_revoked(site: Site, by_what: str, restart: bool) -> None:
    """fault 60: by subject, key and token id; fault 61"""
    control = await site.open()
    one = await issued(control)
    other = await issued(control, "b")
    site.clock.now += 1
    if by_what == "credential":
        await control.credentials.revoke(one.credential.id, reason="lost", by=OPERATOR)
    elif by_what == "token":
        await control.revocations.revoke_token(one.credential.token_id, by=OPERATOR)
    elif by_what == "subject":
        await control.revocations.revoke_subject("a", by=OPERATOR)
    elif by_what == "key":
        await control.revocations.revoke_key(site.identity.kid, by=OPERATOR)
    else:
        await control.devices.delete("a", by=OPERATOR)
    await asyncio.sleep(0)
    if restart:
        await site.open()
    reason = "token_key_revoked" if by_what == "key" else "token_revoked"
    assert refused(site, one.token) == reason
    if by_what != "key":
        admitted(site, other.token)


async def test_after_a_revocation_a_new_token_is_good_at_once(site: Site) -> None:
    """Issued in the second of the revocation, and not under it."""
    control = await site.open()
    old = await issued(control)
    await control.revocations.revoke_subject("a", by=OPERATOR)
    new = await control.credentials.issue("a", by=OPERATOR)
    await asyncio.sleep(0)
    assert refused(site, old.token) == "token_revoked"
    admitted(site, new.token)
    assert (await control.devices.get("a")).not_before == site.clock.now


async def test_a_device_that_is_made_again_does_not_get_its_old_tokens_back(site: Site) -> None:
    """A tombstone outlives the device."""
    control = await site.open()
    old = await issued(control)
    site.clock.now += 1
    await control.devices.delete("a", by=OPERATOR)
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    await asyncio.sleep(0)
    assert refused(site, old.token) == "token_revoked"
    (revocation,) = (await control.revocations.list()).items
    with pytest.raises(InvalidChange):
        await control.revocations.lift(revocation.id, by=OPERATOR)


async def test_what_is_lifted_is_good_again(site: Site) -> None:
    control = await site.open()
    one = await issued(control)
    made = [
        await control.revocations.revoke_token(one.credential.token_id, by=OPERATOR),
        await control.revocations.revoke_key(site.identity.kid, by=OPERATOR),
        await control.revocations.revoke_subject("a", not_before=site.clock.now + 5, by=OPERATOR),
    ]
    for revocation in made:
        await asyncio.sleep(0)
        refused(site, one.token)
        await control.revocations.lift(revocation.id, by=OPERATOR)
    await asyncio.sleep(0)
    admitted(site, one.token)
    with pytest.raises(NotFound):
        await control.revocations.lift(made[0].id, by=OPERATOR)


async def test_a_revocation_is_forgotten_with_the_last_token_that_it_can_refuse(site: Site) -> None:
    control = await site.open(access=AccessRules(max_lifetime_s=1000, leeway_s=10, renewal_grace_s=100))
    await issued(control)
    await control.revocations.revoke_subject("a", by=OPERATOR)
    await control.revocations.revoke_token("t", by=OPERATOR)
    await control.revocations.revoke_key("k", by=OPERATOR)
    site.clock.now += 1109
    await control.revocations.prune()
    assert len((await control.revocations.list()).items) == 3
    site.clock.now += 2
    await control.revocations.prune()
    assert [revocation.kind for revocation in (await control.revocations.list()).items] == ["key"]
    await asyncio.sleep(0)
    access = site.published[-1].access
    assert (access.subjects, access.tokens) == ({}, {})


async def test_who_gets_no_token(control: ControlPlane) -> None:
    with pytest.raises(NotFound):
        await control.credentials.issue("nobody", by=OPERATOR)
    await control.devices.create(NewDevice("a", enabled=False), by=OPERATOR)
    with pytest.raises(NotAllowed):
        await control.credentials.issue("a", by=OPERATOR)
    await control.devices.enable("a", by=OPERATOR)
    for ttl in (0, 86_401, float("nan")):
        with pytest.raises(InvalidChange):
            await control.credentials.issue("a", ttl_s=ttl, by=OPERATOR)
    assert await control.credentials.list("a") == await control.credentials.list("nobody")


async def test_keys_of_devices(control: ControlPlane) -> None:
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    key = Ed25519PrivateKey.generate()
    credential = await control.credentials.add_key("a", pem_of(key), by=OPERATOR)
    assert (credential.type, len(credential.key_id)) == ("key", 16)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    rsa = generate_private_key(65537, 2048).public_key()
    for wrong in ("", "x", private, rsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()):
        with pytest.raises(InvalidChange):
            await control.credentials.add_key("a", wrong, by=OPERATOR)
    for _ in range(7):
        await control.credentials.add_key("a", pem_of(Ed25519PrivateKey.generate()), by=OPERATOR)
    with pytest.raises(InvalidChange, match="at most 8"):
        await control.credentials.add_key("a", pem_of(Ed25519PrivateKey.generate()), by=OPERATOR)
    await control.credentials.revoke(credential.id, by=OPERATOR)
    await control.credentials.add_key("a", pem_of(Ed25519PrivateKey.generate()), by=OPERATOR)


async def test_an_overlap_that_ends_is_published(site: Site) -> None:
    """Nothing changes on disk then, and connections must hear of it (fault 61)."""
    control = await site.open()
    await issued(control)
    await control.credentials.rotate("a", overlap_s=0.2, by=OPERATOR)
    await asyncio.sleep(0)
    published = len(site.published)
    site.clock.now += 0.25
    async with asyncio.timeout(30):
        while len(site.published) == published:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert site.published[-1].subjects == {"a"}
